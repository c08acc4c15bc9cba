"""Every Triton kernel compiles to a cubin for sm_90 (an H100's), which takes no GPU: Triton brings ptxas along.

In a process of its own, since the interpreter, where a test has set it, is chosen when Triton is first imported. It
says nothing about answers (interpreted.py does) or speed.
"""

import os
import subprocess
import sys

import pytest
from project import ROOT

CODE = """
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.dense_loss import kernel as dense_loss
from kernels.dequantise import kernel as dequantise
from kernels.epilogue import kernel as epilogue
from kernels.epilogue.reference import LEVELS, SCALE_MAX, SCALE_MIN

PLACE = {"D": 1000, "P": 1024}
STORE = {"LEVELS": LEVELS, "SCALE_MIN": SCALE_MIN, "SCALE_MAX": SCALE_MAX, "ROUND": epilogue._ROUND}
TERMS = {"COSINE": dense_loss.COSINE_WEIGHT, "EPS": dense_loss.EPS}
PATCH = "*bf16 i64 i64 *fp32 *fp32 *i8 *fp16 i32 i32 fp32 i32"
LOSS = "*bf16 *i8 *fp16 *fp32 *fp32 *fp32 *bf16 fp32 fp32 i32"
# Small and largest rotation, flags on and off; the types of the arguments before the constants.
KERNELS = {
    "patch": (epilogue._patch_kernel, PATCH, PLACE | STORE | {"NORM": True, "BLOCK": 8, "ROWS": 4}),
    "patch 64": (epilogue._patch_kernel, PATCH, PLACE | STORE | {"D": 1024, "NORM": False, "BLOCK": 64, "ROWS": 4}),
    "cls": (epilogue._cls_kernel, "*bf16 i64 *fp32 *fp32 *fp32 fp32", PLACE | {"BIAS": True}),
    "cls, no bias": (epilogue._cls_kernel, "*bf16 i64 *fp32 *fp32 *fp32 fp32", PLACE | {"BIAS": False}),
    "dequantise": (dequantise._kernel, "*i8 *fp16 *fp32 *fp32 i32 fp32", PLACE | {"BLOCK": 8, "ROWS": 4}),
    "dequantise 64": (dequantise._kernel, "*i8 *fp16 *fp32 *fp32 i32 fp32", PLACE | {"BLOCK": 64, "ROWS": 4}),
    "loss": (dense_loss._loss, LOSS, TERMS | {"B": 1024, "BLOCK": 8, "HAS_SCALE": True, "HAS_WEIGHT": True}),
    "loss 1": (dense_loss._loss, LOSS, TERMS | {"B": 1024, "BLOCK": 1, "HAS_SCALE": False, "HAS_WEIGHT": False}),
    "rescale": (dense_loss._rescale, "*bf16 *fp32 i32", {"B": 1024}),
    "norm": (dense_loss._norm, "*i8 *fp16 *fp32 i32", {"B": 1024, "HAS_SCALE": True}),
}

for name, (kernel, types, constants) in KERNELS.items():
    plain = [word for word in kernel.arg_names if word not in constants]
    signature = dict(zip(plain, types.split(), strict=True)) | dict.fromkeys(constants, "constexpr")
    signature = {word: signature[word] for word in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert compiled.asm["cubin"][:4] == b"\\x7fELF", name
    print(name)
"""


def test_every_kernel_compiles_for_sm_90(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {word: value for word, value in os.environ.items() if word != "TRITON_INTERPRET"}
    # A cache of its own: what is compiled here is compiled, not found.
    environment |= {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 10, done.stdout
