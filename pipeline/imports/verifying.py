"""Are they what they claim? Some tiles are answered by the teacher itself, and compared with what was imported.

Published features have been found to differ from the model's own answers (mahmoodlab/UNI#57). Both are centred and
divided by each channel's deviation first, as the engines' gate has it: raw cosines are high whatever is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter

from pipeline.base.errors import SlideRefused, TeacherError
from pipeline.base.files import write_atomic
from pipeline.base.items import ImportedFacts, TilesItem
from pipeline.base.progress import console, track
from pipeline.base.store import Ref, Store
from pipeline.base.types import Frozen
from pipeline.imports.keeping import Taking, rows_of_tiles
from pipeline.params.tokens import ImportedParams
from pipeline.teachers.engines import Eager, pick_device
from pipeline.teachers.engines.gate import cosines
from pipeline.teachers.teacher import Teacher
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.calibration import spread

ITEM, FILE = "verified", "verified.json"
SHOWN = 20
USUAL = (
    "usually another input side (tokens.input_px), other interpolation or another crop before the encoder, tiles of "
    "another side (tiles.tile_px should be the patches'), tiles that the tool kept as JPEG, or fp16"
)


class Compared(Frozen):
    """Of one slide's tiles: how many were answered, the mean and the worst standardised cosine."""

    id: str
    tiles: int
    mean: float
    worst: float


_COMPARED = TypeAdapter(tuple[Compared, ...])


def verify(
    items: Sequence[TilesItem],
    paths: Mapping[str, Path],
    taking: Taking,
    teacher: Teacher,
    params: ImportedParams,
    store: Store,
) -> tuple[Compared, ...]:
    """The comparison of the recipe, made once and kept in the store as `verified`.

    Raises `TeacherError` with the table where the mean cosine is below the bound, unless `below` says to go on.
    """
    ref = Ref("tokens", taking.key, ITEM)
    if store.has(ref):
        found = _COMPARED.validate_json((store.path(ref) / FILE).read_bytes())
        _require(found, params, teacher.name)
        return found
    found = tuple(_compared(items, paths, taking, teacher, params.check_tiles, store))
    _require(found, params, teacher.name)
    console.print(f"tokens: the teacher's own answers beside the imported ones, standardised cosine\n{table(found)}")
    with store.write(ref, taking.recipe) as folder:
        write_atomic(folder / FILE, _COMPARED.dump_json(found, indent=1) + b"\n")
    return found


def facts(found: Sequence[Compared], taking: Taking, why: str) -> ImportedFacts:
    """What tokens.json says of where the answers come from; `why` they could not be verified, where nothing was."""
    origin, tiles = taking.origin, sum(one.tiles for one in found)
    if not tiles:
        return ImportedFacts(tool=origin.tool, encoder=origin.encoder, dtype=origin.dtype, why=why)
    return ImportedFacts(
        tool=origin.tool,
        encoder=origin.encoder,
        dtype=origin.dtype,
        checked_tiles=tiles,
        mean_cosine=round(_mean(found), 6),
        worst_cosine=min(one.worst for one in found),
    )


def table(found: Sequence[Compared]) -> str:
    """A line a slide, those of the lowest cosines first."""
    worst_first = sorted(found, key=lambda one: one.mean)[:SHOWN]
    lines = [f"{'slide':40}{'tiles':>7}{'mean':>10}{'worst':>10}"]
    lines += [f"{one.id[:40]:40}{one.tiles:7}{one.mean:10.4f}{one.worst:10.4f}" for one in worst_first]
    worst = min((one.worst for one in found), default=0.0)
    return "\n".join([*lines, f"{'all':40}{sum(one.tiles for one in found):7}{_mean(found):10.4f}{worst:10.4f}"])


def _compared(
    items: Sequence[TilesItem], paths: Mapping[str, Path], taking: Taking, teacher: Teacher, n: int, store: Store
) -> list[Compared]:
    """Slides whose features cannot be taken are left to whoever refuses them."""
    rows: dict[str, list[int]] = {}
    for item, row in spread(items, n):
        rows.setdefault(item.id, []).append(row)
    engine = Eager(teacher, pick_device(), "fp32")
    want, got, owners = list[torch.Tensor](), list[torch.Tensor](), list[str]()
    by_id = {item.id: item for item in items}
    with track("features", sum(map(len, rows.values())), "tiles") as advance:
        for slide_id, own in rows.items():
            item = by_id[slide_id]
            reader = TileReader(store.path(Ref.of(taking.tiles, item)))
            try:
                embedding_ND = rows_of_tiles(item, paths[slide_id], taking, reader)
            except SlideRefused:
                continue
            for row in own:
                image_HWC = reader.image(row, teacher.input_px, teacher.preparation.resample)
                image_1HWC = torch.from_numpy(image_HWC.copy())[None].to(engine.device)
                with torch.inference_mode():
                    want.append(teacher.finish(engine(image_1HWC))[0].cpu())
                got.append(torch.from_numpy(embedding_ND[row : row + 1].astype(np.float32)))
                owners.append(slide_id)
                advance(1, slide_id)
    if not owners:
        return []
    cosine_N = cosines(torch.cat(got), torch.cat(want), f"teacher {teacher.name}").numpy()
    of_slide = {slide_id: cosine_N[[owner == slide_id for owner in owners]] for slide_id in dict.fromkeys(owners)}
    return [
        Compared(id=slide_id, tiles=len(one), mean=round(float(one.mean()), 6), worst=round(float(one.min()), 6))
        for slide_id, one in of_slide.items()
    ]


def _mean(found: Sequence[Compared]) -> float:
    tiles = sum(one.tiles for one in found)
    return sum(one.mean * one.tiles for one in found) / tiles if tiles else 0.0


def _require(found: Sequence[Compared], params: ImportedParams, teacher: str) -> None:
    if not found or _mean(found) >= params.min_cosine:
        return
    what = f"the imported features are not its answers: mean standardised cosine {_mean(found):.4f}, and "
    what += f"{params.min_cosine:g} is asked for:\n{table(found)}\n"
    if params.below == "keep":
        console.print(f"tokens: {what}kept as they are (tokens.imported.below)", style="yellow", highlight=False)
        return
    fix = f"{USUAL}. Is it the teacher's own name and weights? To take them as they are: tokens.imported.below: keep"
    raise TeacherError(what, where=f"teacher {teacher}", fix=fix)
