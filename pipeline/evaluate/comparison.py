"""Teacher, student and the student's untrained twin on one body of tiles: the slides, or one labelled data set.

The same comparison for each: fidelity on every held-out split, and where there are labels the probes, fitted on the
split `train`. What cannot be computed says why, in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter

from pipeline.base.figures import NotMeasured, Result
from pipeline.base.intervals import Resampler
from pipeline.base.kept import Basis
from pipeline.base.progress import Advance
from pipeline.base.types import Floats
from pipeline.evaluate import selection
from pipeline.evaluate.answers import features
from pipeline.evaluate.answers.embeddings import embeddings
from pipeline.evaluate.label_probes import bag_tiles, learnable, slide_labels, tile_labels
from pipeline.evaluate.labels.from_labels import Efficiency, against_labels, training_tiles
from pipeline.evaluate.models import Models
from pipeline.evaluate.run import Run
from pipeline.evaluate.seen import Seen
from pipeline.evaluate.selection import Body, Sample
from pipeline.evaluate.widths import nested_widths
from pipeline.measures.fidelity.embedding import Scale, SlideCosine, fidelity
from pipeline.measures.fidelity.patch import patch_fidelity
from pipeline.measures.fidelity.structure import structure, too_few
from pipeline.measures.split_figures import (
    Likeness,
    Probes,
    SlideFidelity,
    SplitFigures,
    Standard,
    Structure,
)
from pipeline.params.evaluate import EvaluateParams
from pipeline.tokens.item.reader import TokenReader

LIKENESS = TypeAdapter(tuple[Likeness, dict[str, SlideCosine]])
STRUCTURE = TypeAdapter(Structure)


class Comparison(Result):
    """What was found: each split's figures, each held-out slide's fidelity, and what to know before trusting them."""

    splits: Mapping[str, SplitFigures]
    slides: Mapping[str, SlideFidelity]
    cautions: tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """In which embeddings are compared: the teacher's own, standardised over some train tiles; which ones."""

    scale: Scale
    tiles: str
    standard: Standard

    @classmethod
    def of(cls, run: Run, body: Body) -> Space:
        """Of train tiles evenly spread."""
        some = selection.spread(body.train, run.params.max_probe_tiles)
        standard = Standard(of=body.of, tiles=selection.count(some))
        return cls(Scale.of(features.teacher_features(some)), run.tiles(some), standard)


def compare(run: Run, body: Body, advance: Advance) -> Comparison:
    """Everything that these tiles can tell."""
    params = run.params
    space = Space.of(run, body)
    fit_on = selection.spread(selection.worth_fitting(body.train), params.max_probe_tiles)
    # Train tiles are answered only where something can be fitted on them.
    fits = run.models.nested is not None or any(learnable(body, fit_on, chosen) for chosen in body.held.values())
    train = Seen(fit_on, _answers(run, fit_on, advance) if fits else {})
    held = {split: Seen(chosen, _answers(run, chosen, advance)) for split, chosen in body.held.items()}
    fitted, known = train.labelled(), {split: seen.labelled() for split, seen in held.items()}
    by_tile = {split: tile_labels(run, body, split, (fitted, known[split]), advance) for split in held}
    by_slide = slide_labels(run, body, advance)
    efficiency: Efficiency = {}
    probed = {split: known[split] for split, told in by_tile.items() if isinstance(told.probes, Probes)}
    if params.from_labels and probed:
        efficiency = against_labels(run, fitted, probed, advance)
    splits: dict[str, SplitFigures] = {}
    slides: dict[str, SlideFidelity] = {}
    for split, seen in held.items():
        whole, of_tiles_ = _fidelity(run, seen, space)
        patch, of_tokens = _patch(run, seen.samples, advance)
        slides |= _slides(of_tiles_, of_tokens)
        splits[split] = SplitFigures(
            standard=space.standard,
            fidelity=whole,
            patch=patch,
            structure=_structure(run, seen, space),
            probes=by_tile[split].probes,
            few_shot=by_tile[split].few_shot,
            slide_labels=by_slide[split].slide_labels,
            from_labels=efficiency.get(split, {}),
            nested=nested_widths(run, (space.scale, space.tiles), train, seen),
        )
    cautions = [text for split in held for told in (by_tile[split], by_slide[split]) for text in told.cautions]
    return Comparison(splits=splits, slides=slides, cautions=tuple(dict.fromkeys(cautions)))


def spare_tiles(body: Body, params: EvaluateParams) -> int:
    """Tiles that `compare` will have looked at, at most: for the progress bar."""
    fitted = min(params.max_probe_tiles, selection.count(selection.worth_fitting(body.train)))
    looked = sum(selection.count(s) + min(params.max_dense_tiles, selection.count(s)) for s in body.held.values())
    return fitted + looked + bag_tiles(body, params) + training_tiles(params)


def _answers(run: Run, chosen: Sequence[Sample], advance: Advance) -> dict[str, Floats]:
    """{model: (N, D)}."""
    both = [run.models.student, run.models.untrained]
    student_ND, untrained_ND = embeddings(both, chosen, run.params.batch_size, run.kept, advance)
    return {"teacher": features.teacher_features(chosen), "student": student_ND, "untrained": untrained_ND}


def _fidelity(run: Run, seen: Seen, space: Space) -> tuple[Likeness, dict[str, SlideCosine]]:
    """The global embedding's, of the split and of each slide."""
    names, params = selection.slide_of_tiles(seen.samples), run.params
    teacher_ND, student_ND = seen.answers["teacher"], seen.answers["student"]
    basis: Basis = {"student": run.models.student.told, "scale": space.tiles, "held": run.tiles(seen.samples)}
    resampler = Resampler(selection.units_of_tiles(seen.samples), params.bootstrap, params.seed)
    return run.slot("likeness", LIKENESS, ("bootstrap", "seed"), basis).figures(
        lambda: fidelity(teacher_ND, student_ND, names, space.scale, resampler)
    )


def _structure(run: Run, seen: Seen, space: Space) -> Structure | NotMeasured:
    """Of tiles evenly spread, as everywhere: every so manieth one."""
    params = run.params
    units, n, most = selection.units_of_tiles(seen.samples), selection.count(seen.samples), params.max_dense_tiles
    at = np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64))
    missing = too_few(len(at))
    if missing:
        return missing

    def make() -> Structure:
        scaled = {name: space.scale(x_ND[at]) for name, x_ND in seen.answers.items()}
        others = {name: scaled[name] for name in ("student", "untrained")}
        return structure(scaled["teacher"], others, units.take(at), params.bootstrap, params.seed)

    basis = {**run.both(), "scale": space.tiles, "held": run.tiles(seen.samples)}
    return run.slot("structure", STRUCTURE, ("max_dense_tiles", "bootstrap", "seed"), basis).figures(make)


def _patch(
    run: Run, chosen: Sequence[Sample], advance: Advance
) -> tuple[Likeness | NotMeasured, dict[str, SlideCosine]]:
    """The dense tokens', of the split and of each slide."""
    missing, params = unmeasurable_patch(run.models, chosen), run.params
    if missing:
        return missing, {}
    sample, student = selection.spread(chosen, params.max_dense_tiles), {"student": run.models.dense["student"]}

    def pairs() -> Iterator[tuple[Floats, Floats]]:
        for batch in features.dense_features(student, sample, params.batch_size, advance):
            yield batch["teacher"], batch["student"]

    basis: Basis = {"student": run.models.dense_told("student"), "held": run.tiles(sample)}
    reader, names = TokenReader(sample[0].tokens), selection.slide_of_tiles(sample)
    resampler = Resampler(selection.units_of_tiles(sample), params.bootstrap, params.seed)
    return run.slot("patch likeness", LIKENESS, ("bootstrap", "seed"), basis).figures(
        lambda: patch_fidelity(pairs(), reader.mu, reader.sigma, names, resampler)
    )


def unmeasurable_patch(models: Models, chosen: Sequence[Sample]) -> NotMeasured | None:
    """Why dense tokens cannot be compared, or None."""
    if "student" not in models.dense:
        return NotMeasured(why="the student has no dense adapter (student.objective.patch is 0)")
    if TokenReader(chosen[0].tokens).layout == "none":
        return NotMeasured(why="the cache holds no patch tokens (tokens.patch is none)")
    return None


def _slides(of_tiles_: Mapping[str, SlideCosine], of_tokens: Mapping[str, SlideCosine]) -> dict[str, SlideFidelity]:
    """Both of each slide; a slide may have no tile among those whose tokens are compared."""
    found = {}
    for slide, whole in of_tiles_.items():
        dense = of_tokens.get(slide)
        found[slide] = SlideFidelity(
            n=whole.n,
            cosine=whole.cosine,
            cosine_p5=whole.cosine_p5,
            patch_cosine=dense.cosine if dense else None,
            patch_cosine_p5=dense.cosine_p5 if dense else None,
        )
    return found
