"""A whole small run on real code: painted tiles, a tiny ViT teacher from a file, a student trained for one epoch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from made.items import tiles_item
from PIL import Image
from safetensors.torch import save_file

from pipeline.base.items import StudentManifest, TilesManifest, TokensManifest
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.evaluate.stage import evaluate_student
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.upstream import Upstream
from pipeline.params.evaluate import DatasetParams, EvaluateParams
from pipeline.params.student import StudentParams
from pipeline.params.tokens import TokensParams
from pipeline.student.train import train_student
from pipeline.tiles.item.meta import Meta
from pipeline.tiles.item.writer import TileWriter
from pipeline.tiles.pixels import encode_jpeg
from pipeline.tokens.stage import make_tokens

SIDE_PX, TILES = 32, 24
RECIPE = {"tile_px": SIDE_PX, "jpeg_quality": 95}
CLASSES = {"fat": (240, 235, 240), "gland": (150, 80, 160), "stroma": (230, 150, 190)}
VIT = {"img_size": SIDE_PX, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
SLIDES = (("a", "train", "tumour"), ("b", "train", "normal"), ("c", "test", "tumour"), ("d", "test", "normal"))


class Made(NamedTuple):
    """What the stages upstream leave."""

    tiles: TilesManifest
    tokens: TokensManifest
    student: StudentManifest
    folder: Path
    teacher: TeacherSource
    store: Store

    def copied(self, root: Path) -> Made:
        """Store and student in a folder of their own, to be changed."""
        shutil.copytree(self.store.root, root / "store")
        shutil.copytree(self.folder, root / "models" / "student")
        return self._replace(store=Store(root / "store"), folder=root / "models" / "student")

    def evaluate(
        self, plots: Path, *datasets: DatasetParams, robustness_tiles: int = 0, **more: Any
    ) -> EvaluateManifest:
        small: dict[str, Any] = {"bootstrap": 100, "batch_size": 16, "episodes": 3, "mil_epochs": 2, **more}
        params = EvaluateParams(datasets=datasets, robustness_tiles=robustness_tiles, **small)
        upstream = Upstream(self.tiles, self.tokens, self.student, self.folder)
        return evaluate_student(upstream, params, self.teacher, self.store, plots)


def whys(summary: EvaluateSummary) -> dict[str, str]:
    """{what could not be had: why}."""
    return {gap.title: gap.why for gap in summary.gaps()}


def painted(name: str, seed: int) -> np.ndarray:
    """A tile of that class: its colour, with coarse and fine noise."""
    random = np.random.default_rng([seed, *name.encode()])
    coarse_HWC = np.kron(random.normal(0, 20, (8, 8, 1)), np.ones((4, 4, 1)))
    noise_HWC = random.normal(0, 10, (SIDE_PX, SIDE_PX, 3))
    return np.clip(np.array(CLASSES[name]) + coarse_HWC + noise_HWC, 0, 255).astype(np.uint8)


def folder_set(root: Path, splits: dict[str, int]) -> Path:
    """SPLIT/CLASS/i.png, `splits` images a class; every split has its own."""
    for i, (split, n) in enumerate(splits.items()):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
            for k in range(n):
                Image.fromarray(painted(name, 1000 * (i + 1) + k)).save(root / split / name / f"{k}.png")
    return root


def masks_set(root: Path, size: tuple[int, int] = (80, 70)) -> Path:
    """Left halves fat, right halves gland."""
    for split, n, seed in (("train", 6, 8000), ("test", 5, 9000)):
        for part in ("images", "masks"):
            (root / split / part).mkdir(parents=True)
        for i in range(n):
            fat, gland = (np.tile(painted(name, seed + i), (3, 3, 1)) for name in ("fat", "gland"))
            both = np.concatenate([fat[: size[1], : size[0] // 2], gland[: size[1], : size[0] // 2]], axis=1)
            Image.fromarray(both).save(root / split / "images" / f"{i}.png")
            mask = np.zeros(both.shape[:2], np.uint8)
            mask[:, size[0] // 2 :] = 255
            Image.fromarray(mask).save(root / split / "masks" / f"{i}.png")
    return root


def student_params() -> StudentParams:
    """Of the run's student."""
    return StudentParams(model="test_efficientnet", epochs=1, batch_size=16, input_px=SIDE_PX, workers=0)


def make(root: Path, *, tall: bool = False) -> Made:
    """The run; with `tall`, of tiles that are twice as high as wide, as a folder of images may hold."""
    store = Store(root / "store")
    items = []
    for n, (slide, split, label) in enumerate(SLIDES):
        ref = Ref("tiles", recipe_key(RECIPE), slide)
        with store.write(ref, RECIPE) as folder:
            writer = TileWriter(folder)
            for i in range(TILES):
                name = list(CLASSES)[i % len(CLASSES)]
                rgb_HWC = np.tile(painted(name, 100 * n + i), (1 + tall, 1, 1))
                writer.append(encode_jpeg(rgb_HWC, 95), label=name)
            writer.close(Meta(kind="file", tile_px=1))
        items.append(tiles_item(slide, TILES, split, label=label, digest=store.digest(ref)))
    tiles = TilesManifest(recipe_key=recipe_key(RECIPE), recipe=RECIPE, items=tuple(items))
    torch.manual_seed(0)
    weights = root / "teacher.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT).state_dict(), weights)
    params = TokensParams(
        teacher="vit_tiny_patch16_224", weights=str(weights), model_kwargs=VIT, calibration_tiles=16, precision="fp32"
    )
    tokens = make_tokens(tiles, params, store, 512)
    student, _ = train_student(
        tiles,
        tokens,
        student_params(),
        store,
        out=root / "models" / "student",
        curve=root / "training.csv",
    )
    return Made(tiles, tokens, student, root / "models" / "student", TeacherSource(params, 512), store)
