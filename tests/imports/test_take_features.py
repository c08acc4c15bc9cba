"""Imported features become the CLS tokens of just the tiles that they are of, after the teacher was asked about some.

The teacher is a tiny ViT with random weights; its features are made here by timm and Pillow alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch
from made.feature_jobs import SLIDE_PX, trident
from made.slides import make_slide, tissue_picture
from made.teacher import TINY
from safetensors.torch import load_file

from pipeline.base.errors import SlideRefused, TeacherError
from pipeline.base.items import SlidesManifest, TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store
from pipeline.corpus.corpus import open_corpus
from pipeline.evaluate.selection import splits
from pipeline.imports.filling import Asked, with_features
from pipeline.imports.stage import take_features
from pipeline.machine.trial import run, trial_of
from pipeline.params.site import ClusterParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.catalogue import catalogue
from pipeline.slides.sources import sources
from pipeline.slides.table import Row, format_table
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.stage import make_tiles
from pipeline.tokens.item.reader import TokenReader
from pipeline.tokens.recipe import one_view_key

SIDE, NAMES = 32, ("one", "two")
TEACHER = "vit_tiny_patch16_224"
CORNERS = np.array([(x, y) for y in range(160, 448, SIDE) for x in range(192, 448, SIDE)])[::-1].copy()
"""From the last to the first: rows are in no raster order."""


class Lab:
    """Two slides, features of them in TRIDENT's form, and what a project would do with them."""

    def __init__(self, root: Path, weights: Path) -> None:
        self.root, self.store = root, Store(root / "store")
        self.params = TokensParams(
            teacher=TEACHER,
            weights=str(weights),
            model_kwargs=TINY,
            precision="fp32",
            imported={"check_tiles": 16, "check_each": 0},
        )
        model = timm.create_model(TEACHER, num_classes=0, **TINY).eval()
        model.load_state_dict(load_file(weights))
        self.values, self.model = {}, model
        for i, name in enumerate(NAMES):
            picture = tissue_picture(SLIDE_PX, SLIDE_PX, seed=i)
            make_slide(root / f"{name}.tif", picture, kind="plain")
            self.values[name] = self.answered(picture)
            trident(root / "job", name, self.values[name], CORNERS, SIDE, encoder="tiny")
        self.table = root / "slides.csv"
        self.take(*NAMES)

    def answered(self, picture: np.ndarray) -> np.ndarray:
        """By timm and Pillow alone."""
        crops = np.stack([picture[y : y + SIDE, x : x + SIDE] for x, y in CORNERS])
        mean, std = (torch.tensor(getattr(timm.data, f"IMAGENET_INCEPTION_{n}")) for n in ("MEAN", "STD"))
        image_NCHW = ((torch.from_numpy(crops) / 255 - mean) / std).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return self.model.forward_features(image_NCHW)[:, 0].numpy()

    def take(self, *names: str) -> None:
        """Fill the table's rows of these slides."""
        splits = {"two": "test"}
        rows = [Row(i, f"{n}.tif", n, split=splits.get(n, "train")) for i, n in enumerate(names, start=2)]
        asked = Asked(TEACHER, self.root / "tilings", self.root)
        self.rows = with_features(rows, self.root / "job", asked, lambda row: (0.5, 0.5)).rows

    def file(self, name: str) -> Path:
        return self.root / "job" / f"20x_{SIDE}px_0px_overlap" / "features_tiny" / f"{name}.h5"

    def tiles(self, most: int | None = None) -> TilesManifest:
        self.table.write_text(format_table(self.rows))
        slides: SlidesManifest = catalogue(SlidesParams(table=str(self.table)), self.store, ClusterParams(workers=1))
        params = TilesParams(tile_px=SIDE, max_tiles_per_slide=most, jpeg_quality=100)
        here = sources(self.table, self.store, SlidesParams())
        return make_tiles(slides, here, params, self.store, ClusterParams(workers=1))

    def tokens(self, tiles: TilesManifest, **wanted: object) -> TokensManifest:
        here = sources(self.table, self.store, SlidesParams())
        paths = {name: source.features for name, source in here.items() if source.features is not None}
        return take_features(tiles, paths, self.params.model_copy(update=wanted), self.store, 512, ClusterParams())


@pytest.fixture
def lab(tmp_path: Path, tiny_weights: Path) -> Lab:
    return Lab(tmp_path, tiny_weights)


def cls_of(lab: Lab, tokens: TokensManifest, name: str) -> np.ndarray:
    reader = TokenReader(lab.store.path(Ref.of(tokens, tokens.item(name))))
    return reader.cls(range(len(reader)))[:, 0]


def test_each_tile_gets_its_own_row_under_a_recipe_that_says_where_it_is_from(lab: Lab) -> None:
    tiles = lab.tiles()
    tokens = lab.tokens(tiles)
    for name in NAMES:
        reader = TileReader(lab.store.path(Ref.of(tiles, tiles.item(name))))
        assert np.array_equal(reader.places, CORNERS)
        assert np.array_equal(cls_of(lab, tokens, name), lab.values[name].astype(np.float16))
        told = json.loads((lab.store.path(Ref.of(tokens, tokens.item(name))) / "zarr.json").read_bytes())["attributes"]
        assert told["imported"]["file_sha256"] == tiles.item(name).features
    assert tokens.recipe["imported"] == {"tool": "TRIDENT", "encoder": "tiny", "dtype": "float32", "of_width": 24}
    # What is computed of these tiles lies elsewhere.
    assert one_view_key(tokens) != tokens.recipe_key
    imported = tokens.summary.imported
    assert imported is not None and imported.checked_tiles == 16 and imported.mean_cosine > 0.98
    again = lab.tokens(tiles)
    assert again == tokens and {ref.recipe for ref in lab.store.refs() if ref.kind == "tokens"} == {tokens.recipe_key}


def test_a_trial_of_the_cluster_takes_them_and_asks_no_teacher(lab: Lab) -> None:
    lab.table.write_text(format_table(lab.rows))
    # UNI's weights are not there: whoever asks it fails.
    tokens = TokensParams(teacher="uni", weights="gone.safetensors", imported={"check_tiles": 0})
    here, tiles = ClusterParams(workers=1), TilesParams(tile_px=SIDE)
    with trial_of(SlidesParams(table=str(lab.table)), tiles, tokens, lab.store, "one") as trial:
        tried = list(run(trial, here))
    assert [one.stage for one in tried] == ["slides", "tiles", "tokens"]
    assert "24 channels" in tried[-1].wrong and "UNI" not in tried[-1].wrong


def test_rows_follow_tiles_that_are_left_out(lab: Lab) -> None:
    tiles = lab.tiles(most=10)
    tokens = lab.tokens(tiles)
    reader = TileReader(lab.store.path(Ref.of(tiles, tiles.item("one"))))
    row_of = {tuple(corner): row for row, corner in enumerate(CORNERS.tolist())}
    rows = [row_of[tuple(corner)] for corner in reader.places.tolist()]
    assert len(rows) == 10 and np.array_equal(cls_of(lab, tokens, "one"), lab.values["one"][rows].astype(np.float16))


def _too_large(values: np.ndarray) -> np.ndarray:
    values[5, 3] = 70000
    return values


def _nan(values: np.ndarray) -> np.ndarray:
    values[5, 3] = np.nan
    return values


def _unwritten(values: np.ndarray) -> np.ndarray:
    values[7:9] = 0
    return values


def _one_for_all(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:1], len(values), 0)


def _narrow(values: np.ndarray) -> np.ndarray:
    return values[:, :16]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_too_large, r"a value of row 5 is 70000, beyond float16"),
        (_nan, r"a value of row 5 is nan"),
        (_unwritten, r"2 rows .* are zeros in float16, the first of them row 7"),
        (_one_for_all, r"all \d+ rows .* are the same"),
        (_narrow, r"another making than the run's: TRIDENT, tiny, 16 channels"),
    ],
    ids=["fp16", "nan", "zeros", "same", "width"],
)
def test_features_that_cannot_be_kept_refuse_their_slide_alone(
    lab: Lab, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    trident(lab.root / "job", "two", change(lab.values["two"].copy()), CORNERS, SIDE, encoder="tiny")
    tokens = lab.tokens(lab.tiles())
    (refused,) = tokens.refused
    assert refused.id == "two" and [item.id for item in tokens.items] == ["one"]
    with pytest.raises(SlideRefused, match=said):
        raise SlideRefused(refused.reason)
    with pytest.raises(SlideRefused, match=said):
        lab.tokens(lab.tiles(), on_error="fail")


def _moved(file: h5py.File) -> None:
    file["coords"][7] += 64


def _wider(file: h5py.File) -> None:
    file["coords"].attrs.update({"patch_size_level0": 64.0, "patch_size": 64, "overlap": 32})


def _fewer(file: h5py.File) -> None:
    for name in ("features", "coords"):
        file[name].resize(len(CORNERS) - 1, axis=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_moved, "row 7 is 64 px away"),
        (_wider, "are of tiles 64 px wide, and its tiles are 32 px wide"),
        (_fewer, f"have {len(CORNERS) - 1} rows, and its tiling has {len(CORNERS)}"),
    ],
    ids=["places", "side", "rows"],
)
def test_features_that_are_not_of_the_tiling_refuse_their_slide(lab: Lab, change, said: str) -> None:
    with h5py.File(lab.file("two"), "r+") as file:
        change(file)
    (refused,) = lab.tokens(lab.tiles()).refused
    assert refused.id == "two" and said in refused.reason and refused.fix


def test_a_slide_without_features_is_refused_beside_those_that_have_them(lab: Lab) -> None:
    lab.rows = [lab.rows[0], Row(3, "two.tif", "two", split="test", coords=lab.rows[1].coords)]
    (refused,) = lab.tokens(lab.tiles()).refused
    assert refused.id == "two" and "it has no features" in refused.reason


def test_a_file_that_changed_since_it_was_looked_at_is_looked_at_again(lab: Lab) -> None:
    tiles = lab.tiles()
    trident(lab.root / "job", "two", lab.values["one"], CORNERS, SIDE, encoder="tiny")
    (refused,) = lab.tokens(tiles).refused
    assert refused.passing and "have changed since the slides stage" in refused.reason


def test_what_the_teacher_would_not_have_answered_is_refused_unless_told_otherwise(lab: Lab, capfd) -> None:
    for name in NAMES:
        trident(lab.root / "job", name, lab.values[name][::-1], CORNERS, SIDE, encoder="tiny")
    tiles = lab.tiles()
    with pytest.raises(TeacherError, match=r"(?s)are not its answers.*slide +tiles.*one.*all.*tokens\.imported\.below"):
        lab.tokens(tiles)
    assert not [ref for ref in lab.store.refs() if ref.kind == "tokens"]
    kept = lab.tokens(tiles, imported=imported_params(below="keep"))
    assert kept.summary.imported.mean_cosine < 0.9 and len(kept.items) == 2
    # The table is kept, and asked of again.
    with pytest.raises(TeacherError, match="are not its answers"):
        lab.tokens(tiles)


def imported_params(**wanted: object) -> object:
    return TokensParams(imported={"check_tiles": 16, "check_each": 0, **wanted}).imported


def test_without_the_teachers_weights_they_are_taken_and_not_verified(lab: Lab, capfd) -> None:
    values = np.random.default_rng(0).normal(size=(len(CORNERS), 768)).astype(np.float32)
    for name in NAMES:
        trident(lab.root / "job", name, values, CORNERS, SIDE, encoder="h0mini")
        lab.file(name).unlink()
    asked = Asked("h0-mini", lab.root / "tilings", lab.root)
    lab.rows = with_features(lab.rows, lab.root / "job", asked, lambda row: (0.5, 0.5)).rows
    tokens = lab.tokens(lab.tiles(), teacher="h0-mini", weights="nowhere.safetensors", model_kwargs={})
    imported = tokens.summary.imported
    assert (
        imported.mean_cosine is None
        and imported.why
        and (tokens.teacher.name, tokens.teacher.width) == ("h0-mini", 768)
    )
    assert "not verified" in capfd.readouterr().err
    assert np.array_equal(cls_of(lab, tokens, "two"), values.astype(np.float16))

    # As many channels as another teacher has say nothing of whose they are; their name does.
    for name in NAMES:
        with h5py.File(lab.root / Path(lab.rows[NAMES.index(name)].features), "r+") as file:
            file["features"].attrs["encoder"] = "conch_v15"
    refused = lab.tokens(lab.tiles(), teacher="h0-mini", weights="nowhere.safetensors", model_kwargs={}).refused
    assert [one.id for one in refused] == list(NAMES) and "another encoder than h0-mini" in refused[0].reason


def test_a_student_and_its_evaluation_find_the_tiles_of_imported_features(lab: Lab) -> None:
    tiles = lab.tiles()
    tokens = lab.tokens(tiles)
    corpus = open_corpus(tiles, tokens, lab.store)
    assert corpus.total == len(CORNERS) and not corpus.dense
    (held,) = splits(tiles, tokens, lab.store)["test"]
    assert np.array_equal(TileReader(held.tiles).places, CORNERS) and held.tokens.name == tokens.item("two").key


def test_one_slide_among_others_that_is_not_the_teachers_is_refused_by_itself_and_so_is_one_that_comes_later(
    lab: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = imported_params(check_tiles=2, check_each=8)
    for i, name in enumerate(("three", "four")):
        picture = tissue_picture(SLIDE_PX, SLIDE_PX, seed=7 + i)
        make_slide(lab.root / f"{name}.tif", picture, kind="plain")
        lab.values[name] = lab.answered(picture)
        trident(lab.root / "job", name, lab.values[name], CORNERS, SIDE, encoder="tiny")
    # The features of another tile each.
    trident(lab.root / "job", "three", lab.values["three"][::-1].copy(), CORNERS, SIDE, encoder="tiny")
    lab.take("one", "two", "three")
    first = lab.tokens(lab.tiles(), imported=wanted)
    assert [one.id for one in first.refused] == ["three"] and len(first.items) == 2
    assert "not the teacher's answers" in first.refused[0].reason and "over 8 tiles" in first.refused[0].reason
    assert first.summary.imported.checked_tiles == 18 and first.summary.imported.mean_cosine > 0.98

    lab.take("one", "two", "three", "four")
    capfd.readouterr()
    second = lab.tokens(lab.tiles(), imported=wanted)
    told = capfd.readouterr().err
    assert [one.id for one in second.refused] == ["three"] and len(second.items) == 3
    assert second.summary.imported.checked_tiles >= 26 and len(second.uses) == 2
    assert "four" in told and "\none " not in told, "only what came is compared"

    trident(lab.root / "job", "four", lab.values["four"][::-1].copy(), CORNERS, SIDE, encoder="tiny")
    with pytest.raises(TeacherError, match=r"(?s)are not its answers.*four.*three"):
        lab.tokens(lab.tiles(), imported=wanted)
    assert len(lab.tokens(lab.tiles(), imported=imported_params(check_each=8, below="keep")).items) == 4
