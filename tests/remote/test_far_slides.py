"""Slides that the table names by URL: the same slide as the file here, fetched for a while, within a bound."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made.bucket import Fault, Proxy
from made.slides import make_slide, tissue_picture

from pipeline.base.errors import SlideUnavailable, TableError
from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.store import Ref, Store
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.remote import objects
from pipeline.remote.objects import Objects
from pipeline.slides import far
from pipeline.slides.catalogue import catalogue
from pipeline.slides.far import FOLDER, FarSlide
from pipeline.slides.scan import scan
from pipeline.slides.sources import sources
from pipeline.tiles.stage import make_tiles

ONE = ClusterParams(workers=1)
TILES = TilesParams(tile_px=64, target_mpp=0.5)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slide(tmp_path_factory.mktemp("slides") / "a.tif", tissue_picture(512, 512))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(far, "BLOCK", 1 << 14)


def both_stages(folder: Path, rows: Sequence[str], **params: Any) -> tuple[SlidesManifest, TilesManifest | None]:
    folder.mkdir(exist_ok=True)
    (folder / "slides.csv").write_text("path,slide_id,mpp\n" + "".join(f"{row}\n" for row in rows))
    told, store = SlidesParams(table=str(folder / "slides.csv"), **params), Store(folder / "store")
    slides = catalogue(told, store, ONE)
    return slides, make_tiles(slides, sources(folder / "slides.csv", store, told), TILES, store, ONE)


def test_a_slide_of_the_bucket_is_the_slide_here(slide: Path, tmp_path: Path, url: str, proxy: Proxy) -> None:
    Objects(url).put("a.tif", slide)
    proxy.seen.clear()
    there = both_stages(tmp_path / "there", [f"{url}/a.tif,,0.5"])
    assert there == both_stages(tmp_path / "here", [f"{slide},,0.5"])
    slides, tiles = there
    assert tiles is not None
    stores = [Store(tmp_path / name / "store") for name in ("here", "there")]
    assert stores[0].files(Ref.of(tiles, tiles.items[0])) == stores[1].files(Ref.of(tiles, tiles.items[0]))
    whole = [request for request in proxy.seen if "bytes=0-" in request]
    assert len(whole) == 1, "tiles fetched anew what slides had fetched"
    kept = [json.dumps(one.model_dump(mode="json")) for one in (slides, tiles)]
    assert not any("s3://" in text or str(tmp_path) in text for text in kept)


def test_a_cut_fetch_goes_on_at_its_byte(slide: Path, tmp_path: Path, url: str, proxy: Proxy) -> None:
    Objects(url).put("a.tif", slide)
    wanted = FarSlide.at(f"{url}/a.tif", tmp_path, 1 << 30)
    proxy.faults += [Fault("cut", "GET .*a.tif bytes=0-"), Fault("denied", "GET .*a.tif bytes=16384-", times=9)]
    with pytest.raises(SlideUnavailable, match="refuses"), wanted.leased():
        pass
    proxy.faults.clear()
    proxy.seen.clear()
    with wanted.leased() as path:
        assert path.read_bytes() == slide.read_bytes()
    assert proxy.times_seen("bytes=16384-") == 1 and not proxy.times_seen("bytes=0-")


def test_what_changed_meanwhile_is_fetched_anew(slide: Path, tmp_path: Path, url: str, proxy: Proxy) -> None:
    other = bytes(reversed(slide.read_bytes()))
    Objects(url).put("a.tif", slide)
    wanted = FarSlide.at(f"{url}/a.tif", tmp_path, 1 << 30)
    with wanted.leased() as path:
        assert path.read_bytes() == slide.read_bytes()
    Objects(url).write("a.tif", other)
    with wanted.leased() as path:
        assert path.read_bytes() == other


def test_half_a_fetch_of_what_changed_is_dropped(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    there = tmp_path / "bucket" / "a.tif"
    there.write_bytes(slide.read_bytes())
    wanted = FarSlide.at(f"file://{there}", tmp_path, 1 << 30)
    with wanted.leased() as path:
        pass
    path.rename(path.with_name("a.tif.part"))
    path.with_name("a.tif.part").write_bytes(b"of an earlier one")
    there.write_bytes(slide.read_bytes() + b"x")
    with wanted.leased() as path:
        assert path.read_bytes() == slide.read_bytes() + b"x"


@pytest.mark.parametrize("kind", ["missing", "denied", "truncated"])
def test_what_cannot_be_had_is_said_and_may_pass(
    kind: str, slide: Path, tmp_path: Path, url: str, proxy: Proxy
) -> None:
    if kind != "missing":
        Objects(url).put("a.tif", slide)
        proxy.faults.append(Fault("denied" if kind == "denied" else "truncated", "GET .*a.tif bytes", times=99))
    made, _ = both_stages(tmp_path / "x", [f"{url}/a.tif,,0.5", f"{slide},here,0.5"])
    (refusal,) = made.refused
    assert [item.id for item in made.items] == ["here"] and refusal.id == "a" and refusal.passing and refusal.fix
    wanted = {"missing": "not in the bucket", "denied": "refuses", "truncated": "fewer bytes"}
    assert wanted[kind] in refusal.reason and "secret-of-the-tests" not in refusal.reason


@pytest.mark.parametrize(
    "path",
    ["s3://KEYKEY:SECRETSECRET@b/a.tif", "https://h/a.tif?X-Amz-Signature=SECRETSECRET", "s3://b/a.tif#SECRETSECRET"],
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(
    path: str, slide: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made, tiles = both_stages(tmp_path / "x", [f"{path},,0.5", f"{slide},here,0.5"])
    assert len(made.refused) == 1 and not made.refused[0].passing
    assert tiles is not None
    told = made.model_dump_json() + tiles.model_dump_json() + "".join(capfd.readouterr())
    assert "SECRETSECRET" not in told and "KEYKEY" not in told


@pytest.mark.parametrize("row", ["s3://b/a.mrxs,,", "s3://b/a.dcm,,"])
def test_slides_of_several_files_are_refused(row: str, slide: Path, tmp_path: Path) -> None:
    made, _ = both_stages(tmp_path / "x", [row, f"{slide},here,0.5"])
    assert "several files" in made.refused[0].reason and "copy" in made.refused[0].fix


def test_a_bucket_is_listed_and_nothing_of_it_is_read(slide: Path, url: str, proxy: Proxy) -> None:
    for name in ("b/a.tif", "c.svs"):
        Objects(url).put(name, slide)
    proxy.seen.clear()
    assert scan(Path(url)).startswith(f"path,slide_id,mpp,label,split,patient\n{url}/b/a.tif,a,,,,\n{url}/c.svs,c,")
    assert proxy.times_seen("^GET .*list-type") == len(proxy.seen)
    for wrong, said in ((f"{url}/none", "nothing here"), ("s3://K:SECRETSECRET@b/x", "keeps none")):
        with pytest.raises(TableError, match=said) as error:
            scan(Path(wrong))
        assert "SECRETSECRET" not in str(error.value)


def test_who_reads_a_slide_lets_others_read_it_too(slide: Path, tmp_path: Path) -> None:
    far = FarSlide.at(f"file://{slide}", tmp_path, 1 << 30)
    with far.leased() as one, far.leased() as two:
        assert one == two and one.read_bytes() == slide.read_bytes()


def test_slides_that_nobody_reads_make_room(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "_WAIT_S", 0.01)
    content = slide.read_bytes()
    for name in "abc":
        (tmp_path / f"{name}.tif").write_bytes(content)
    a, b, c = (FarSlide.at(f"file://{tmp_path}/{name}.tif", tmp_path, int(2.5 * len(content))) for name in "abc")

    def nbytes() -> int:
        return sum(path.stat().st_size for path in (tmp_path / FOLDER).rglob("*.tif*"))

    with a.leased() as kept:
        with b.leased():
            pass
        with c.leased():
            assert kept.is_file() and not b.file.exists() and nbytes() <= a.limit
            came = threading.Event()

            def wait() -> None:
                with b.leased():
                    came.set()

            waiting = threading.Thread(target=wait)
            waiting.start()
            assert not came.wait(0.2), "it took what is read"
        assert came.wait(600), "what is not read any more makes no room"
        waiting.join()
        assert kept.is_file() and not c.file.exists()
    alone = FarSlide.at(f"file://{tmp_path}/a.tif", tmp_path / "small", 10)
    with pytest.raises(SlideUnavailable, match="more than fetched slides may take"), alone.leased():
        pass


def test_masks_are_files_here(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text(f"path,mask,slide_id\n{slide},s3://b/m.png,x\n{slide},,y\n")
    made = catalogue(SlidesParams(table=str(tmp_path / "slides.csv")), Store(tmp_path / "store"), ONE)
    (refusal,) = made.refused
    assert refusal.id == "x" and "files here" in refusal.reason
