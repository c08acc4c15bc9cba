import json
import os
import re
import subprocess

import pytest
import torch
from made.python_server import loaded_python
from project import ROOT

from bench.kernels import agreement
from kernels.epilogue import reference

ENVIRONMENT = os.environ | ({} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"})

BENCHES = ("epilogue", "dequantise")
RUN = f"""
import pytest, runpy
files = ["tests/kernels/interpreted.py", "tests/kernels/interpreted_loss.py"]
failed = pytest.main(["-q", "-p", "no:cacheprovider", *files])
for name in {BENCHES}:
    print("bench:", name)
    runpy.run_module(f"bench.kernels.{{name}}", run_name="__main__")
raise SystemExit(failed)
"""


@pytest.fixture(scope="module")
def printed():
    """What the interpreted tests print, and each bench: one process, since Triton is set to its interpreter once."""
    pytest.importorskip("triton")
    done = subprocess.run(
        [loaded_python(), "-c", RUN], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(zip(("tests", *BENCHES), (part.splitlines() for part in done.stdout.split("bench: ")), strict=True))


def test_the_kernels_answer_as_their_references(printed):
    assert re.fullmatch(r"\d+ passed.*", printed["tests"][-1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="times the kernels")
@pytest.mark.parametrize("kernel", BENCHES)
def test_without_a_gpu_a_bench_checks_the_answers_and_says_that_it_measured_nothing(kernel, printed):
    told = json.loads(printed[kernel][-1])
    assert told["kernel"] == kernel and told["gate"] == "passed"
    assert told["measured"] is False and told["gpu"] == "not measured"
    assert all(row["kernel"] is None for row in told["rows"]) and "not measured" in printed[kernel][-3]


@pytest.mark.parametrize("wrong", ["ints", "scale", "cls", "nan"])
def test_the_gate_fails_a_kernel_that_is_wrong(wrong):
    def kernel(*arguments):
        cls_ND, q_NTD, scale_NT = reference.epilogue(*arguments)
        if wrong == "ints":
            q_NTD[0, 0] += 2
        elif wrong == "scale":
            scale_NT *= 1.01
        elif wrong == "cls":
            cls_ND += 1e-3
        else:
            scale_NT[0, 0] = torch.nan
        return cls_ND, q_NTD, scale_NT

    raw_NLD, (weight_D, bias_D, mu_D, sigma_D) = agreement.hidden_state(2, 10, 24, torch.float32, "cpu")
    folded = reference.fold(mu_D, sigma_D, 8, reference.Norm(weight_D, bias_D, 1e-6), 1)
    agreement.epilogue_agrees(reference.epilogue, raw_NLD, folded)
    with pytest.raises(AssertionError):
        agreement.epilogue_agrees(kernel, raw_NLD, folded)
