"""What the models cost: parameters, multiply-adds, latency, throughput, memory, energy, all measured in one run.

Every model in every engine has a process of its own (`contender`), and they take turns (`turns`), so that whatever else
the machine does meets all alike; a ratio is only ever taken from one run. The leading figures are eager PyTorch's, in
the first precision and on the first device of the params. No engine is timed before its answers were compared with
eager fp32's, and what cannot be measured stands there with the reason: an engine that fails or takes too long costs no
other its figures. Inputs are random images that are ready in memory: reading slides and decoding tiles come on top.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from pipeline.base.errors import EvaluationError
from pipeline.base.files import six_digits
from pipeline.base.items import TeacherFacts, TokensManifest
from pipeline.base.partials import file_sha256
from pipeline.base.store import Store, recipe_key
from pipeline.benchmark import machine
from pipeline.benchmark.contender import Contender, stop_all
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.process import Spec, Unmeasured
from pipeline.benchmark.runtimes import OF_TORCH
from pipeline.benchmark.speedup import speedup
from pipeline.benchmark.tables import benchmark_headline, write_benchmark_plots
from pipeline.benchmark.turns import announce, take_turns
from pipeline.params.benchmark import BenchmarkParams
from pipeline.params.tokens import TokensParams

MODELS = ("teacher", "student")


def benchmark_models(
    tokens: TokensManifest,
    student_folder: Path,
    tokens_params: TokensParams,
    params: BenchmarkParams,
    store: Store,
    demo_px: int,
    plots: Path = Path("plots"),
) -> BenchmarkManifest:
    """Measure the teacher that `tokens` was made with and the exported student; write latency.csv to `plots`.

    Summary: docs/artifacts.md. Not deterministic, by nature. Raises `EvaluationError` where the params name a teacher
    that the cache does not come from, or where a model does not run in eager PyTorch.
    """
    cached, busy = tokens.teacher, machine.load()
    spec = Spec(MODELS[0], "eager", "", "", student_folder, tokens_params, store.root, demo_px)
    with tempfile.TemporaryDirectory(prefix="histill-benchmark-") as scratch:
        leads, others = measure(spec, params, Path(scratch), cached)
    models = {name: _facts(leads[name], params.slide_tiles) for name in MODELS}
    lead, ratio = leads["student"], speedup(leads["teacher"].rounds, leads["student"].rounds)
    summary = {
        "machine": {**leads["teacher"].hello["machine"], "load": busy},
        "engine": lead.spec.engine,
        "precision": lead.precision,
        "device": lead.device,
        "slide_tiles": params.slide_tiles,
        "speedup": ratio["value"],
        "speedup_interval": ratio["interval"],
        **models,
        "others": [_other(contender, params.slide_tiles) for contender in others],
        "speedups": _speedups(others),
    }
    summary |= benchmark_headline(summary)
    recipe = {
        "teacher": cached.model_dump(mode="json"),
        "student": file_sha256(student_folder / "model.safetensors")[:32],
        "benchmark": params.model_dump(mode="json"),
    }
    manifest = BenchmarkManifest(recipe_key=recipe_key(recipe), recipe=recipe, summary=six_digits(summary))
    write_benchmark_plots(manifest, plots)
    return manifest


def measure(
    spec: Spec, params: BenchmarkParams, scratch: Path, cached: TeacherFacts
) -> tuple[dict[str, Contender], list[Contender]]:
    """(the leading contender of each model, all others), each with its rows or with why it has none.

    `cached` is what the teacher has to be.
    """
    leading = replace(spec, device=params.devices[0], precision=params.precisions[0], reference=True)
    leads = {name: Contender(replace(leading, model=name), params.limit_s) for name in MODELS}
    others: list[Contender] = []
    try:
        for lead in leads.values():
            lead.start()
        for lead in leads.values():
            lead.greet()
            if lead.why:
                raise EvaluationError(f"eager PyTorch does not run it: {lead.why}", where=f"the {lead.spec.model}")
        require_cached(leads["teacher"].hello, cached)
        others = _others(leads, params, scratch)
        for contender in (*leads.values(), *others):
            contender.gate(leads[contender.spec.model].hello["reference"])
        for lead in leads.values():
            if lead.why:
                raise EvaluationError(lead.why, where=f"the {lead.spec.model}, {lead.precision}")
        announce([*leads.values(), *others], params)
        take_turns([*leads.values(), *others], params)
    finally:
        stop_all([*leads.values(), *others])
    return leads, others


def _others(leads: Mapping[str, Contender], params: BenchmarkParams, scratch: Path) -> list[Contender]:
    """Every other cell that the params ask for, its process greeted; cells that come to the same are made once."""
    files = {name: onnx_file(lead, scratch) for name, lead in leads.items()} if _wants_onnx(params) else {}
    contenders: list[Contender] = []
    seen = {lead.cell for lead in leads.values()}
    engines = dict.fromkeys(("eager", *params.engines))
    for name, device, engine, precision in product(MODELS, params.devices, engines, params.precisions):
        if engine == "eager" and (device, precision) == (params.devices[0], params.precisions[0]):
            continue
        onnx = None if engine in OF_TORCH else files[name]
        if isinstance(onnx, str) and (device, precision) != (params.devices[0], params.precisions[0]):
            # One line says that there is no file.
            continue
        spec = replace(leads[name].spec, engine=engine, device=device, precision=precision, reference=False)
        spec = replace(spec, gpu=leads[name].hello["gpu_uuid"])
        if isinstance(onnx, Path):
            said = leads[name].hello
            spec = replace(spec, onnx=onnx, input_px=int(said["input_px"]), threads=int(said["machine"]["threads"]))
        made = Contender(spec, params.limit_s)
        if isinstance(onnx, str):
            made.drop(onnx)
        else:
            made.start()
            made.greet()
        if made.cell in seen:
            made.stop()
            continue
        seen.add(made.cell)
        contenders.append(made)
    return contenders


def _wants_onnx(params: BenchmarkParams) -> bool:
    return any(engine not in OF_TORCH for engine in params.engines)


def onnx_file(lead: Contender, scratch: Path) -> Path | str:
    """The student's own file, the teacher's as it is exported for this run alone, or why there is none.

    A process of its own exports it: what that takes is not the leading engine's memory, nor its end where it fails.
    """
    if lead.spec.model == "student":
        path = lead.spec.student / "model.onnx"
        return path if path.is_file() else "the student has no model.onnx"
    exporter = Contender(replace(lead.spec, device="cpu", precision="fp32", reference=False), lead.limit_s)
    try:
        exporter.start()
        exporter.greet()
        if exporter.why:
            return f"it cannot be exported: {exporter.why}"
        exporter.export(scratch / "teacher.onnx")
    except Unmeasured as reason:
        return f"it cannot be exported: {reason}"
    finally:
        exporter.stop()
    return scratch / "teacher.onnx"


def require_cached(found: Mapping[str, Any], cached: TeacherFacts) -> None:
    """Raise `EvaluationError` where the teacher that was loaded is not the one that the cache comes from."""
    if (found["name"], found["width"], found["input_px"]) != (cached.name, cached.width, cached.input_px):
        what = f"the cached answers are {cached.name}'s, {cached.width} channels at {cached.input_px} px"
        raise EvaluationError(what, where=f"teacher {found['name']}", fix="dvc repro tokens")


def _best(contender: Contender, slide_tiles: int) -> dict[str, Any]:
    """The rows, and of the batch size with the highest throughput its figures."""
    best = max(contender.rows, key=lambda row: row["tiles_per_s"])
    return {
        "tiles_per_s": best["tiles_per_s"],
        "slides_per_hour": 3600 * best["tiles_per_s"] / slide_tiles,
        "joules_per_tile": best["joules_per_tile"],
        "memory_mb": contender.rows[-1]["memory_mb"],
        "process_mb": contender.rows[-1]["process_mb"],
        "cosine": contender.cosine,
        "ready_s": contender.hello["ready_s"],
        "rows": contender.rows,
    }


def _facts(lead: Contender, slide_tiles: int) -> dict[str, Any]:
    """What is reported of a model: its costs and its leading figures; `why` says where larger batches failed."""
    if not lead.rows:
        raise EvaluationError(lead.why, where=f"the {lead.spec.model}, {lead.precision}", fix="smaller batch_sizes")
    facts = {key: lead.hello[key] for key in ("name", "params", "gmacs", "input_px")}
    return {**facts, **_best(lead, slide_tiles), "why": lead.why or None}


def _other(contender: Contender, slide_tiles: int) -> dict[str, Any]:
    """What is reported of another engine, precision or device: its figures, or nothing but why there are none."""
    cell = dict(zip(("model", "engine", "precision", "device"), contender.cell, strict=True))
    if contender.rows:
        return {**cell, **_best(contender, slide_tiles), "why": contender.why or None}
    return {**cell, "cosine": contender.cosine, "rows": [], "why": contender.why}


def _speedups(others: Sequence[Contender]) -> dict[str, dict[str, Any]]:
    """{engine_precision_device: speed-up} where both were measured there."""
    timed = {contender.cell: contender.rounds for contender in others if contender.rows}
    teachers = {cell[1:]: rounds for cell, rounds in timed.items() if cell[0] == "teacher"}
    return {
        "_".join(cell[1:]): speedup(teachers[cell[1:]], rounds)
        for cell, rounds in timed.items()
        if cell[0] == "student" and cell[1:] in teachers
    }
