"""Costs of known models; real models in real engines and processes; what is wrong is not timed. Never a speed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pickle
import re
import signal
import subprocess
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from made.items import TEACHER
from made.processes import is_alive, until
from made.python_server import loaded_python
from made.slides import make_slide, tissue_picture
from safetensors.torch import save_file
from torch import nn

from pipeline.base.errors import EvaluationError
from pipeline.base.files import six_digits
from pipeline.base.items import UNKNOWN, TeacherFacts, TokensManifest
from pipeline.base.store import Store
from pipeline.benchmark import machine, memory
from pipeline.benchmark.contender import P99_REPEATS, Contender, worst_cosine
from pipeline.benchmark.contest import Contest, gate_images
from pipeline.benchmark.costs import gmacs
from pipeline.benchmark.manifest import BenchmarkManifest
from pipeline.benchmark.messages import (
    Costs,
    Done,
    Facts,
    Hello,
    HowMuch,
    Load,
    OnnxFile,
    Spec,
    Taken,
    Turn,
    Unmeasured,
)
from pipeline.benchmark.reading import LEAST, read_slides
from pipeline.benchmark.results import MODELS, Cell, Timing
from pipeline.benchmark.stage import Subjects, benchmark_models, leading, onnx_file, require_cached
from pipeline.benchmark.turns import ROUNDS, announce, planned_turn_s, take_rounds
from pipeline.params.benchmark import BenchmarkParams
from pipeline.params.tiles import TilesParams, TissueParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.sources import Source
from pipeline.teachers.engines.onnx_file import write_onnx

SIDE_PX, WIDTH = 32, 64
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 2, "num_heads": 4}
CACHED = TEACHER | {"name": "vit_tiny_patch16_224", "width": WIDTH, "input_px": SIDE_PX}


def test_multiply_adds_of_a_linear_and_a_convolution():
    assert gmacs(nn.Linear(300, 40), torch.zeros(7, 300)) == 7 * 300 * 40 / 1e9
    convolution = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert gmacs(convolution, torch.zeros(1, 3, 16, 16)) == 16 * 16 * 8 * 3 * 9 / 1e9


def test_attention_is_counted_although_its_kernel_is_fused():
    model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0)
    tokens, width = 197, 192
    products = tokens * width * width * (3 + 1 + 4 + 4) + 2 * tokens * tokens * width + 196 * 768 * width
    assert abs(gmacs(model.eval(), torch.zeros(1, 3, 224, 224)) * 1e9 / products - 1) < 1e-6


def export_student(folder: Path, seed: int) -> nn.Module:
    """A student as the stage `student` leaves it, without its ONNX file."""
    torch.manual_seed(seed)
    model = timm.create_model("test_efficientnet", num_classes=WIDTH).eval()
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    seen = {"input_size": [3, SIDE_PX, SIDE_PX], "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": WIDTH}
    config = {"architecture": "test_efficientnet", "num_classes": WIDTH, "pretrained_cfg": seen}
    (folder / "config.json").write_text(json.dumps(config))
    return model


def export_onnx(model: nn.Module, path: Path) -> None:
    write_onnx(model, SIDE_PX, path)


def gate_answers(model: nn.Module) -> np.ndarray:
    """What PyTorch answers to the gate's images."""
    image_NHWC = torch.from_numpy(gate_images(SIDE_PX)).float()
    with torch.inference_mode():
        return model((image_NHWC.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).numpy()


def spec_of(folder: Path, **more: object) -> Spec:
    """The student's ONNX file in ONNX Runtime."""
    spec = Spec("student", "onnxruntime", "cpu", "auto", folder, TokensParams(), Store(folder), 512)
    return replace(spec, onnx=OnnxFile(folder / "model.onnx", SIDE_PX, (0.5,) * 3, (0.5,) * 3), **more)


def test_every_cell_is_measured_or_says_why_not(tmp_path):
    """One run of all engines: a process for each takes seconds to start."""
    torch.manual_seed(9)
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT).state_dict(), tmp_path / "t.safetensors")
    teacher = TokensParams(teacher="vit_tiny_patch16_224", weights=str(tmp_path / "t.safetensors"), model_kwargs=VIT)
    model = export_student(tmp_path / "student", seed=0)
    export_onnx(model, tmp_path / "student" / "model.onnx")
    engines = ("onnxruntime", "tensorrt")
    wanted = {"engines": engines, "precisions": ("fp32",), "devices": ("cpu",)}
    params = BenchmarkParams(batch_sizes=(3, 1), seconds=0.02, slide_tiles=100, **wanted)
    tokens, store = TokensManifest(recipe={"teacher": CACHED}), Store(tmp_path / "store")
    slide = make_slide(tmp_path / "slide.tif", tissue_picture(800, 600), kind="jpeg-rgb", tile_px=64)
    sources = [
        Source("folder", "folder", tmp_path),
        Source("one", "file", slide),
        Source("gone", "file", tmp_path / "no"),
    ]
    tiles = TilesParams(tile_px=64, tissue=TissueParams(mask_mpp=4, min_area_mm2=0.001))
    subjects = Subjects(tmp_path / "student", teacher, store, 512, sources, tiles)
    made = benchmark_models(tokens, subjects, params, tmp_path / "plots")
    assert str(tmp_path) not in made.model_dump_json(), "a manifest holds no machine's path"
    made = BenchmarkManifest.model_validate_json(made.model_dump_json())
    found, numbers = made.summary, made.numbers()
    for name in MODELS:
        lead = found.lead(name)
        assert [row.batch for row in lead.rows] == [1, 3]
        assert all(row.repeats >= ROUNDS for row in lead.rows)
        assert all(0 < row.latency_ms_p50 <= row.latency_ms_p90 for row in lead.rows)
        assert all((row.latency_ms_p99 is None) == (row.repeats < P99_REPEATS) for row in lead.rows)
        assert numbers[f"{name}_slides_per_hour"] == pytest.approx(36 * lead.best.tiles_per_s, rel=1e-4)
        assert 0 < lead.rows[0].memory_mb <= lead.rows[1].memory_mb < lead.last.process_mb
        assert lead.cosine == 1.0 and lead.best.tiles_per_s == max(row.tiles_per_s for row in lead.rows)
        whole = found.whole[name]
        assert whole.slides == 1 and whole.tiles >= ROUNDS * LEAST and whole.an_hour.n == ROUNDS
        alone = max(cell.best.tiles_per_s for cell in found.cells if cell.model == name and cell.rows)
        assert whole.model_ms == pytest.approx(1e3 / alone, rel=1e-4) and 0 < whole.reading_share < 1
        assert whole.an_hour.value < 36 * alone
        span = whole.an_hour.span
        assert span.low <= whole.an_hour.value <= span.high
        assert numbers[f"{name}_whole_slides_per_hour"] == pytest.approx(whole.an_hour.value, rel=1e-4)
    # Pages are made from these: where they change, the manifest's version is raised.
    row = "batch joules_per_tile latency_ms_p50 latency_ms_p90 latency_ms_p99 memory_mb process_mb repeats tiles_per_s"
    cell = "cosine device engine model precision ready_s rows why"
    form = (made.version, sorted(Cell.model_fields), sorted(Timing.model_fields))
    assert form == (4, cell.split(), row.split())
    weights = sum(p.numel() for p in model.parameters())
    assert found.models["student"].params == numbers["student_params"] == weights
    header, *lines = (tmp_path / "plots" / "latency.csv").read_text().splitlines()
    assert "teacher_tiles_per_s" in header and "student_ms_p99" in header and len(lines) == 2
    cells = {(cell.model, cell.engine): cell for cell in found.others}
    assert set(cells) == {(name, engine) for name in MODELS for engine in engines}
    for (_, engine), cell in cells.items():
        if engine != "tensorrt" and importlib.util.find_spec(engine):
            assert cell.why is None and cell.cosine > 0.9999 and cell.last.memory_mb > 0
            ratio = next(speedup.ratio for speedup in found.speedups if speedup.engine == engine)
            assert 0 < ratio.span.low <= ratio.value <= ratio.span.high
            assert numbers[f"speedup_{engine}_fp32_cpu"] == ratio.value
        else:
            assert cell.rows == () and re.search("not installed|cannot be imported|NVIDIA GPU", cell.why)


def test_where_no_slide_can_be_read_it_says_why(tmp_path):
    (tmp_path / "no.tif").write_bytes(b"no slide")
    sides = dict.fromkeys(MODELS, SIDE_PX)
    said = [
        read_slides(slides, TilesParams(), sides).why
        for slides in ([], [Source("a", "folder", tmp_path)], [Source("a", "file", tmp_path / "no.tif")])
    ]
    assert said[:2] == ["none of the run's slides is here", "the run's images are in folders"]
    assert said[2].startswith("no slide could be read: ") and "OpenSlide" in said[2]


def test_a_teacher_whose_features_alone_are_here_is_timed_without_its_weights(tmp_path):
    """UNI, cut to one block and to a narrow layer in it."""
    tokens = TokensParams(teacher="uni", model_kwargs={"depth": 1, "mlp_ratio": 0.25})
    subjects = Subjects(tmp_path / "student", tokens, Store(tmp_path / "store"), 512)
    facts = {"name": "uni", "weights_digest": UNKNOWN, "width": 1024, "grid": (14, 14), "input_px": 224}
    cached, params = TeacherFacts.model_validate(facts), BenchmarkParams(precisions=("fp32",), devices=("cpu",))
    spec = leading(subjects, params, cached)["teacher"]
    said = [Contest(spec).hello() for _ in range(2)]
    require_cached(said[0].facts, cached)
    assert said[0].facts.costs.params > 5_000_000 and not said[0].facts.costs.weights
    # Every process has the same ones, since their answers are compared.
    assert np.array_equal(said[0].answer_ND, said[1].answer_ND)
    assert leading(subjects, params, cached.model_copy(update={"weights_digest": "d"}))["teacher"].weights


def test_a_wrong_answer_is_not_timed(tmp_path):
    pytest.importorskip("onnxruntime")
    model = export_student(tmp_path / "student", seed=0)
    # Another student's ONNX file: plausible, and wrong.
    export_onnx(export_student(tmp_path / "other", seed=1), tmp_path / "student" / "model.onnx")
    wrong = Contender(spec_of(tmp_path / "student"))
    wrong.meet()
    wrong.gate(gate_answers(model))
    assert wrong.cosine < 0.99 and "not the model's" in wrong.why
    take_rounds([wrong], BenchmarkParams())
    assert wrong.rows == ()


def test_an_engine_that_dies_leaves_its_reason_and_no_error(tmp_path):
    pytest.importorskip("onnxruntime")
    export_onnx(export_student(tmp_path / "student", seed=0), tmp_path / "student" / "model.onnx")
    killed, broken = Contender(spec_of(tmp_path / "student")), Contender(spec_of(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"no ONNX file")
    broken.meet()
    killed.start()
    killed._receive(Hello, "loading it")
    preferred = Path(f"/proc/{killed._process.pid}/oom_score_adj")
    assert not preferred.exists() or preferred.read_text().strip() == "1000"
    killed._process.kill()
    with pytest.raises(Unmeasured, match="its process was ended by SIGKILL, as where memory runs out"):
        killed._ask(Turn(3600.0), Taken)
    assert "InvalidProtobuf" in broken.why


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc who runs")
def test_a_benchmark_that_is_killed_leaves_no_engine_running(tmp_path):
    pytest.importorskip("onnxruntime")
    export_onnx(export_student(tmp_path / "student", seed=0), tmp_path / "student" / "model.onnx")
    program = """if __name__ == "__main__":
        import pickle, sys
        from pipeline.benchmark.contender import P99_REPEATS, Contender
        contender = Contender(pickle.loads(bytes.fromhex(sys.argv[1])))
        from pipeline.benchmark.messages import Done, Hello, Load, Taken, Turn
        contender.start(), contender._receive(Hello, "it"), contender._ask(Load(1, 1.0), Done)
        print(contender._process.pid, flush=True)
        contender._ask(Turn(3600.0), Taken)"""
    (tmp_path / "run.py").write_text(textwrap.dedent(program))
    command = [loaded_python(), tmp_path / "run.py", pickle.dumps(spec_of(tmp_path / "student")).hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as killed:
        engine = int(killed.stdout.readline())
        killed.kill()
    try:
        until(lambda: not is_alive(engine), 0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine, signal.SIGKILL)


def test_an_engine_whose_benchmark_is_gone_ends_without_a_traceback(tmp_path, capfd):
    pytest.importorskip("onnxruntime")
    export_onnx(export_student(tmp_path / "student", seed=0), tmp_path / "student" / "model.onnx")
    contender = Contender(spec_of(tmp_path / "student"))
    contender.start()
    contender._receive(Hello, "loading it")
    contender._ask(Load(1, 1.0), Done)
    contender._pipe.send(Turn(0.2))
    contender._pipe.close()
    contender._process.join()
    assert contender._process.exitcode == 0 and "Traceback" not in capfd.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_an_engine_of_one_batch_size_is_made_for_each(tmp_path):
    """As it would be deployed: nothing is timed that was padded. Its answers are the model's, and it is measured."""
    model = export_student(tmp_path / "student", seed=0)
    export_onnx(model, tmp_path / "student" / "model.onnx")
    spec = replace(spec_of(tmp_path / "student"), engine="openvino")
    contest = Contest(spec)
    for batch in (1, 3):
        contest.answer(Load(batch, 1.0))
        assert contest._engine.batch_size == batch and len(contest._embedding()) == batch
        assert contest.answer(HowMuch()).own_mb > 0
    contender = Contender(spec)
    contender.meet()
    contender.gate(gate_answers(model))
    contender.round([1, 3], 0.01)
    assert contender.why == "" and contender.cosine > 0.9999
    assert [row.batch for row in contender.rows] == [1, 3] and contender.rows[1].memory_mb > 0


def test_an_engine_that_takes_too_long_costs_no_other_its_figures(tmp_path, capsys):
    """In ONNX Runtime, whose process starts in a fifth of the time of PyTorch's."""
    pytest.importorskip("onnxruntime")
    export_onnx(export_student(tmp_path / "student", seed=0), tmp_path / "student" / "model.onnx")
    spec = spec_of(tmp_path / "student")
    quick, slow, never = Contender(spec), Contender(spec, 300.0), Contender(spec, 0.001)
    for contender in (quick, slow, never):
        contender.meet()
    assert never.why == "loading or compiling it took more than 0.001 s (benchmark.limit_s)"
    assert not never._process.is_alive()
    params = BenchmarkParams(batch_sizes=(1, 2), seconds=0.01)
    announce([quick, slow, never], params)
    slow.limit_s = 1e-6
    take_rounds([quick, slow, never], params)
    assert [row.batch for row in quick.rows] == [1, 2] and slow.rows == never.rows == ()
    assert [len(turns) for turns in quick.rounds.values()] == [ROUNDS, ROUNDS]
    assert slow.why == "loading or compiling it took more than 1e-06 s (benchmark.limit_s)"
    # Who ends a long run has what was measured so far.
    told = capsys.readouterr().err
    assert f"2 models in engines, one at a time, 2 batch sizes, {ROUNDS} rounds: about" in told
    assert re.search(r"student, onnxruntime fp32 on cpu: \S+ ms for a batch of 1, \S+ ms for a batch of 2", told)


def test_one_contender_at_a_time_is_in_memory_and_a_batch_too_large_costs_it_no_smaller_one(tmp_path):
    export_student(tmp_path / "student", seed=0)
    spec = replace(spec_of(tmp_path / "student"), engine="eager", onnx=None)
    both, together, done = [Contender(spec), Contender(spec)], [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            pids = [contender._process.pid for contender in both if contender._process is not None]
            together[0] = max(together[0], sum(pid is not None and is_alive(pid) for pid in pids))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for contender in both:
            contender.meet()
        take_rounds(both, BenchmarkParams(batch_sizes=(1, 10**9), seconds=0.01))
    finally:
        done.set()
        watching.join()
    assert together == [1]
    for contender in both:
        assert [row.batch for row in contender.rows] == [1] and len(contender.rounds[1]) == ROUNDS
        assert contender.why == "" and "batch 1000000000: " in contender.cell.why


def test_an_export_that_fails_leaves_the_leading_engine_running(tmp_path):
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT).state_dict(), tmp_path / "t.safetensors")
    teacher = TokensParams(teacher="vit_tiny_patch16_224", weights=str(tmp_path / "t.safetensors"), model_kwargs=VIT)
    spec = Spec("teacher", "eager", "cpu", "auto", tmp_path, teacher, Store(tmp_path / "store"), 512, reference=True)
    lead = Contender(spec)
    lead.meet()
    assert "it cannot be exported: " in onnx_file(lead, tmp_path / "no such folder")
    lead.round([1], 0.01)
    assert lead.why == "" and [row.batch for row in lead.rows] == [1]


@pytest.mark.parametrize(
    ("pass_s", "seconds", "passes"),
    [(0.001, 1.0, 2 + 1000), (0.01, 0.2, 2 + 20), (0.1, 0.15, 2 + 2), (1.0, 0.2, 1 + 1), (50.0, 0.2, 1 + 1)],
)
def test_a_turn_costs_its_time_and_slow_passes_are_few(pass_s, seconds, passes):
    assert planned_turn_s(pass_s, seconds) == pytest.approx(passes * pass_s)


def test_a_student_without_an_onnx_file_is_named(tmp_path):
    lead = Contender(replace(spec_of(tmp_path), engine="eager", onnx=None, reference=True))
    assert onnx_file(lead, tmp_path) == "the student has no model.onnx"


def test_another_teacher_than_the_cached_one_is_refused():
    costs = Costs(name=CACHED["name"], params=1, gmacs=1.0, input_px=SIDE_PX)
    facts = Facts(costs, WIDTH, (0.5,) * 3, (0.5,) * 3, np.zeros((1, WIDTH), np.float32), machine.describe(), None)
    with pytest.raises(EvaluationError, match="cached answers are uni's, 1024 channels"):
        require_cached(facts, TeacherFacts.model_validate(TEACHER | {"name": "uni", "width": 1024, "input_px": 224}))


def test_a_constant_answer_is_far_from_any_model_although_its_raw_cosine_is_near():
    random = np.random.default_rng(0)
    want_ND = (random.normal(size=(8, 16)) + 10).astype(np.float32)
    constant_ND = np.repeat(want_ND.mean(0, keepdims=True), 8, axis=0)
    raw = (want_ND * constant_ND).sum(1) / np.linalg.norm(want_ND, axis=1) / np.linalg.norm(constant_ND, axis=1)
    assert raw.min() > 0.98 and worst_cosine(constant_ND, want_ND) < 0.1
    assert worst_cosine(want_ND, want_ND) == pytest.approx(1)
    assert worst_cosine(np.full_like(want_ND, np.nan), want_ND) == -1


def test_the_machine_is_described_without_its_name():
    import socket

    found = machine.describe()
    assert found.cpu and found.threads >= 1 and found.versions["torch"]
    assert socket.gethostname() not in str(found)


def test_memory_that_was_held_is_in_the_peak():
    before = memory.peak_mb()
    held = np.ones(4_000_000)
    during = memory.resident_mb()
    del held
    # The kernel counts a process's pages per core and adds them up a little late.
    assert memory.peak_mb() >= max(before, during) - 2 > 30


def test_six_digits_reach_every_float():
    assert six_digits({"a": [1 / 3, (2e-9 / 3,)], "n": 7, "s": "x"}) == {
        "a": [0.333333, [6.66667e-10]],
        "n": 7,
        "s": "x",
    }
