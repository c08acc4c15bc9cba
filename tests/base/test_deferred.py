"""What a stage loads of torch: not its compiler, nor other libraries that most runs have no use for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

from pipeline.base.deferred import _uncompiled

ROOT = Path(__file__).parents[2]
SPARED = ("torch._dynamo", "torch._inductor", "sympy", "sklearn", "scipy.stats", "scipy.optimize", "h5py")


def test_stages_with_torch_start_without_its_compiler() -> None:
    code = f"""
import sys
import stages.tokens, stages.student, stages.evaluate
found = [name for name in {SPARED} if name in sys.modules]
from torchvision.ops import roi_align
sys.exit(f'loaded: {{found}}' if found else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_kept_out_of_graphs_stays_out_of_them() -> None:
    seen = []

    @_uncompiled
    def noted(image: Tensor) -> Tensor:
        seen.append(torch.compiler.is_compiling())
        return image + 1

    compiled = torch.compile(lambda image: noted(3 * image) * 2, backend="eager")
    assert compiled(torch.ones(2)).tolist() == [8.0, 8.0]
    assert seen == [False]
