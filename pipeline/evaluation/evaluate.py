"""The student beside its teacher, on slides that it was not trained on: the manifest of stage `evaluate`.

Its summary:

    teacher, student, primary   names, and the split that leads (null where nothing is held out)
    fidelity   {split: see fidelity.py}, or null
    probes     {split: see probes.py}, or null
    why        {what is missing: the reason}; "fidelity", "probes" for all splits, "probes, <split>" for one
    …          the primary split's leading figures, flat, so that `dvc metrics` shows them (see tables.py)

Its items are the held-out slides: n tiles compared, info {split, cosine, cosine_p5}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import EvaluationError
from pipeline.evaluation import datasets, features
from pipeline.evaluation.datasets import TRAIN, Sample
from pipeline.evaluation.fidelity import Scale, fidelity
from pipeline.evaluation.intervals import Floats
from pipeline.evaluation.probes import Labelled, probe, unmeasurable
from pipeline.evaluation.tables import evaluate_headline, six_digits, write_evaluate_plots
from pipeline.manifest import Item, Manifest
from pipeline.params import EvaluateParams
from pipeline.partials import file_sha256
from pipeline.progress import track
from pipeline.store import Store, recipe_key

RECIPE_VERSION = 1
NOTHING_HELD_OUT = "every slide is in split 'train'; give some slides another split in the slide table"


def evaluate_student(
    tiles: Manifest,
    tokens: Manifest,
    student_folder: Path,
    params: EvaluateParams,
    store: Store,
    plots: Path = Path("plots"),
) -> Manifest:
    """Compare them on every held-out split, and write probes.csv and fidelity.csv to `plots`.

    Raises `EvaluationError` on a leak between train and held-out slides, where there is no train slide, and where the
    student does not answer in the teacher's space. With nothing held out the figures are null and `why` says so.
    """
    samples = datasets.splits(tiles, tokens, store)
    if TRAIN not in samples:
        raise EvaluationError("no slide is in split 'train'", where="tokens", fix="mend `split` in the slide table")
    train = samples.pop(TRAIN)
    held = {split: datasets.spread(samples[split], params.max_probe_tiles) for split in sorted(samples)}
    scale = Scale.of(features.teacher_features(datasets.spread(train, params.max_probe_tiles)))
    train_labelled = datasets.spread(datasets.labelled(train), params.max_probe_tiles)
    why = {} if held else {"fidelity": NOTHING_HELD_OUT, "probes": NOTHING_HELD_OUT}
    for split, chosen in held.items():
        reason = unmeasurable(*(datasets.label_of_tiles(datasets.labelled(part)) for part in (train_labelled, chosen)))
        why |= {f"probes, {split}": reason} if reason else {}
    probed = [split for split in held if f"probes, {split}" not in why]
    names, answers = _answers(student_folder, tokens, params, held, {TRAIN: train_labelled} if probed else {}, probed)

    likeness = {
        split: fidelity(
            answers[split]["teacher"],
            answers[split]["student"],
            datasets.slide_of_tiles(chosen),
            scale,
            params.bootstrap,
            params.seed,
        )
        for split, chosen in held.items()
    }
    probes = {}
    for split in probed:
        fitted, compared = _labelled(train_labelled, answers[TRAIN]), _labelled(held[split], answers[split])
        probes[split] = probe(fitted, compared, params.knn_k, params.bootstrap, params.seed)
    lead = datasets.primary(list(held))
    by_slide = {slide: figures for found in likeness.values() for slide, figures in found.pop("slides").items()}
    manifest = _manifest(
        {
            **names,
            "primary": lead,
            "fidelity": likeness or None,
            "probes": probes or None,
            "why": why,
            **evaluate_headline(likeness.get(lead or ""), probes.get(lead or "")),
        },
        {
            "tokens": tokens.recipe_key,
            "student": file_sha256(student_folder / "model.safetensors")[:32],
            "evaluate": params.model_dump(exclude={"batch_size"}),
            "recipe_version": RECIPE_VERSION,
        },
        tokens,
        by_slide,
    )
    write_evaluate_plots(manifest, plots)
    return manifest


def _answers(
    student_folder: Path,
    tokens: Manifest,
    params: EvaluateParams,
    held: Mapping[str, Sequence[Sample]],
    fit_on: Mapping[str, Sequence[Sample]],
    probed: Sequence[str],
) -> tuple[dict[str, str], dict[str, dict[str, Floats]]]:
    """Names of the models, and {split: {model: features}}; the untrained twin answers where it is a probe's floor."""
    student = features.load_student(student_folder)
    name, width = features.architecture(student), tokens.recipe["teacher"]["width"]
    if getattr(student, "num_classes", None) != width:
        what = f"answers in {getattr(student, 'num_classes', None)} channels, the teacher in {width}"
        raise EvaluationError(what, where=str(student_folder), fix="dvc repro student")
    twin = features.untrained_twin(student_folder, params.seed)
    work = {**fit_on, **held}
    answers: dict[str, dict[str, Floats]] = {}
    with track("evaluate", sum(datasets.count(chosen) for chosen in work.values()), "tiles") as advance:
        for split, chosen in work.items():
            models = {"student": student} | ({"untrained": twin} if split in probed or split in fit_on else {})
            found = features.student_features(list(models.values()), chosen, params.batch_size, advance)
            answers[split] = {"teacher": features.teacher_features(chosen), **dict(zip(models, found, strict=True))}
    return {"teacher": tokens.recipe["teacher"]["name"], "student": name}, answers


def _labelled(samples: Sequence[Sample], answers: Mapping[str, Floats]) -> Labelled:
    """The tiles of a split that have a label, with every model's features."""
    labels = [label for sample in samples for label in sample.labels]
    every = Labelled([str(label) for label in labels], datasets.slide_of_tiles(samples), answers)
    return every.only(np.array([label is not None for label in labels], dtype=np.bool_))


def _manifest(
    summary: dict[str, Any], recipe: dict[str, Any], tokens: Manifest, by_slide: Mapping[str, dict[str, Any]]
) -> Manifest:
    """The manifest; each held-out slide is an item, with the key and digest of the answers it was compared with."""
    items = []
    for slide, figures in by_slide.items():
        cached = tokens.item(slide)
        info = {"split": cached.info["split"], "cosine": figures["cosine"], "cosine_p5": figures["cosine_p5"]}
        items.append(Item(id=slide, key=cached.key, digest=cached.digest, n=figures["n"], info=six_digits(info)))
    return Manifest(
        stage="evaluate",
        recipe_key=recipe_key(recipe),
        recipe=recipe,
        items=tuple(items),
        summary=six_digits(summary),
    )
