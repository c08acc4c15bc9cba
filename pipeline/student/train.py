"""From cached tokens to a committed student: what a run depends on, the run, and what it leaves.

The run is one item in the store, `checkpoints/<train key>/run`:

    weights.safetensors   student.*, adapter.* and nested.* (in standardised space), cls_* and patch_* of
                          `targets.Standardiser`
    curve.csv             step, epoch, loss, each objective, lr, tiles_seen; no timings, so that it is always the same
    run.json              what was trained on what, and how it ended

While it trains, checkpoints lie in its partial folder: a killed run goes on from there, and a committed one is never
trained again, only exported again.
"""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from pipeline.base.errors import TrainingError
from pipeline.base.files import write_atomic, write_json
from pipeline.base.items import (
    AdapterArguments,
    FileItem,
    StartFacts,
    StudentFacts,
    StudentManifest,
    TilesManifest,
    TokensManifest,
)
from pipeline.base.kept import Kept
from pipeline.base.partials import file_sha256
from pipeline.base.progress import console
from pipeline.base.store import Ref, Store, recipe_key
from pipeline.base.tensors import save_tensors
from pipeline.base.types import Json, Recipe
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.loader import shared_batch
from pipeline.corpus.targets import cls_standardiser, patch_standardiser
from pipeline.params.student import StudentParams
from pipeline.student.checkpoint import drop_checkpoint
from pipeline.student.device import autocast_dtype, make_accelerator
from pipeline.student.export import export_student
from pipeline.student.inputs import pairs_stay_together
from pipeline.student.inputs.slide_stains import RECIPE_VERSION as STAIN_VERSION
from pipeline.student.inputs.slide_stains import slide_stains
from pipeline.student.loop import Training
from pipeline.student.model import Distiller, build
from pipeline.student.objectives import NESTED, OBJECTIVES
from pipeline.student.start import Start, load_start
from pipeline.student.terms import Terms

RECIPE_VERSION = 2
KIND, ITEM = "checkpoints", "run"
SITE_PARAMS = {"workers", "checkpoint_minutes", "log"}
"""Parameters that do not change the result."""
LOSSES = (*OBJECTIVES, NESTED)


def train_student(
    tiles: TilesManifest,
    tokens: TokensManifest,
    params: StudentParams,
    store: Store,
    *,
    out: Path,
    curve: Path,
    log: Path | None = None,
) -> tuple[StudentManifest, dict[str, float]]:
    """Train (or find trained) and export to `out`; copy the curve to `curve`; TensorBoard's files go below `log`.

    Returns the manifest (items: the exported files; summary: run.json) and the metrics of this call: `cached`, and
    where it trained, seconds, tiles_per_s, steps, resumed_from. Every process of a distributed run calls it and gets
    the same answer; rank 0 alone writes. Raises `TrainingError` and the store's errors.
    """
    corpus = open_corpus(tiles, tokens, store, params.train_fraction)
    accelerator = make_accelerator()
    params = with_objectives(params, corpus.dense, tell=accelerator.is_main_process)
    corpus, measured = _with_stains(corpus, tiles, params, store, accelerator)
    start = load_start(params, store)
    recipe = train_recipe(tokens, corpus, params, tiles.tile_px, accelerator.num_processes, start)
    subject = Subject(tiles, tokens, corpus, params, start)
    ref = Ref(KIND, recipe_key(recipe), ITEM)
    main = accelerator.is_main_process
    (cached,) = broadcast_object_list([store.has(ref)])
    metrics: dict[str, float] = {"cached": cached}
    if not cached:
        with store.write(ref, recipe, resume=True) if main else contextlib.nullcontext() as partial:
            (folder,) = broadcast_object_list([partial])
            metrics |= _run(folder, subject, accelerator, log / ref.recipe[:12] if log else None)
    accelerator.wait_for_everyone()
    folder = store.open(ref, remedy="dvc repro student")
    if main:
        export_student(folder, out)
        write_atomic(curve, (folder / "curve.csv").read_bytes())
    accelerator.wait_for_everyone()
    items = tuple(
        FileItem(id=str(path.relative_to(out)), key=ITEM, digest=file_sha256(path)[:32], nbytes=path.stat().st_size)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    )
    summary = StudentFacts.model_validate_json((folder / "run.json").read_bytes())
    uses = (str(ref), *measured, *(start.uses if start else ()))
    manifest = StudentManifest(recipe_key=ref.recipe, recipe=recipe, items=items, uses=uses, summary=summary)
    return manifest, metrics


def train_recipe(
    tokens: TokensManifest,
    corpus: Corpus,
    params: StudentParams,
    tile_px: int,
    world: int = 1,
    start: Start | None = None,
) -> Recipe:
    """All that the weights depend on: parameters, input side, precision, the cached answers in their order, the start.

    The number of processes too, but where they train what one does: batch norm held, the same batch, and no pair of
    mixed tiles parted.
    """
    one, many = (shared_batch(params.batch_size, corpus.kept_total, n) for n in (1, world))
    whole = params.mix.kind == "none" or pairs_stay_together(many // world)
    as_one = world == 1 or (params.freeze_batch_norm and one == many and whole)
    special: dict[str, Json] = {} if as_one else {"world": world}
    if params.train_fraction < 1:
        # Which rows a fraction keeps, and that the targets' statistics are of them alone.
        special["kept_rows"] = "bit-reversed"
    if params.augment.stains_as_others:
        special["slide_stain"] = STAIN_VERSION
    if start is not None:
        special["start"] = start.recipe
    return {
        **special,
        "student": kept_params(params),
        "input_px": input_side(params, tile_px),
        "precision": precision_here(),
        "tokens": tokens.recipe_key,
        "items": [[item.key, item.digest] for item in corpus.items],
        "recipe_version": RECIPE_VERSION,
    }


def _with_stains(
    corpus: Corpus, tiles: TilesManifest, params: StudentParams, store: Store, accelerator: Accelerator
) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus with its slides' stains, where they are asked for, and the store's items that hold them."""
    if not params.augment.stains_as_others:
        return corpus, ()
    kept = Kept(store, "student")
    made = (slide_stains(corpus, tiles, kept), kept.uses) if accelerator.is_main_process else None
    ((stain_L2S, uses),) = broadcast_object_list([made])
    return replace(corpus, stain_L2S=stain_L2S), uses


def kept_params(params: StudentParams) -> dict[str, Json]:
    """Those on which the weights depend, as they are hashed; an option that is off is not among them.

    Nor is where a student starts: that is in the recipe by its content.
    """
    on = {"mix": params.mix.kind != "none", "augment": params.augment.changes, "weights": False}
    on |= {"head_hidden": params.head_hidden is not None, "nested": bool(params.sizes)}
    off: dict[str, bool | set[str]] = {name: True for name, is_on in on.items() if not is_on}
    if "nested" in off:
        off["objective"] = {NESTED}
    student: dict[str, Json] = params.model_dump(mode="json", exclude={**dict.fromkeys(SITE_PARAMS, True), **off})
    if not torch.cuda.is_available():
        # CPUs run eager whatever it says.
        student["compile"] = "auto"
    return student


def input_side(params: StudentParams, tile_px: int) -> int:
    """The side at which the student sees a tile."""
    return params.input_px or max(32, round(tile_px / 32) * 32)


def precision_here() -> str:
    """In which a student is trained on this machine."""
    return "fp32" if autocast_dtype() is None else "bf16"


def with_objectives(params: StudentParams, dense: bool, *, tell: bool = True) -> StudentParams:
    """The params, `objective.patch` off where no patch tokens are cached (not `dense`): there is nothing to match.

    Raises `TrainingError` where nothing is left to be learnt.
    """
    if params.objective.patch > 0 and not dense:
        params = params.model_copy(update={"objective": params.objective.model_copy(update={"patch": 0.0})})
        if tell:
            console.print("student: no patch tokens are cached: objective.patch is off", soft_wrap=True)
    if not any(getattr(params.objective, name) for name in OBJECTIVES):
        what = "every objective has weight 0" if dense else "every objective but patch has weight 0"
        raise TrainingError(what, where="student.objective", fix="give one a weight: student.objective.cls")
    return params


@dataclass(frozen=True)
class Subject:
    """What is trained on what."""

    tiles: TilesManifest
    tokens: TokensManifest
    corpus: Corpus
    params: StudentParams
    start: Start | None = None

    @property
    def input_px(self) -> int:
        """The side at which the student sees a tile."""
        return input_side(self.params, self.tiles.tile_px)


def _run(folder: Path, subject: Subject, accelerator: Accelerator, log: Path | None) -> dict[str, float]:
    """Train and leave the item's files in `folder`; run.json comes last, and means that all is there."""
    if (folder / "run.json").exists():
        return {}
    corpus, params = subject.corpus, subject.params
    # A rotation from an eigendecomposition may differ between machines: one process makes it for all.
    made = cls_standardiser(corpus, params.standardise) if accelerator.is_main_process else None
    (cls,) = broadcast_object_list([made])
    distiller, arguments = build(
        model=params.model,
        width=corpus.width,
        input_px=subject.input_px,
        adapter=params.adapter if params.objective.patch > 0 else None,
        grid=corpus.grid,
        seed=params.seed,
        model_kwargs=params.model_kwargs,
    )
    began = None
    if subject.start is not None:
        patch = patch_standardiser(corpus) if corpus.dense else None
        began = subject.start.into(distiller, params.adapter, cls, patch)
    distiller.nest(params.sizes, params.seed)
    if params.head_hidden is not None:
        distiller.student.expand_head(params.head_hidden, params.seed)
        # What a start knew of the last layer is gone with it.
        began = None if began is None else began.model_copy(update={"head": False})
    terms = Terms(params.objective, corpus, cls, accelerator.device, params.seed)
    training = Training(distiller, corpus, params, terms=terms, folder=folder, accelerator=accelerator, log=log)
    metrics = training.run()
    if accelerator.is_main_process:
        final = training.final()
        tensors = final.state_dict() | cls.tensors("cls")
        if corpus.dense:
            tensors |= patch_standardiser(corpus).tensors("patch")
        _refuse_not_finite(tensors)
        save_tensors(folder / "weights.safetensors", tensors)
        write_atomic(folder / "curve.csv", _curve(training.curve))
        write_json(folder / "run.json", _facts(subject, training, final, arguments, began).model_dump(mode="json"))
        drop_checkpoint(folder)
    return metrics


def _refuse_not_finite(tensors: dict[str, Tensor]) -> None:
    """The last step's weights, and the batch norm measured with them, have been through no loss."""
    bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        fix = "lower student.lr or student.clip_norm"
        raise TrainingError(f"trained to weights that are not finite: {shown}", where="the last step", fix=fix)


def _facts(
    subject: Subject,
    training: Training,
    final: Distiller,
    arguments: AdapterArguments | None,
    began: StartFacts | None,
) -> StudentFacts:
    """run.json: enough to build the student again, to describe it, and to say how training ended."""
    tiles, tokens, corpus, params = subject.tiles, subject.tokens, subject.corpus, subject.params
    return StudentFacts(
        model=params.model,
        input_px=subject.input_px,
        width=corpus.width,
        grid=corpus.grid,
        tile_px=tiles.tile_px,
        target_mpp=tiles.target_mpp,
        parameters=sum(parameter.numel() for parameter in final.student.parameters()),
        teacher=tokens.teacher,
        student=kept_params(params),
        precision=precision_here(),
        adapter=arguments,
        train_slides=len(corpus.items),
        train_tiles=training.loader.order.total,
        views=corpus.views,
        steps=training.steps,
        batch_size=training.loader.batch_size,
        tiles_seen=training.steps * training.loader.batch_size,
        loss=_last_epoch(training.curve),
        start=began,
    )


def _last_epoch(curve: list[dict[str, float]]) -> dict[str, float]:
    """Each loss's mean over the curve's rows of the last epoch."""
    rows = [row for row in curve if row["epoch"] > curve[-1]["epoch"] - 1]
    return {name: float(np.mean([row[name] for row in rows])) for name in ("loss", *LOSSES) if name in rows[0]}


def _curve(rows: list[dict[str, float]]) -> bytes:
    text = io.StringIO()
    losses = [name for name in LOSSES if name != NESTED or NESTED in rows[0]]
    columns = ("step", "epoch", "loss", *losses, "lr", "tiles_seen")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.9g}" for name, value in row.items()})
    return text.getvalue().encode()
