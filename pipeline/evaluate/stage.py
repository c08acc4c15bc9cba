"""The student beside its teacher, on slides that it was not trained on: the manifest of stage `evaluate`.

Its summary:

    teacher, student, primary   names, and the split that leads (null where nothing is held out)
    fidelity       {split: see fidelity/embedding.py; `patch`: patch.py; `structure`: structure.py}, or null
    probes         {split: see probes.py}, or null
    few_shot       {split: see few_shot.py}, or null
    from_labels    {split: see from_labels.py}, or null
    slide_labels   {split: see mil.py}, or null
    sets           {data set: {split: its fidelity, probes, few_shot, from_labels or dense}}; see labelled_sets.py
    robustness     see robustness.py, or null
    maps           the pictures in plots/maps, see pca_maps.py; null where there are none
    why            {what is missing: the reason}; "fidelity" for all splits, "probes, <split>" for one
    warnings       what a reader must know to trust a figure
    trained_on_test  held-out slides and sets that the student was trained on: their figures flatter it
    …              the primary split's leading figures, flat, so that `dvc metrics` shows them (see tables.py)

Its items are the held-out slides, see manifest.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base.errors import EvaluationError, HistillError
from pipeline.base.files import six_digits
from pipeline.base.items import TRAIN, StudentManifest, TilesManifest, TokensManifest
from pipeline.base.partials import file_sha256
from pipeline.base.progress import track
from pipeline.base.store import Store, recipe_key
from pipeline.evaluate import features, selection
from pipeline.evaluate.comparison import Comparison, Models, compare, spare_tiles
from pipeline.evaluate.labelled_sets import SetFigures, evaluate_set
from pipeline.evaluate.manifest import EvaluateItem, EvaluateManifest
from pipeline.evaluate.pca_maps import write_maps
from pipeline.evaluate.robustness.robustness import MIN_TILES, check_same_teacher, robustness
from pipeline.evaluate.selection import Sample
from pipeline.evaluate.tables import evaluate_headline, write_evaluate_plots
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.trust.cautions import of_few_slides, of_groups
from pipeline.evaluate.trust.leaks import check_images
from pipeline.params.evaluate import EvaluateParams
from pipeline.student.exported import architecture
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import fit_square

RECIPE_VERSION = 5
NOTHING_HELD_OUT = "every slide is in split 'train'; give some slides another split in the slide table"

ONE_SPLIT = "are the slides cuts of one another? keep them in one split"


def evaluate_student(
    tiles: TilesManifest,
    tokens: TokensManifest,
    student: StudentManifest,
    student_folder: Path,
    params: EvaluateParams,
    teacher: TeacherSource,
    store: Store,
    plots: Path = Path("plots"),
) -> EvaluateManifest:
    """Compare them on every held-out split and data set, and write probes.csv, fidelity.csv and maps/ to `plots`.

    Raises `EvaluationError` on a leak between train and held-out tiles, where there is no train slide, and where the
    student does not answer in the teacher's space. With nothing held out the figures are null and `why` says so.
    """
    samples = selection.splits(tiles, tokens, store)
    keys = student.learnt_keys
    # Tokens lie in a folder of the slide's key. A student that does not say what it learnt from: the train slides.
    learnt = [sample for part in samples.values() for sample in part if sample.tokens.name in keys]
    if TRAIN not in samples:
        raise EvaluationError("no slide is in split 'train'", where="tokens", fix="mend `split` in the slide table")
    train = samples.pop(TRAIN)
    held = {split: selection.spread(samples[split], params.max_probe_tiles) for split in sorted(samples)}
    models = Models.load(student_folder, tokens.teacher.width, params.seed)
    quality = tiles.jpeg_quality
    near = check_images(train, held, params.max_probe_tiles, quality, "tiles", "tokens", ONE_SPLIT)
    for split, chosen in held.items():
        near += of_groups(f"patients of {split}", *({sample.patient for sample in part} for part in (train, chosen)))
    with track("evaluate", spare_tiles(held, train, params), "tiles") as advance:
        slides = compare(models, train, held, params, store, advance)
    slides.why |= {} if held else {"fidelity": NOTHING_HELD_OUT, "probes": NOTHING_HELD_OUT}
    sets = {
        dataset.name: evaluate_set(dataset, params, models, learnt or train, tiles, tokens, teacher, store)
        for dataset in params.datasets
    }
    lead = selection.primary(list(held))
    steady = _robustness(models, held.get(lead or "", []), tokens, teacher, store, params, slides)
    slides.warnings += [*of_few_slides(held), *near]
    pictured = {} if f"patch, {lead}" in slides.why else models.dense
    maps = write_maps(pictured.get("student"), held.get(lead or "", []), params.batch_size, plots / "maps")
    return _manifest(tokens, student, student_folder, params, models, slides, sets, steady, maps, lead, plots)


def _robustness(
    models: Models,
    held: Sequence[Sample],
    tokens: TokensManifest,
    source: TeacherSource,
    store: Store,
    params: EvaluateParams,
    found: Comparison,
) -> dict[str, Any] | None:
    """How steady both are on held-out tiles, or None with the reason in `found.why`."""
    chosen = selection.spread(held, params.robustness_tiles) if params.robustness_tiles else []
    n = selection.count(chosen)
    if n < MIN_TILES:
        found.why["robustness"] = f"{n} held-out tiles (at least {MIN_TILES}; evaluate.robustness_tiles)"
        return None
    try:
        teacher = source.load(tokens, store)
    except HistillError as error:
        found.why["robustness"] = f"the teacher cannot be run here: {error.what}"
        return None
    # Of images that are not square (a folder of them as a slide) the middle square, which is what the models see.
    tiles = [reader.image(row) for s in chosen for reader in (TileReader(s.tiles),) for row in s.rows.tolist()]
    images = [fit_square(rgb_HWC, min(rgb_HWC.shape[:2])) for rgb_HWC in tiles]
    answers = {
        "teacher": features.answering(teacher, teacher.side_px, params.batch_size),
        "student": features.answering_student(models.student, params.batch_size),
    }
    check_same_teacher(answers["teacher"](images[:MIN_TILES]), features.teacher_features(chosen))
    with track("robustness", n * 10, "tiles") as advance:
        names = selection.slide_of_tiles(chosen)
        return robustness(images, answers, names, params.bootstrap, params.seed, advance)


def _trained_on(student: StudentManifest, tokens: TokensManifest, sets: Mapping[str, SetFigures]) -> list[str]:
    """Held-out slides that are among the items the student was trained on, and sets that share images with them."""
    keys = student.learnt_keys
    slides = [item.id for item in tokens.items if not item.in_train and item.key in keys]
    return [*(f"slide {slide}" for slide in slides), *(what for found in sets.values() for what in found.trained_on)]


def _manifest(
    tokens: TokensManifest,
    student: StudentManifest,
    student_folder: Path,
    params: EvaluateParams,
    models: Models,
    slides: Comparison,
    sets: Mapping[str, SetFigures],
    steady: dict[str, Any] | None,
    maps: dict[str, Any] | None,
    lead: str | None,
    plots: Path,
) -> EvaluateManifest:
    """The manifest, and the plots from it; each held-out slide is an item, with the key and digest of its answers."""
    by_slide = {slide: figures for found in slides.fidelity.values() for slide, figures in found.pop("slides").items()}
    dense = {
        slide: figures
        for found in slides.fidelity.values()
        for slide, figures in (found["patch"] or {}).pop("slides", {}).items()
    }
    for figures in sets.values():
        for split in figures.splits.values():
            (split["fidelity"]["patch"] or {}).pop("slides", None)
    summary = {
        "teacher": tokens.teacher.name,
        "student": architecture(models.student),
        "primary": lead,
        "fidelity": slides.fidelity or None,
        "probes": slides.probes or None,
        "few_shot": slides.few_shot or None,
        "from_labels": slides.from_labels or None,
        "slide_labels": slides.slide_labels or None,
        "sets": {name: found.splits for name, found in sets.items()},
        "robustness": steady,
        "maps": maps,
        "why": slides.why | {f"{w}, {n}": why for n, found in sets.items() for w, why in found.why.items()},
        "warnings": [*slides.warnings, *(f"{n}, {w}" for n, found in sets.items() for w in found.warnings)],
        "trained_on_test": _trained_on(student, tokens, sets),
    }
    recipe = {
        "tokens": tokens.recipe_key,
        "student": file_sha256(student_folder / "model.safetensors")[:32],
        "evaluate": params.model_dump(mode="json", exclude={"batch_size": True, "datasets": {"__all__": {"path"}}}),
        "sets": {name: found.items for name, found in sets.items()},
        "recipe_version": RECIPE_VERSION,
    }
    items = []
    for slide, figures in by_slide.items():
        cached = tokens.item(slide)
        cosines = {key: figures[key] for key in ("cosine", "cosine_p5")}
        cosines |= {f"patch_{key}": dense.get(slide, {}).get(key) for key in ("cosine", "cosine_p5")}
        name = {"id": slide, "key": cached.key, "digest": cached.digest, "n": figures["n"], "split": cached.split}
        items.append(EvaluateItem(**name, **six_digits(cosines)))
    manifest = EvaluateManifest(
        recipe_key=recipe_key(recipe),
        recipe=recipe,
        items=tuple(items),
        summary=six_digits({**summary, **evaluate_headline(summary)}),
        uses=tuple(sorted({*slides.uses, *(use for found in sets.values() for use in found.uses)})),
    )
    write_evaluate_plots(manifest, plots)
    return manifest
