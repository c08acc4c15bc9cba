"""What the models cost: parameters, multiply-adds, latency, throughput, memory, energy, all measured in one run.

Every model in every engine has a process of its own (`contender`), one at a time, and they take turns (`turns`), so
that whatever else the machine does meets all alike; a ratio is only ever taken from one run. Engines are the product's
own, and fp32 is real float32 for both models: TensorFloat-32 is off. The leading
figures are eager PyTorch's, in the first precision and on the first device of the params. No engine is timed before its
answers were compared with eager fp32's, and what cannot be measured stands there with the reason: an engine that fails
or takes too long costs no other its figures. Inputs are random images that are ready in memory; what reading slides
takes is measured beside it, and slides an hour are of both (`reading`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from pipeline.base.errors import EvaluationError
from pipeline.base.figures import NotMeasured
from pipeline.base.items import UNKNOWN, TeacherFacts, TokensManifest
from pipeline.base.partials import file_sha256
from pipeline.base.store import Store, recipe_key
from pipeline.base.types import Json
from pipeline.benchmark import machine
from pipeline.benchmark.contender import Contender, stop_all
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.messages import OF_FILES, Facts, OnnxFile, Spec, Unmeasured
from pipeline.benchmark.reading import Read, read_slides, whole_slides
from pipeline.benchmark.results import MODELS, Benchmark, Costs, Role, Speedup
from pipeline.benchmark.speedup import speedup
from pipeline.benchmark.tables import write_benchmark_plots
from pipeline.benchmark.turns import announce, take_rounds
from pipeline.params.benchmark import BenchmarkParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.sources import Source


@dataclass(frozen=True)
class Subjects:
    """What is measured: the exported student in a folder, and the teacher that the params name, its cache in `store`.

    `demo_px` is `slides.demo_px`: the demo teacher learns from demo slides of that side. `slides` are those that the
    run has tiled, as far as they are here, read as `tiles` says.
    """

    student: Path
    tokens: TokensParams
    store: Store
    demo_px: int
    slides: Sequence[Source] = ()
    tiles: TilesParams = field(default_factory=TilesParams)

    def read(self, models: Mapping[Role, Costs]) -> Read | NotMeasured:
        """What reading the slides takes."""
        return read_slides(self.slides, self.tiles, {name: costs.input_px for name, costs in models.items()})


@dataclass
class Field:
    """All contenders: the leading one of each model, and the others, each with its rows or with why it has none."""

    leads: dict[Role, Contender]
    others: list[Contender] = field(default_factory=list)

    def __iter__(self) -> Iterator[Contender]:
        yield from self.leads.values()
        yield from self.others


def benchmark_models(
    tokens: TokensManifest, subjects: Subjects, params: BenchmarkParams, plots: Path = Path("plots")
) -> BenchmarkManifest:
    """Measure the teacher that `tokens` was made with and the exported student; write latency.csv to `plots`.

    Summary: results.py. Not deterministic, by nature. Raises `EvaluationError` where the params name a teacher that the
    cache does not come from, or where a model does not run in eager PyTorch.
    """
    busy = machine.load()
    with tempfile.TemporaryDirectory(prefix="histill-benchmark-") as scratch:
        contenders = measure(subjects, params, tokens.teacher, Path(scratch))
    for lead in contenders.leads.values():
        if not lead.rows:
            where = f"the {lead.spec.model}, {lead.precision}"
            raise EvaluationError(lead.why, where=where, fix="smaller batch_sizes")
    models = {name: contenders.leads[name].facts.costs for name in MODELS}
    found = Benchmark(
        machine=contenders.leads["teacher"].facts.machine.model_copy(update={"load": busy}),
        slide_tiles=params.slide_tiles,
        models=models,
        cells=tuple(contender.cell for contender in contenders),
        speedups=tuple(_speedups(list(contenders))),
        whole=whole_slides(params.slide_tiles, list(contenders), subjects.read(models)),
    )
    recipe: dict[str, Json] = {
        "teacher": tokens.teacher.model_dump(mode="json"),
        "student": file_sha256(subjects.student / "model.safetensors")[:32],
        "benchmark": params.model_dump(mode="json"),
    }
    write_benchmark_plots(found, plots)
    return BenchmarkManifest(recipe_key=recipe_key(recipe), recipe=recipe, summary=found)


def measure(subjects: Subjects, params: BenchmarkParams, cached: TeacherFacts, scratch: Path) -> Field:
    """Time every cell that the params ask for; ONNX files are made in `scratch`."""
    specs = leading(subjects, params, cached)
    found = Field({name: Contender(spec, params.limit_s) for name, spec in specs.items()})
    try:
        for lead in found.leads.values():
            lead.meet()
            if lead.why:
                raise EvaluationError(f"eager PyTorch does not run it: {lead.why}", where=f"the {lead.spec.model}")
        require_cached(found.leads["teacher"].facts, cached)
        for contender in _others(found.leads, params, scratch):
            found.others.append(contender)
        for contender in found:
            contender.gate(found.leads[contender.spec.model].facts.reference_ND)
        for lead in found.leads.values():
            if lead.why:
                raise EvaluationError(lead.why, where=f"the {lead.spec.model}, {lead.precision}")
        announce(list(found), params)
        take_rounds(list(found), params)
    finally:
        stop_all(list(found))
    return found


def leading(subjects: Subjects, params: BenchmarkParams, cached: TeacherFacts) -> dict[Role, Spec]:
    """Both models in eager PyTorch; a teacher whose features alone are here without its weights."""
    shared = subjects.student, subjects.tokens, subjects.store, subjects.demo_px
    specs: dict[Role, Spec] = {
        name: Spec(name, "eager", params.devices[0], params.precisions[0], *shared, reference=True) for name in MODELS
    }
    if cached.weights_digest == UNKNOWN:
        specs["teacher"] = replace(specs["teacher"], weights=False)
    return specs


def _others(leads: Mapping[Role, Contender], params: BenchmarkParams, scratch: Path) -> Iterator[Contender]:
    """Every other cell that the params ask for, its process greeted; cells that come to the same are made once."""
    wants_file = any(engine in OF_FILES for engine in params.engines)
    files = {name: onnx_file(lead, scratch) for name, lead in leads.items()} if wants_file else {}
    seen = {(lead.spec.model, lead.cell.place) for lead in leads.values()}
    engines, first = dict.fromkeys(("eager", *params.engines)), (params.devices[0], params.precisions[0])
    for name, device, engine, precision in product(MODELS, params.devices, engines, params.precisions):
        if engine == "eager" and (device, precision) == first:
            continue
        file = files[name] if engine in OF_FILES else None
        if isinstance(file, str) and (device, precision) != first:
            # One line says that there is no file.
            continue
        spec = replace(leads[name].spec, engine=engine, device=device, precision=precision, reference=False)
        spec = replace(spec, gpu=leads[name].facts.gpu_uuid, onnx=None if isinstance(file, str) else file)
        made = Contender(spec, params.limit_s)
        if isinstance(file, str):
            made.drop(file)
        else:
            made.meet()
        if (name, made.cell.place) in seen:
            continue
        seen.add((name, made.cell.place))
        yield made


def onnx_file(lead: Contender, scratch: Path) -> OnnxFile | str:
    """The student's own file, the teacher's as it is exported for this run alone, or why there is none.

    A process of its own exports it: what that takes is not the leading engine's memory, nor its end where it fails.
    """
    if lead.spec.model == "student":
        path = lead.spec.student / "model.onnx"
        return _described(path, lead) if path.is_file() else "the student has no model.onnx"
    path = scratch / "teacher.onnx"
    spec = replace(lead.spec, device="cpu", precision="fp32", gate=False, reference=False)
    exporter = Contender(spec, lead.limit_s)
    try:
        exporter.export(path)
    except Unmeasured as reason:
        return f"it cannot be exported: {reason}"
    finally:
        exporter.stop()
    return _described(path, lead)


def _described(path: Path, lead: Contender) -> OnnxFile:
    """The file with what its images are, which is what the lead's are."""
    return OnnxFile(path, lead.facts.costs.input_px, lead.facts.mean, lead.facts.std)


def require_cached(found: Facts, cached: TeacherFacts) -> None:
    """Raise `EvaluationError` where the teacher that was loaded is not the one that the cache comes from."""
    costs = found.costs
    if (costs.name, found.width, costs.input_px) != (cached.name, cached.width, cached.input_px):
        what = f"the cached answers are {cached.name}'s, {cached.width} channels at {cached.input_px} px"
        raise EvaluationError(what, where=f"teacher {costs.name}", fix="dvc repro tokens")


def _speedups(contenders: Sequence[Contender]) -> Iterator[Speedup]:
    """Where both were measured, the leading engine first."""
    timed = [contender for contender in contenders if contender.rows]
    teachers = {c.cell.place: c.rounds for c in timed if c.spec.model == "teacher"}
    for contender in timed:
        engine, precision, device = place = contender.cell.place
        if contender.spec.model == "student" and place in teachers:
            ratio = speedup(teachers[place], contender.rounds)
            yield Speedup(engine=engine, precision=precision, device=device, ratio=ratio)
