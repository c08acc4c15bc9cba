"""Another laboratory, another scanner: the student's tile changed on the device, its target as it is.

In the order in which they happen to a slide:

    stain      as another slide of the run (slide_stains.py), then each stain scaled and shifted: one map of densities
               (HED jitter: Tellez et al. 2018, "Whole-slide mitosis detection in H&E breast histology"; published
               ranges: `InputParams`)
    blur       a Gaussian, slightly out of focus
    colour     brightness, contrast, saturation
    noise      Gaussian, from a bank of numbers of which each tile takes a stretch from a place of its own
    jpeg       the file's compression

What a teacher answers to a changed tile is not asked: the target stays the clean tile's, since an embedding that does
not change with stain and scanner is what is wanted. What moves tissue (crops, turns) is not among them: that is what
views are for, each with the teacher's own answer (`pipeline.views`).

Nothing of it is fused on an eager device, so it costs memory traffic: `bench.student.terms` counts it.

Shapes: C = 3 colours, N tiles of this process, S = 3 stains, L slides, H = W input side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.corpus.loader import Batch
from pipeline.inputs.draws import BANK, CHANGE, Draws
from pipeline.inputs.optics import blurred, coloured, compressed, gaussian, jpeg_steps, stained
from pipeline.inputs.slide_stains import transfer
from pipeline.params.student import InputParams
from pipeline.views.stain import density_map

RECIPE_VERSION = 2
"""Raised with whatever makes a changed tile another, be it by rounding."""
_COLUMNS = ("tile", "transfer", "slide", *("gain",) * 3, *("shift",) * 3,
            "brightness", "contrast", "saturation", "blur", "noise", "place", "jpeg")  # fmt: skip
"""What is drawn for each tile; all of it whatever is switched on, so that a change moves no other's numbers."""
_SPARE = 1 << 20
"""Places at which a tile's stretch of noise may begin."""


@dataclass(frozen=True)
class Drawn:
    """The numbers of some tiles, each (n, columns of that name) in [0, 1)."""

    unit_NP: NDArray[np.float64]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """Of that name: (n,), or (n, 3) of a stain's."""
        at = [i for i, column in enumerate(_COLUMNS) if column == name]
        return self.unit_NP[:, at[0]] if len(at) == 1 else self.unit_NP[:, at]

    def around(self, name: str, most: float, centre: float = 1.0) -> NDArray[np.float64]:
        """Evenly within `centre` ± `most`."""
        return centre + most * (2 * self[name] - 1)


class Changes:
    """Of the batches of one training, on their device; `stain_L2S` are its slides' where tiles take another's."""

    def __init__(self, params: InputParams, draws: Draws, stain_L2S: NDArray[np.float64] | None) -> None:
        if params.stain_transfer > 0 and stain_L2S is None:
            raise ValueError("tiles are to be stained as another slide's, and no slide's stain is known")
        self.params, self.draws, self.stain_L2S = params, draws, stain_L2S
        self._noise: Tensor | None = None

    @torch.no_grad()
    def __call__(self, step: int, batch: Batch) -> Batch:
        """The batch of that step with changed images, floating and within 0 to 255, in torch's default dtype."""
        drawn = Drawn(self.draws.unit(self.draws.generator(step, CHANGE), len(_COLUMNS)))
        at = np.flatnonzero(drawn["tile"] < self.params.share)
        image_NHWC = batch.image_NHWC.to(torch.get_default_dtype())
        if not len(at):
            return replace(batch, image_NHWC=image_NHWC)
        whole = len(at) == len(image_NHWC)
        at_M = torch.from_numpy(at).to(image_NHWC.device)
        plane_CNHW = (image_NHWC if whole else image_NHWC[at_M]).permute(3, 0, 1, 2).contiguous()
        changed_CNHW = self._changed(plane_CNHW, Drawn(drawn.unit_NP[at]), batch.slide_N[at])
        changed_NHWC = changed_CNHW.clamp(0, 255).permute(1, 2, 3, 0).contiguous()
        return replace(batch, image_NHWC=changed_NHWC if whole else image_NHWC.index_copy(0, at_M, changed_NHWC))

    def _changed(self, plane_CNHW: Tensor, drawn: Drawn, slide_N: NDArray[np.int64]) -> Tensor:
        params = self.params

        def there(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values).to(plane_CNHW)

        if params.stain_scale or params.stain_shift or params.stain_transfer:
            matrix_NKC, shift_NC = density_map(*self._stain(drawn, slide_N))
            plane_CNHW = stained(plane_CNHW, there(matrix_NKC), there(shift_NC))
        if params.blur_sigma:
            plane_CNHW = blurred(plane_CNHW, there(gaussian(params.blur_sigma * drawn["blur"], params.blur_sigma)))
        if params.brightness or params.contrast or params.saturation:
            names = ("brightness", "contrast", "saturation")
            plane_CNHW = coloured(plane_CNHW, *(there(drawn.around(name, getattr(params, name))) for name in names))
        if params.noise_sigma:
            sigma_N = there(255 * params.noise_sigma * drawn["noise"])
            plane_CNHW = torch.addcmul(plane_CNHW, self._noise_at(drawn["place"], plane_CNHW), sigma_N[:, None, None])
        if params.jpeg_quality is not None:
            # A camera's levels end at black and white before they are compressed.
            quality_N = np.floor(params.jpeg_quality + drawn["jpeg"] * (101 - params.jpeg_quality))
            plane_CNHW = compressed(plane_CNHW.clamp(0, 255), there(jpeg_steps(quality_N)))
        return plane_CNHW

    def _stain(self, drawn: Drawn, slide_N: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(gain_NS, shift_NS): another slide's stain, then the jitter."""
        gain_NS, shift_NS = (
            drawn.around("gain", self.params.stain_scale),
            drawn.around("shift", self.params.stain_shift, 0),
        )
        slides = 0 if self.stain_L2S is None else len(self.stain_L2S)
        if self.stain_L2S is None or slides < 2:
            return gain_NS, shift_NS
        other_N = (slide_N + 1 + np.floor(drawn["slide"] * (slides - 1)).astype(np.int64)) % slides
        to_N = np.where(drawn["transfer"] < self.params.stain_transfer, other_N, slide_N)
        as_other_NS, moved_NS = transfer(self.stain_L2S, slide_N, to_N)
        return gain_NS * as_other_NS, gain_NS * moved_NS + shift_NS

    def _noise_at(self, place_N: NDArray[np.float64], like_CNHW: Tensor) -> Tensor:
        """Each tile's stretch of the bank, which is drawn once by the seed: the same on every device."""
        c, n, height, width = like_CNHW.shape
        length = c * height * width
        if self._noise is None:
            generator = self.draws.generator(0, BANK)
            self._noise = torch.from_numpy(generator.standard_normal(length + _SPARE, np.float32)).to(like_CNHW)
        first_N = torch.from_numpy(np.floor(place_N * _SPARE).astype(np.int64)).to(like_CNHW.device)
        return self._noise.unfold(0, length, 1)[first_N].view(n, c, height, width).transpose(0, 1)
