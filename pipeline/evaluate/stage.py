"""The student beside its teacher, on slides that it was not trained on: the manifest of stage `evaluate`.

Its summary is an `EvaluateSummary` (summary.py); its items are the held-out slides, with each slide's fidelity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from pipeline.base.errors import EvaluationError, HistillError, SlideRefused, StudentError
from pipeline.base.figures import NotMeasured
from pipeline.base.intervals import Resampler
from pipeline.base.items import TokensManifest
from pipeline.base.kept import Basis, Kept
from pipeline.base.partials import file_sha256
from pipeline.base.progress import track
from pipeline.base.store import Store, recipe_key
from pipeline.base.types import Json
from pipeline.cluster.refusals import Tracebacks, about_slide
from pipeline.evaluate import selection
from pipeline.evaluate.answers import features
from pipeline.evaluate.comparison import Comparison, compare, spare_tiles
from pipeline.evaluate.labelled_sets import SetResult, evaluate_set
from pipeline.evaluate.manifest import EvaluateItem, EvaluateManifest
from pipeline.evaluate.models import Models
from pipeline.evaluate.pca_maps import write_maps
from pipeline.evaluate.run import RECIPE_VERSION, Run
from pipeline.evaluate.selection import Sample
from pipeline.evaluate.summary import EvaluateSummary
from pipeline.evaluate.tables import write_evaluate_plots
from pipeline.evaluate.teacher_source import TeacherSource
from pipeline.evaluate.trust.cautions import of_few_units, of_groups
from pipeline.evaluate.trust.leaks import check_images, copies
from pipeline.evaluate.upstream import Upstream
from pipeline.measures.robustness.results import Robustness
from pipeline.measures.robustness.robustness import MIN_TILES, check_same_teacher, robustness
from pipeline.measures.split_figures import Likeness
from pipeline.params.evaluate import EvaluateParams
from pipeline.student.exported import architecture
from pipeline.student.shipped import in_space
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import fit_square

ROBUSTNESS = TypeAdapter(Robustness)
NOTHING_HELD_OUT = NotMeasured(why="every slide is in split 'train'; give some slides another split in the slide table")

ONE_SPLIT = "are the slides cuts of one another? keep them in one split"


def evaluate_student(
    upstream: Upstream, params: EvaluateParams, teacher: TeacherSource, store: Store, plots: Path = Path("plots")
) -> EvaluateManifest:
    """Compare them on every held-out split and data set, and write probes.csv, fidelity.csv and maps/ to `plots`.

    Raises `EvaluationError` on a leak between train and held-out tiles, where there is no train slide, and where the
    student does not answer in the teacher's space; and, once all else is done and kept, for data sets that cannot be
    compared. With nothing held out there are no figures, and the summary says so.
    """
    tokens = upstream.tokens
    samples, keys = selection.splits(upstream.tiles, tokens, store), upstream.student.learnt_keys
    # Tokens lie in a folder of the slide's key. A student that does not say what it learnt from: the train slides.
    learnt = [sample for part in samples.values() for sample in part if sample.tokens.name in keys]
    body = selection.body(samples, params.max_probe_tiles)
    train = body.train
    run = Run(Models.load(upstream.folder, tokens.teacher.width, params.seed), params, Kept(store, "evaluate"))
    near = check_images(copies(run, train, body.held, upstream.tiles.jpeg_quality), "tiles", "tokens", ONE_SPLIT)
    for split, chosen in body.held.items():
        near += of_groups(f"patients of {split}", *({sample.patient for sample in part} for part in (train, chosen)))
    with track("evaluate", spare_tiles(body, params), "tiles") as advance:
        slides = compare(run, body, advance)
    also = _also(upstream, run)
    sets, failed = _sets(run, upstream, teacher, learnt or train)
    lead = selection.primary(list(body.held))
    leading = body.held.get(lead or "", [])
    pictured = leading if lead and isinstance(slides.splits[lead].patch, Likeness) else []
    summary = EvaluateSummary(
        protocol=params.protocol,
        teacher=tokens.teacher.name,
        student=architecture(run.models.student.model),
        primary=lead,
        splits=slides.splits,
        nothing_held_out=None if body.held else NOTHING_HELD_OUT,
        sets={name: found.figures for name, found in sets.items()},
        robustness=_robustness(run, leading, tokens, teacher),
        maps=write_maps(run, pictured, plots / "maps"),
        also={teacher: found.splits for teacher, found in also.items()},
        cautions=(*slides.cautions, *of_few_units(body.held), *near),
        learnt_slides=tuple(item.id for item in tokens.items if not item.in_train and item.key in keys),
    )
    if failed:
        raise _of_sets(failed)
    manifest = _manifest(upstream, run, slides, sets, summary)
    write_evaluate_plots(manifest, plots)
    return manifest


def _also(upstream: Upstream, run: Run) -> dict[str, Comparison]:
    """The same comparison with each further teacher of the student, in whose space it answers as well, by its name.

    Raises `EvaluationError` where the student was not trained on one whose tokens there are.
    """
    found = {}
    for tokens in upstream.tokens.also:
        name, store = tokens.teacher.name, run.kept.store
        try:
            folder = in_space(upstream.folder, name)
        except StudentError as error:
            raise EvaluationError(error.what, where=error.where, fix="dvc repro student") from None
        models = Models.load(folder, tokens.teacher.width, run.params.seed)
        body = selection.body(selection.splits(upstream.tiles, tokens, store), run.params.max_probe_tiles)
        with track(f"evaluate {name}", spare_tiles(body, run.params), "tiles") as advance:
            found[name] = compare(replace(run, models=models), body, advance)
    return found


def _sets(
    run: Run, upstream: Upstream, teacher: TeacherSource, learnt: Sequence[Sample]
) -> tuple[dict[str, SetResult], list[HistillError]]:
    """What each data set told, and what was wrong with the others: one that cannot be used costs none of the rest."""
    found, failed, traces = dict[str, SetResult](), list[HistillError](), Tracebacks("evaluate")
    for dataset in run.params.datasets:
        try:
            found[dataset.name] = evaluate_set(dataset, run, upstream, teacher, learnt)
        except Exception as raised:
            error = about_slide(raised, f"evaluate.datasets: {dataset.name}")
            if not isinstance(error, EvaluationError | SlideRefused):
                raise
            failed.append(traces.keep(dataset.name, error) if isinstance(error, SlideRefused) else error)
    return found, failed


def _of_sets(failed: Sequence[HistillError]) -> HistillError:
    """One error for all of them."""
    if len(failed) == 1:
        return failed[0]
    said = "; ".join(f"{error.where}: {error.what}" for error in failed)
    fixes = "; ".join(f"{error.where}: {error.fix}" for error in failed)
    return EvaluationError(f"{len(failed)} data sets cannot be used: {said}", where="evaluate.datasets", fix=fixes)


def _robustness(
    run: Run, held: Sequence[Sample], tokens: TokensManifest, source: TeacherSource
) -> Robustness | NotMeasured:
    """How steady both are on held-out tiles."""
    params = run.params
    chosen = selection.spread(held, params.robustness_tiles) if params.robustness_tiles else []
    n = selection.count(chosen)
    if n < MIN_TILES:
        return NotMeasured(why=f"{n} held-out tiles (at least {MIN_TILES}; evaluate.robustness_tiles)")
    basis: Basis = {
        "student": run.models.student.told,
        "teacher": tokens.recipe.get("teacher"),
        "precision": tokens.recipe.get("precision"),
        "held": run.tiles(chosen),
    }
    slot = run.slot("robustness", ROBUSTNESS, ("bootstrap", "seed"), basis)
    found = slot.find()
    if found is not None:
        return found
    try:
        teacher = source.load(tokens, run.kept.store)
    except HistillError as error:
        return NotMeasured(why=f"the teacher cannot be run here: {error.what}")
    # Of images that are not square (a folder of them as a slide) the middle square, which is what the models see.
    tiles = [reader.image(row) for s in chosen for reader in (TileReader(s.tiles),) for row in s.rows.tolist()]
    images = [fit_square(rgb_HWC, min(rgb_HWC.shape[:2])) for rgb_HWC in tiles]
    answers = {
        "teacher": features.answering(teacher, teacher.side_px, params.batch_size, teacher.resample),
        "student": features.answering_student(run.models.student.model, params.batch_size),
    }
    if tokens.summary.imported is None:
        # How near imported answers come to the teacher's own was asked when they were taken.
        check_same_teacher(answers["teacher"](images[:MIN_TILES]), features.teacher_features(chosen))
    with track("robustness", n * 10, "tiles") as advance:
        resampler = Resampler(selection.units_of_tiles(chosen), params.bootstrap, params.seed)
        return slot.keep(robustness(images, answers, resampler, params.seed, advance))


def _manifest(
    upstream: Upstream,
    run: Run,
    slides: Comparison,
    sets: Mapping[str, SetResult],
    summary: EvaluateSummary,
) -> EvaluateManifest:
    """The manifest; each held-out slide is an item, with the key and digest of its answers."""
    tokens = upstream.tokens
    asked = run.params.model_dump(mode="json", exclude={"batch_size": True, "datasets": {"__all__": {"path"}}})
    if run.params.protocol == "histill":
        # Keys of evaluations that know no other protocol stay.
        del asked["protocol"]
    recipe: dict[str, Json] = {
        "tokens": tokens.recipe_key,
        "student": file_sha256(upstream.folder / "model.safetensors")[:32],
        "evaluate": asked,
        "sets": {name: found.digests for name, found in sets.items()},
        "recipe_version": RECIPE_VERSION,
    }
    if tokens.also:
        folders = [in_space(upstream.folder, one.teacher.name) for one in tokens.also]
        recipe["also"] = [
            [one.recipe_key, file_sha256(folder / "model.safetensors")[:32]]
            for one, folder in zip(tokens.also, folders, strict=True)
        ]
    items, answered = [], tokens.by_id()
    for slide, found in slides.slides.items():
        cached = answered[slide]
        item = EvaluateItem(
            id=slide,
            key=cached.key,
            digest=cached.digest,
            n=found.n,
            split=cached.split,
            cosine=found.cosine,
            cosine_p5=found.cosine_p5,
            patch_cosine=found.patch_cosine,
            patch_cosine_p5=found.patch_cosine_p5,
        )
        items.append(item)
    return EvaluateManifest(
        recipe_key=recipe_key(recipe),
        recipe=recipe,
        items=tuple(items),
        summary=summary,
        uses=run.kept.uses,
    )
