"""Files and requests of `histill plan`'s table are those that the store and a bucket have; the page's table is its."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from imports import ROOT
from made.bucket import Proxy

from pipeline.base.errors import ParamsError
from pipeline.base.store import Ref, Store
from pipeline.machine.plan.elsewhere import Line, Rates, Size, lines, rates_of, uni
from pipeline.machine.plan.printed import rows
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.params.whole import WholeParams
from pipeline.remote.bucket import Bucket
from pipeline.remote.moves import push
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.tiles.stage import make_tiles
from pipeline.tokens.stage import make_tokens

HERE = ClusterParams(workers=1)


@pytest.fixture(scope="module")
def items(tiny_params: TokensParams, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Store, Ref]]:
    """A slide's tiles and tokens, as the stages make them."""
    folder = tmp_path_factory.mktemp("slide")
    (folder / "slides.csv").write_text("path,split\ndemo:1,train\n")
    store, slides = Store(folder / "store"), SlidesParams(table=str(folder / "slides.csv"), demo_px=1024)
    here = sources(Path(slides.table), store, slides)
    tiles = make_tiles(
        catalogue(slides, store, HERE), here, TilesParams(tile_px=128, max_tiles_per_slide=9), store, HERE
    )
    tokens = make_tokens(tiles, tiny_params, store, slides.demo_px)
    return [(store, Ref.of(tiles, tiles.items[0])), (store, Ref.of(tokens, tokens.items[0]))]


def line(what: str) -> Line:
    """Of one slide whose files are as small as those of the items."""
    small = {"slides": 1, "tiles": 9, "train_tiles": 9, "views": 1, "answers": 9, "passes": 9, "block_rows": 32}
    (found,) = (one for one in lines(Size(**small, tiles_nbytes=90, tokens_nbytes=90), Rates()) if one.what == what)
    return found


def test_files_are_those_of_the_items(items: list[tuple[Store, Ref]]) -> None:
    for store, ref in items:
        folder = store.path(ref)
        assert line(ref.kind).files == 1 + sum(1 for _ in folder.rglob("*")), sorted(folder.rglob("*"))


def test_requests_are_those_that_a_bucket_gets(items: list[tuple[Store, Ref]], proxy: Proxy, tmp_path: Path) -> None:
    import s3fs

    s3fs.S3FileSystem().mkdir("counted")
    bucket = Bucket.at("s3://counted/for/plan")
    proxy.seen.clear()
    for store, ref in items:
        assert not push(store, bucket, [ref]).failed
    puts = proxy.times_seen("^PUT") + proxy.times_seen("list-type")
    gets = proxy.times_seen("^HEAD") + proxy.times_seen("^GET") - proxy.times_seen("list-type")
    sent = line("send to a bucket")
    # And of the two recipes each once: sent, read back, and what it has listed twice (a request for 1,000 items).
    assert (puts, gets) == ((sent.puts or 0) + 2 * (1 + 2), (sent.gets or 0) + 2)
    proxy.seen.clear()
    there = Store(tmp_path, remote=Bucket.at("s3://counted/for/plan"))
    for _, ref in items:
        assert there.path(ref).is_dir()
    once = proxy.times_seen("recipe.json|list-type")
    assert proxy.times_seen("^GET") - once == line("fetch all").gets and not proxy.times_seen("^PUT")


def test_large_files_are_counted_in_the_parts_that_they_go_in() -> None:
    params = WholeParams()
    one = {each.what: each for each in lines(uni(1, 5000, params), Rates())}
    # 5,000 tiles are 1.02 GB of tokens, in two shards of 508 MB, and 100 MB of JPEG in 12 chunks.
    assert one["tokens"].files == 10 + 6 + 3 * 2 and one["tiles"].files == 9 + 5 + 12
    assert one["read an epoch there"].gets == 4 * 4000 // 32
    ten = {each.what: each for each in lines(uni(10, 5000, params), Rates(gpu_hour=6.0))}
    assert ten["tokens"].usd == pytest.approx(20 * (one["tokens"].usd or 0))
    assert ten["send to a bucket"].puts == 10 * (one["send to a bucket"].puts or 0)


def test_rates_are_told_by_name() -> None:
    assert rates_of(["gpu_hour=1.5", "gb_out=0"]) == Rates(gpu_hour=1.5, gb_out=0)
    with pytest.raises(ParamsError, match=r"no rate 'gpu_our'\n.*gpu_hour"):
        rates_of(["gpu_our=2"])
    with pytest.raises(ParamsError, match="--rate"):
        rates_of(["gpu_hour=cheap"])


@pytest.mark.parametrize(("slides", "head"), [(4, "20,000"), (200, "1 million"), (4000, "20 million")])
def test_the_pages_table_is_what_the_code_says(slides: int, head: str) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    table = re.search(rf"\*\*{head} tiles.*?\n\n(\|.*?)\n\n", page, re.DOTALL)
    assert table, head
    expected = rows(lines(uni(slides, 5000, WholeParams()), Rates()))
    shown = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[1].splitlines()]
    assert shown[2:] == [[cell.strip() for cell in row] for row in expected]
