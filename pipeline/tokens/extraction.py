"""From tiles.json to tokens.json: the teacher answers every tile that the store has no answer for, once.

Shapes: N tiles, V views, T patch tokens, D channels; H = W = the teacher's input_px.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.epilogue import quantise, standardise
from pipeline.errors import CorruptItem, SlideRefused, TeacherError
from pipeline.manifest import Item, Manifest, Refusal
from pipeline.params import TokensParams
from pipeline.progress import Advance, track
from pipeline.store import Ref, Store, recipe_key
from pipeline.tiles.reader import TileReader
from pipeline.tokens import calibration as calibrations
from pipeline.tokens.batches import DECODE_THREADS, decoded, split
from pipeline.tokens.calibration import Calibration
from pipeline.tokens.engines import Engine, build_engine, pick_device, resolve_precision
from pipeline.tokens.loading import load_teacher
from pipeline.tokens.plan import announce
from pipeline.tokens.teacher import Teacher
from pipeline.tokens.views import apply_views, source_px, stores_fields, view_fields, write_fields
from pipeline.tokens.writer import TokenWriter, rotation_block

RECIPE_VERSION = 2
"""Count up when the same parameters give other bytes."""
_FP16_MAX = 65504.0


def make_tokens(tiles: Manifest, params: TokensParams, store: Store, demo_px: int) -> Manifest:
    """The teacher's answers for every slide of tiles.json; only what the store lacks is computed.

    A killed run goes on at the chunk where it was. A slide whose tiles do not decode is refused, or with
    `on_error: fail` raises `SlideRefused`. Raises `TeacherError` where the teacher cannot be had or answers NaN, and
    `StoreFull` before anything is computed that would not fit.
    """
    teacher = load_teacher(params, store, demo_px)
    device = pick_device()
    recipe = tokens_recipe(tiles, teacher, params, resolve_precision(params.precision, device))
    key = recipe_key(recipe)
    calibration_ref = Ref("tokens", key, calibrations.ITEM)
    uses = [*teacher.uses, *([] if params.patch == "none" else [str(calibration_ref)])]
    todo = {item.key: item for item in tiles.items if not store.has(Ref("tokens", key, item.key))}
    errors: dict[str, SlideRefused] = {}
    if todo or not all(store.has(Ref.parse(name)) for name in uses):
        announce(tiles, todo.values(), key, teacher, params, store)
        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            run = _Run(tiles, recipe, teacher, build_engine(teacher, params, device), params, store, pool)
            frozen = None if params.patch == "none" else run.calibration(calibration_ref)
            with track("tokens", sum(item.n for item in todo.values()), "tiles") as advance:
                for item in sorted(todo.values(), key=lambda item: item.id):
                    try:
                        run.slide(item, frozen, advance)
                    except CorruptItem as error:
                        errors[item.key] = SlideRefused(error.what, where=item.id, fix=error.fix)
                        if params.on_error == "fail":
                            raise errors[item.key] from error
    return _manifest(tiles, recipe, teacher, params, store, errors, tuple(uses))


def tokens_recipe(tiles: Manifest, teacher: Teacher, params: TokensParams, precision: str) -> dict[str, Any]:
    """All that a slide's tokens depend on besides its tiles; `precision` is resolved, since its bytes differ."""
    return {
        "recipe_version": RECIPE_VERSION,
        "tiles": tiles.recipe_key,
        "teacher": teacher.describe() | {"model_kwargs": params.model_kwargs},
        "precision": precision,
        "patch": params.patch,
        "views": params.views,
        # Without patch tokens nothing is standardised.
        "calibration_tiles": None if params.patch == "none" else params.calibration_tiles,
    } | ({"augment": params.augment.model_dump(mode="json")} if stores_fields(params) else {})


@dataclass(frozen=True)
class _Run:
    """What one run of the stage holds while slides go by."""

    tiles: Manifest
    recipe: Mapping[str, Any]
    teacher: Teacher
    engine: Engine
    params: TokensParams
    store: Store
    pool: ThreadPoolExecutor

    @property
    def tile_px(self) -> int:
        """Side of the tiles, as the tiles stage was asked for it."""
        return int(self.tiles.recipe["tile_px"])

    def reader(self, item: Item) -> TileReader:
        """The item's tiles. Raises `MissingItem`."""
        ref = Ref("tiles", self.tiles.recipe_key, item.key)
        return TileReader(self.store.open(ref, remedy="dvc repro tiles"))

    def calibration(self, ref: Ref) -> Calibration:
        """The recipe's frozen calibration, measured first where the store has none."""
        if not self.store.has(ref):
            chosen = calibrations.choose(self.tiles.items, self.params.calibration_tiles)
            readers = {item.key: self.reader(item) for item, _ in chosen}
            places = [(readers[item.key], row) for item, row in chosen]
            step = self.params.batch_size
            batches = [places[i : i + step] for i in range(0, len(places), step)]
            images = decoded(batches, self.teacher.input_px, self.pool, skip_bad=True)
            with track("calibration", len(batches), "batches") as advance:
                answers = (self._patch_tokens(image_NHWC, advance) for image_NHWC in images)
                measured = calibrations.measure(answers, f"teacher {self.teacher.name}")
            calibrations.save(self.store, ref, self.recipe, measured)
        return calibrations.load(self.store.path(ref))

    def slide(self, item: Item, frozen: Calibration | None, advance: Advance) -> None:
        """Compute and commit one slide's tokens. Raises `CorruptItem` for a tile that does not decode."""
        ref, reader, teacher = Ref("tokens", recipe_key(self.recipe), item.key), self.reader(item), self.teacher
        shape = len(reader), self.params.n_views, teacher.grid, teacher.width
        with self.store.write(ref, self.recipe, resume=True) as folder:
            write_fields(folder, self.params, item.key, len(reader), self.tile_px)
            writer = TokenWriter(folder, *shape, frozen, self.params.patch)
            chunks = [(chunk, split(rows, self.params.batch_size)) for chunk, rows in writer.missing()]
            advance(len(reader) - sum(len(rows) for _, batches in chunks for rows in batches), item.id)
            places = ([(reader, row) for row in rows] for _, batches in chunks for rows in batches)
            images = decoded(places, source_px(self.params, self.tile_px, teacher.input_px), self.pool)
            for chunk, batches in chunks:
                answers = []
                for rows in batches:
                    where = f"{item.id}, rows {rows.start}-{rows.stop - 1}"
                    fields_NVP = view_fields(self.params, item.key, rows)
                    answers.append(self._answer(self._to_device(next(images)), fields_NVP, frozen, where))
                    advance(len(rows), item.id)
                writer.write(chunk, *_joined(answers))

    def _answer(
        self, image_NHWC: Tensor, fields_NVP: NDArray[np.float32], frozen: Calibration | None, where: str
    ) -> _Answer:
        """The teacher on every view of a batch, as it is stored."""
        cls, patch, scale = [], [], []
        for view in range(self.params.n_views):
            cls_ND, patch_NTD = self._tokens(apply_views(image_NHWC, fields_NVP[:, view], self.teacher.input_px))
            if not (torch.isfinite(patch_NTD).all() and (cls_ND.abs() <= _FP16_MAX).all()):
                what, fix = "the teacher answers NaN, inf or beyond float16", "try `tokens.precision: fp32`"
                raise TeacherError(f"{what} (view {view})", where=where, fix=fix)
            cls.append(cls_ND.half())
            if frozen is not None:
                mu_D, sigma_D = (torch.from_numpy(v).to(patch_NTD.device) for v in (frozen.mu, frozen.sigma))
                if self.params.patch == "int8":
                    q_NTD, scale_NT = quantise(patch_NTD, mu_D, sigma_D, rotation_block("int8", len(mu_D)))
                    patch.append(q_NTD)
                    scale.append(scale_NT)
                else:
                    z_NTD = standardise(patch_NTD, mu_D, sigma_D)
                    patch.append(z_NTD.clamp(-_FP16_MAX, _FP16_MAX).half())
        return _views(cls), _views(patch) if patch else None, _views(scale) if scale else None

    def _patch_tokens(self, image_NHWC: NDArray[np.uint8], advance: Advance) -> Tensor:
        advance()
        return self._tokens(self._to_device(image_NHWC))[1]

    @torch.inference_mode()
    def _tokens(self, image_NHWC: Tensor) -> tuple[Tensor, Tensor]:
        return self.teacher.finish(self.engine(image_NHWC))

    def _to_device(self, image_NHWC: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(image_NHWC).to(self.engine.device)


_Answer = tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]
"""cls (N, V, D), patch (N, V, T, D), scale (N, V, T)."""


def _views(views: list[Tensor]) -> NDArray[Any]:
    stacked: NDArray[Any] = torch.stack(views, 1).cpu().numpy()
    return stacked


def _joined(answers: list[_Answer]) -> _Answer:
    """The batches of a chunk, end to end."""
    cls, patch, scale = zip(*answers, strict=True)
    optional = [None if values[0] is None else np.concatenate(values) for values in (patch, scale)]
    return np.concatenate(cls), optional[0], optional[1]


def _manifest(
    tiles: Manifest,
    recipe: dict[str, Any],
    teacher: Teacher,
    params: TokensParams,
    store: Store,
    errors: Mapping[str, SlideRefused],
    uses: tuple[str, ...],
) -> Manifest:
    """tokens.json: what the store holds of tiles.json's slides; refusals before it are carried along."""
    key = recipe_key(recipe)
    kept = [item for item in tiles.items if item.key not in errors]
    items = tuple(
        Item(
            id=item.id,
            key=item.key,
            digest=store.digest(Ref("tokens", key, item.key)),
            n=item.n,
            info={name: item.info.get(name) for name in ("split", "label", "patient", "kind")},
        )
        for item in kept
    )
    refused = [Refusal.of(item.id, errors[item.key]) for item in tiles.items if item.key in errors]
    return Manifest(
        stage="tokens",
        recipe_key=key,
        recipe=recipe,
        items=items,
        refused=(*tiles.refused, *refused),
        summary={
            "slides": len(items),
            "tiles": sum(item.n for item in items),
            "views": params.n_views,
            "width": teacher.width,
            "tokens": teacher.tokens,
            "nbytes": sum(store.nbytes(Ref("tokens", key, item_key)) for item_key in {item.key for item in items}),
        },
        uses=uses,
    )
