"""Are they what they claim? Some tiles are answered by the teacher itself, and compared with what was imported.

Published features have been found to differ from the model's own answers (mahmoodlab/UNI#57). Both are centred and
divided by each channel's deviation first, as the engines' gate has it: raw cosines are high whatever is wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from pipeline.base.errors import SlideRefused, TeacherError
from pipeline.base.files import write_atomic
from pipeline.base.items import ImportedFacts, TilesItem
from pipeline.base.progress import console, track
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.types import Floats, Frozen
from pipeline.imports.keeping import Given, Taking, rows_of_tiles
from pipeline.imports.room import Room
from pipeline.params.tokens import ImportedParams
from pipeline.teachers.engines import Eager, pick_device
from pipeline.teachers.statistics import measure
from pipeline.teachers.teacher import Teacher
from pipeline.tiles.item.reader import TileReader
from pipeline.tokens.calibration import spread

ITEM, FILE = "verified", "verified.json"
SHOWN = 20
ENOUGH = 4
"""Tiles of a slide from which it is judged by itself."""
FEWEST = 8
"""Tiles from which they are standardised, as the engines' gate has it."""
USUAL = (
    "usually another input side (tokens.input_px), other interpolation or another crop before the encoder, tiles of "
    "another side (tiles.tile_px should be the patches'), tiles that the tool kept as JPEG, or fp16"
)


class Compared(Frozen):
    """Of one slide's tiles: how many were answered, the mean and the worst standardised cosine.

    `item` is what its features are, or would be, kept as: other features of the same slide are compared again.
    """

    id: str
    item: str
    tiles: int
    mean: float
    worst: float


class Round(Frozen):
    """Slides that were compared together, and what all of their recipe are standardised by: the teacher's own answers
    to the first ones' tiles (empty where those were too few)."""

    mu: tuple[float, ...]
    sigma: tuple[float, ...]
    compared: tuple[Compared, ...]


@dataclass(frozen=True)
class Verified:
    """What tokens.json says of it, the slides that are refused, and the store's items that hold the comparison."""

    facts: ImportedFacts
    refused: dict[str, SlideRefused]
    uses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """The teacher, features that are said to be its answers (`paths`, `marks`, by slide id), how near they must be."""

    teacher: Teacher
    paths: Mapping[str, Path]
    taking: Taking
    params: ImportedParams
    store: Store
    marks: Mapping[str, str]


def verify(items: Sequence[TilesItem], check: Check) -> Verified:
    """The comparison of the recipe, each slide's made once and kept in the store.

    A slide below the bound is refused by itself; where they hold half of the tiles that were compared, or the rest are
    below the bound in the mean, a `TeacherError` with the table says so. With `below: keep` all of them are kept.
    """
    taking, store = check.taking, check.store
    rounds = _rounds(taking, store)
    known = {one.item for each in rounds.values() for one in each.compared}
    fresh = [item for item in items if taking.ref(item).item not in known]
    made = _compared(fresh, check, next(iter(rounds.values()), None))
    here = {taking.ref(item).item for item in items}
    found = [one for each in [*rounds.values(), made] for one in each.compared if one.item in here]
    bad = _bad(found, check.params, check.teacher.name)
    if made.compared:
        told = "the teacher's own answers beside the imported ones, standardised cosine"
        console.print(f"tokens: {told}\n{table(made.compared)}")
        rounds[_keep(made, taking, store)] = made
    uses = tuple(str(ref) for ref, each in rounds.items() if any(one.item in here for one in each.compared))
    taken = [one for one in found if one.id not in bad]
    return Verified(facts(taken, taking, "none of its slides could be compared"), bad, uses)


def _rounds(taking: Taking, store: Store) -> dict[Ref, Round]:
    """All that were kept, the first one first."""
    found: dict[Ref, Round] = {}
    names = {path.name for folder in store.recipes("tokens", taking.key) for path in folder.glob(f"{ITEM}*")}
    for name in sorted(names):
        ref = Ref("tokens", taking.key, name)
        if not store.has(ref):
            continue
        # What an earlier version compared is compared again: it does not say by what it was standardised.
        with contextlib.suppress(ValidationError):
            found[ref] = Round.model_validate_json((store.path(ref) / FILE).read_bytes())
    return found


def _keep(made: Round, taking: Taking, store: Store) -> Ref:
    """Where a round is kept: the first by the plain name, later ones by their slides as well."""
    ref = Ref("tokens", taking.key, ITEM)
    if store.has(ref):
        ref = Ref("tokens", taking.key, f"{ITEM}-{recipe_key({'of': [one.item for one in made.compared]})[:12]}")
    with store.write(ref, taking.recipe) as folder:
        write_atomic(folder / FILE, made.model_dump_json(indent=1).encode() + b"\n")
    return ref


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


def _compared(items: Sequence[TilesItem], check: Check, first: Round | None) -> Round:
    """Slides whose features cannot be taken are left to whoever refuses them.

    All are standardised as the `first` round of their recipe was, where there is one.
    """
    teacher, taking = check.teacher, check.taking
    rows = _asked(items, check.params)
    engine = Eager(teacher, pick_device(), "fp32")
    want, got, owners = list[torch.Tensor](), list[torch.Tensor](), list[TilesItem]()
    by_id, room = {item.id: item for item in items}, Room()
    with track("features", sum(map(len, rows.values())), "tiles") as advance:
        for slide_id, own in rows.items():
            item = by_id[slide_id]
            reader = TileReader(check.store.path(Ref.of(taking.tiles, item)))
            try:
                given = Given(item, check.paths[slide_id], check.marks.get(slide_id))
                embedding_ND = rows_of_tiles(given, taking, reader, room)
            except SlideRefused:
                continue
            for row in sorted(own):
                image_HWC = reader.image(row, teacher.input_px, teacher.preparation.resample)
                image_1HWC = torch.from_numpy(image_HWC.copy())[None].to(engine.device)
                with torch.inference_mode():
                    want.append(teacher.finish(engine(image_1HWC))[0].cpu())
                got.append(torch.from_numpy(embedding_ND[row : row + 1].astype(np.float32)))
                owners.append(item)
                advance(1, slide_id)
    if not owners:
        return Round(mu=(), sigma=(), compared=())
    want_ND = torch.cat(want).double()
    mu, sigma = _scale(want_ND, teacher.name) if first is None else (first.mu, first.sigma)
    got_ND = torch.cat(got).double()
    if mu:
        mu_D, sigma_D = torch.tensor(mu).double(), torch.tensor(sigma).double()
        got_ND, want_ND = (got_ND - mu_D) / sigma_D, (want_ND - mu_D) / sigma_D
    cosine_N = torch.nn.functional.cosine_similarity(got_ND, want_ND, dim=1).numpy()
    return Round(mu=mu, sigma=sigma, compared=tuple(_by_slide(cosine_N, owners, taking)))


def _by_slide(cosine_N: Floats, owners: Sequence[TilesItem], taking: Taking) -> Iterator[Compared]:
    for item in {item.id: item for item in owners}.values():
        own = cosine_N[[owner is item for owner in owners]]
        mean, worst = round(float(own.mean()), 6), round(float(own.min()), 6)
        yield Compared(id=item.id, item=taking.ref(item).item, tiles=len(own), mean=mean, worst=worst)


def _asked(items: Sequence[TilesItem], params: ImportedParams) -> dict[str, set[int]]:
    """Rows by slide: those of all slides together, and those of each."""
    rows: dict[str, set[int]] = {}
    for item, row in (
        *spread(items, params.check_tiles),
        *(p for one in items for p in spread([one], params.check_each)),
    ):
        rows.setdefault(item.id, set()).add(row)
    return rows


def _scale(want_ND: torch.Tensor, name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the teacher's answers; empty of so few that they say nothing."""
    if len(want_ND) < FEWEST:
        return (), ()
    frozen = measure([want_ND[None]], f"teacher {name}")
    return tuple(frozen.mu.tolist()), tuple(frozen.sigma.tolist())


def _mean(found: Sequence[Compared]) -> float:
    tiles = sum(one.tiles for one in found)
    return sum(one.mean * one.tiles for one in found) / tiles if tiles else 0.0


def _bad(found: Sequence[Compared], params: ImportedParams, teacher: str) -> dict[str, SlideRefused]:
    """The slides below the bound. Raises `TeacherError` where it is not a few of them."""
    bound = params.min_cosine
    bad = [one for one in found if one.tiles >= ENOUGH and one.mean < bound]
    rest = [one for one in found if one not in bad]
    several = 2 * sum(one.tiles for one in bad) >= sum(one.tiles for one in found)
    if not found or (not bad and _mean(found) >= bound):
        return {}
    what = f"mean standardised cosine {_mean(found):.4f}, and {bound:g} is asked for:\n{table(found)}\n"
    if params.below == "keep":
        what = f"imported features that are not the teacher's answers: {what}kept as they are (tokens.imported.below)"
        console.print(f"tokens: {what}", style="yellow", highlight=False)
        return {}
    fix = f"{USUAL}. Is it the teacher's own name and weights? To take them as they are: tokens.imported.below: keep"
    if several or _mean(rest) < bound:
        what = f"the imported features are not its answers: {what}"
        raise TeacherError(what, where=f"teacher {teacher}", fix=fix)
    return {one.id: SlideRefused(_alone(one, bound), fix=fix) for one in bad}


def _alone(one: Compared, bound: float) -> str:
    what = f"its features are not the teacher's answers: mean standardised cosine {one.mean:.4f} over {one.tiles} tiles"
    return f"{what}, and {bound:g} is asked for"
