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
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn

from pipeline.base.arrays.far import Attached, attach, attached_of
from pipeline.base.errors import TrainingError, some
from pipeline.base.files import write_atomic, write_json
from pipeline.base.items import (
    FileItem,
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
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.corpus.targets import cls_standardiser, patch_standardiser
from pipeline.inputs.slide_stains import slide_stains
from pipeline.params.student import StudentParams
from pipeline.student.checkpoint import drop_checkpoint
from pipeline.student.device import make_accelerator
from pipeline.student.export import export_student, named
from pipeline.student.facts import Ended, Subject, curve_file, run_facts
from pipeline.student.loop import Training
from pipeline.student.losses import Losses
from pipeline.student.model import Head, add_heads, build
from pipeline.student.objectives import OBJECTIVES
from pipeline.student.ranks.node import once
from pipeline.student.ranks.number import told
from pipeline.student.recipe import train_recipe
from pipeline.student.start import load_start

KIND, ITEM = "checkpoints", "run"


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
    accelerator = make_accelerator()
    corpus = _opened(tiles, tokens, store, params.train_fraction)
    main = accelerator.is_main_process
    params = with_objectives(params, any(dense_of(params, corpus)), tell=main)
    corpus, measured = _with_stains(corpus, tiles, params, store, accelerator)
    start = once(lambda: load_start(params, store))
    recipe = train_recipe(tokens, corpus, params, tiles.tile_px, accelerator.num_processes, start)
    subject = Subject(tiles, tokens, corpus, params, start)
    ref = Ref(KIND, recipe_key(recipe), ITEM)
    (cached,) = broadcast_object_list([store.has(ref)])
    metrics: dict[str, float] = {"cached": cached}
    if not cached:
        for line in told(recipe, store, ref, params, corpus.kept_total, accelerator.num_processes) if main else ():
            console.print(f"student: {line}", soft_wrap=True)
        with store.write(ref, recipe, resume=True) if main else contextlib.nullcontext() as partial:
            (folder,) = broadcast_object_list([partial])
            metrics |= _run(folder, subject, accelerator, log / ref.recipe[:12] if log else None)
    accelerator.wait_for_everyone()
    folder = store.open(ref, remedy="dvc repro student")
    if main:
        export_student(folder, out, tokens)
        write_atomic(curve, (folder / "curve.csv").read_bytes())
    accelerator.wait_for_everyone()
    items = tuple(
        FileItem(id=str(path.relative_to(out)), key=ITEM, digest=file_sha256(path)[:32], nbytes=path.stat().st_size)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    )
    summary = StudentFacts.model_validate_json((folder / "run.json").read_bytes()).with_origins(tokens)
    uses = (str(ref), *measured, *(start.uses if start else ()))
    manifest = StudentManifest(recipe_key=ref.recipe, recipe=recipe, items=items, uses=uses, summary=summary)
    return manifest, metrics


def _opened(tiles: TilesManifest, tokens: TokensManifest, store: Store, fraction: float) -> Corpus:
    def opened() -> tuple[Corpus, Attached]:
        corpus = open_corpus(tiles, tokens, store, fraction)
        return corpus, attached_of(corpus.folders)

    corpus, attached = once(opened)
    # Where a bucket has the rest of an item is known by process.
    for folder, files in attached:
        attach(folder, files)
    return corpus


def _with_stains(
    corpus: Corpus, tiles: TilesManifest, params: StudentParams, store: Store, accelerator: Accelerator
) -> tuple[Corpus, tuple[str, ...]]:
    """The corpus with its slides' stains, where they are asked for, and the store's items that hold them."""
    if not params.augment.stains_as_others:
        return corpus, ()
    if len(corpus.items) < 2 and accelerator.is_main_process:
        console.print("student: of one train slide there is no other's stain: stain_transfer changes nothing")
    kept = Kept(store, "student")
    made = (slide_stains(corpus, tiles, kept), kept.uses) if accelerator.is_main_process else None
    ((stain_L2S, uses),) = broadcast_object_list([made])
    return replace(corpus, stain_L2S=stain_L2S), uses


def dense_of(params: StudentParams, corpus: Corpus) -> tuple[bool, ...]:
    """Of each teacher whether patch tokens are there, and may be learnt."""
    asked = [place == 0 or params.teachers.dense == "all" for place in range(len(corpus.each))]
    return tuple(one.dense and may for one, may in zip(corpus.each, asked, strict=True))


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


def _run(folder: Path, subject: Subject, accelerator: Accelerator, log: Path | None) -> dict[str, float]:
    """Train and leave the item's files in `folder`; run.json comes last, and means that all is there."""
    if (folder / "run.json").exists():
        return {}
    corpus, params = subject.corpus, subject.params
    # A rotation from an eigendecomposition may differ between machines: one process makes it for all.
    main = accelerator.is_main_process
    made = [cls_standardiser(one, params.standardise) for one in corpus.each] if main else None
    (cls,) = broadcast_object_list([made])
    dense = [params.objective.patch > 0 and there for there in dense_of(params, corpus)]
    distiller, arguments = build(
        model=params.model,
        width=corpus.width,
        input_px=subject.input_px,
        adapter=params.adapter if dense[0] else None,
        grid=corpus.grid,
        seed=params.seed,
        model_kwargs=params.model_kwargs,
    )
    began = None
    if subject.start is not None:
        patch = patch_standardiser(corpus) if corpus.dense else None
        began = subject.start.into(distiller, params.adapter, cls[0], patch)
    distiller.nest(params.sizes, params.seed)
    heads = [Head(one.width, one.grid, is_dense) for one, is_dense in zip(corpus.also, dense[1:], strict=True)]
    further = add_heads(distiller, heads, params.adapter, params.seed) if heads else ()
    if heads and params.teachers.balance == "uncertainty":
        distiller.log_variance = nn.Parameter(torch.zeros(len(dense)))
    if params.head_hidden is not None:
        distiller.student.expand_head(params.head_hidden, params.seed)
        # What a start knew of the last layer is gone with it.
        began = None if began is None else began.model_copy(update={"head": False})
    losses = Losses(params, corpus, cls, accelerator.device)
    training = Training(distiller, corpus, params, losses=losses, folder=folder, accelerator=accelerator, log=log)
    metrics = training.run()
    if main:
        final = training.final()
        tensors = final.state_dict()
        balance = tensors.pop("log_variance", torch.zeros(len(dense)))
        for place, (one, standardiser) in enumerate(zip(corpus.each, cls, strict=True)):
            tensors |= standardiser.tensors(named("cls", place))
            if one.dense:
                tensors |= patch_standardiser(one).tensors(named("patch", place))
        _refuse_not_finite(tensors)
        save_tensors(folder / "weights.safetensors", tensors)
        write_atomic(folder / "curve.csv", curve_file(training.curve))
        ended = Ended(final, (arguments, *further), tuple(balance.tolist()), began)
        write_json(folder / "run.json", run_facts(subject, training, ended).model_dump(mode="json"))
        drop_checkpoint(folder)
    return metrics


def _refuse_not_finite(tensors: dict[str, Tensor]) -> None:
    """The last step's weights, and the batch norm measured with them, have been through no loss."""
    bad = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if bad:
        fix = "lower student.lr or student.clip_norm"
        raise TrainingError(f"trained to weights that are not finite: {some(bad, 5)}", where="the last step", fix=fix)
