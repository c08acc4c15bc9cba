"""`compile`: the trunk through torch.compile, one graph for one batch shape.

On a GPU with the mode `max-autotune`, whose CUDA graphs leave the CPU out of it; a smaller batch is filled up with
zeros, since every other shape would be compiled and recorded again. On a CPU it works (Inductor writes C++), but
compiling takes 17 to 41 s, so `auto` never takes it there. Has not run on a GPU yet.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.base.errors import EngineError, first_line
from pipeline.teachers.engines.base import convolutions_in
from pipeline.teachers.engines.lowered import lowered
from pipeline.teachers.network import Network


class Compiled:
    """Normalising and the trunk as one compiled graph, under bf16 autocast where the precision says so.

    `backend` is torch.compile's; any but Inductor runs the same graph without compiling it.
    """

    name = "compile"

    def __init__(
        self, network: Network, device: torch.device, precision: str, batch_size: int, *, backend: str = "inductor"
    ) -> None:
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self._network = network.to(device).in_fastest_layout()
        self._trunk = lowered(network.trunk) if precision == "bf16" else network.trunk
        mode = "max-autotune" if device.type == "cuda" and backend == "inductor" else None
        self._run = torch.compile(self._forward, mode=mode, dynamic=False, backend=backend)

    @torch.inference_mode()
    def __call__(self, image_NHWC: Tensor) -> Tensor:
        """The trunk's answer for at most `batch_size` uint8 images (N, H, W, 3) on the engine's device."""
        n = len(image_NHWC)
        if n < self.batch_size:
            image_NHWC = F.pad(image_NHWC, (0, 0) * 3 + (0, self.batch_size - n))
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            # Around the graph and not in it: what is compiled and recorded at the first call is what is set here.
            with convolutions_in(self.precision):
                raw: Tensor = self._run(image_NHWC)
        except torch._dynamo.exc.TorchDynamoException as error:
            first = first_line(error)
            what, fix = (
                f"torch.compile cannot compile it: {first}",
                "set `tokens.engine: eager`; is a C++ compiler there?",
            )
            raise EngineError(what, where=self._network.where, fix=fix) from error
        return raw[:n]

    def _forward(self, image_NHWC: Tensor) -> Tensor:
        image_NCHW = self._network.normalise(image_NHWC).contiguous(memory_format=self._network.memory_format)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            raw: Tensor = self._trunk(image_NCHW)
        return raw
