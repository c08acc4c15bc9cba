"""What each way of storing patch tokens loses, on a teacher's own tokens.

Half of the tiles (every other one) give the channels' mean and deviation, as the tokens stage takes them; the tokens of
the other half are stored and read back. Errors are those of the standardised token z, whatever was stored:

    relative L2   ||z' - z|| / ||z|| over all tokens together
    1 - cosine    per token, its mean, and its mean over the worst hundredth of the tokens

The default (`int8, standardised, rotated`) is the kernels' own reference, not a copy. Without arguments the demo's
teacher on demo slides 5 and 6, which it was not trained on; `--synthetic` takes noise with what ViTs have and a small
one may lack: massive channels, and tokens of many times the others' length.

Run: python -m bench.tokens.patch_storage [--teacher NAME --weights FILE --images FOLDER]; the last line is JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.printing import finish, show
from kernels.dequantise import dequantise
from kernels.epilogue import fold, quantise, standardise
from kernels.hadamard.blocks import block_of
from kernels.hadamard.reference import signs_over, transform
from pipeline.base.store import Store
from pipeline.params.load import load_params
from pipeline.params.tokens import TokensParams
from pipeline.params.whole import WholeParams
from pipeline.slides.images import list_images
from pipeline.teachers.demo import read_slide
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.statistics import Calibration, measure
from pipeline.tiles.pixels import decode_jpeg

HELD_OUT_DEMO = (5, 6)
DEFAULT = "int8, standardised, rotated"
_BATCH, _GROUP = 16, 64
_FP8_MAX, _INT4_MAX = 448.0, 7.0


@dataclass(frozen=True)
class Tokens:
    """Tokens that were not calibrated on, (M, D): `x` the teacher's, `z` standardised by (mu, sigma)."""

    x_MD: Tensor
    z_MD: Tensor
    mu_D: Tensor
    sigma_D: Tensor

    @property
    def width(self) -> int:
        return int(self.x_MD.shape[1])


def fp16(tokens: Tokens) -> tuple[Tensor, float]:
    """Each scheme: the standardised token that is read back, and bytes an element."""
    return tokens.z_MD.half().float(), 2.0


def int8_raw(tokens: Tokens) -> tuple[Tensor, float]:
    """As the teacher says it, one scale a token."""
    ints = quantise(tokens.x_MD, fold(torch.zeros(tokens.width), torch.ones(tokens.width), 1))
    return standardise(dequantise(*ints), tokens.mu_D, tokens.sigma_D), 1 + 2 / tokens.width


def int8(tokens: Tokens) -> tuple[Tensor, float]:
    """Standardised, not rotated."""
    return _int8(tokens, 1)


def int8_rotated(tokens: Tokens) -> tuple[Tensor, float]:
    """The default layout."""
    return _int8(tokens, block_of(tokens.width))


def fp8(tokens: Tokens) -> tuple[Tensor, float]:
    """E4m3 of the standardised token, one scale a token."""
    scale_M1 = _scale(tokens.z_MD, _FP8_MAX)
    return (tokens.z_MD / scale_M1).to(torch.float8_e4m3fn).float() * scale_M1, 1 + 2 / tokens.width


def int4(tokens: Tokens) -> tuple[Tensor, float]:
    """Standardised, one scale a group of 64 channels (of all where they are fewer, or no multiple)."""
    return _int4(tokens.z_MD)


def int4_rotated(tokens: Tokens) -> tuple[Tensor, float]:
    """Rotated first."""
    block = block_of(tokens.width)
    signs_D = signs_over(tokens.width, block)
    back_MD, nbytes = _int4(transform(tokens.z_MD * signs_D, block))
    return transform(back_MD, block) * signs_D / block, nbytes


SCHEMES: dict[str, Callable[[Tokens], tuple[Tensor, float]]] = {
    "fp16, standardised": fp16,
    "int8": int8_raw,
    "int8, standardised": int8,
    DEFAULT: int8_rotated,
    "fp8 e4m3, standardised": fp8,
    "int4 by 64, standardised": int4,
    "int4 by 64, standardised, rotated": int4_rotated,
}


def losses(tokens: Tokens) -> list[dict[str, float | str]]:
    """A row of figures for each scheme."""
    rows: list[dict[str, float | str]] = []
    for name, scheme in SCHEMES.items():
        back_MD, nbytes = scheme(tokens)
        apart_M = 1 - torch.cosine_similarity(back_MD.double(), tokens.z_MD.double(), dim=-1)
        worst = apart_M.sort(descending=True).values[: max(1, len(apart_M) // 100)]
        rows.append(
            {
                "scheme": name,
                "bytes_per_element": nbytes,
                "relative_l2": float((back_MD - tokens.z_MD).norm() / tokens.z_MD.norm()),
                "one_minus_cosine": float(apart_M.mean()),
                "worst_hundredth": float(worst.mean()),
            }
        )
    return rows


def split_halves(patch_NTD: Tensor, where: str) -> Tokens:
    """Calibrate on every other tile as the stage does, and keep the tokens of the others."""
    frozen: Calibration = measure([patch_NTD[1::2]], where)
    mu_D, sigma_D = torch.from_numpy(frozen.mu), torch.from_numpy(frozen.sigma)
    x_MD = patch_NTD[::2].flatten(0, 1)
    return Tokens(x_MD, standardise(x_MD, mu_D, sigma_D), mu_D, sigma_D)


def teacher_tokens(params: WholeParams, store: Store, images: Path | None, n_tiles: int) -> Tensor:
    """The teacher's patch tokens of up to `n_tiles` evenly spread images, (N, T, D) float32, in fp32 on the CPU."""
    demo_px = params.slides.demo_px
    teacher = load_teacher(params.tokens, store, demo_px)
    side = teacher.input_px
    tiles = list(demo_tiles(demo_px, side, store)) if images is None else folder_tiles(images, n_tiles, side)
    chosen = np.stack(tiles)[:: max(1, len(tiles) // n_tiles)][:n_tiles]
    parts = []
    with torch.inference_mode():
        for start in range(0, len(chosen), _BATCH):
            image_NHWC = torch.from_numpy(chosen[start : start + _BATCH])
            parts.append(teacher(teacher.normalise(image_NHWC))[1])
    return torch.cat(parts)


def folder_tiles(folder: Path, n_tiles: int, side_px: int) -> list[NDArray[np.uint8]]:
    """Evenly spread images of a folder, resized to the teacher's side."""
    paths = [folder / name for name, _ in list_images(folder)]
    return [decode_jpeg(path.read_bytes(), side_px) for path in paths[:: max(1, len(paths) // n_tiles)]]


def demo_tiles(demo_px: int, side_px: int, store: Store) -> Iterator[NDArray[np.uint8]]:
    """The grid of tiles of the held-out demo slides whose centre is tissue."""
    for number in HELD_OUT_DEMO:
        rgb_HWC, label_HW = read_slide(number, demo_px, store)
        for top in range(0, rgb_HWC.shape[0] - side_px + 1, side_px):
            for left in range(0, rgb_HWC.shape[1] - side_px + 1, side_px):
                if label_HW[top + side_px // 2, left + side_px // 2]:
                    yield rgb_HWC[top : top + side_px, left : left + side_px]


def synthetic_tokens() -> Tensor:
    """Seeded noise like a large ViT's: uneven channels, four massive ones, one token in a hundred 6 times as long."""
    generator = torch.Generator().manual_seed(0)
    scale_D = torch.exp(0.3 * torch.randn(1024, generator=generator))
    scale_D[:4] *= 80
    patch_NTD = torch.randn(40, 100, 1024, generator=generator) * scale_D
    patch_NTD[:, 0] *= 6
    return patch_NTD


def _int8(tokens: Tokens, block: int) -> tuple[Tensor, float]:
    ints = quantise(tokens.x_MD, fold(tokens.mu_D, tokens.sigma_D, block))
    return dequantise(*ints, block), 1 + 2 / tokens.width


def _int4(z_MD: Tensor) -> tuple[Tensor, float]:
    group = _GROUP if z_MD.shape[1] % _GROUP == 0 else z_MD.shape[1]
    z_MGB = z_MD.reshape(len(z_MD), -1, group)
    scale_MG1 = _scale(z_MGB, _INT4_MAX)
    steps_MGB = (z_MGB / scale_MG1).round().clamp(-_INT4_MAX, _INT4_MAX)
    return (steps_MGB * scale_MG1).flatten(1), 0.5 + 2 / group


def _scale(z: Tensor, largest: float) -> Tensor:
    """float16 scales over the last axis by which the largest entry becomes `largest`."""
    return (z.abs().amax(-1, keepdim=True) / largest).clamp(min=2.0**-14).half().float()


def main() -> None:
    """Compute, print the table and the last line."""
    parser = argparse.ArgumentParser(description="What each way of storing patch tokens loses.")
    parser.add_argument("--teacher", default="demo", help="demo, or a timm name")
    parser.add_argument("--weights", help="its safetensors file")
    parser.add_argument("--images", type=Path, help="a folder of images to take as tiles")
    parser.add_argument("--tiles", type=int, default=160, help="how many, half of them to calibrate on")
    parser.add_argument("--synthetic", action="store_true", help="noise with massive channels, no teacher")
    options = parser.parse_args()
    if options.teacher != "demo" and options.images is None and not options.synthetic:
        parser.error("--teacher needs --images: a folder of tiles")
    base = load_params(WholeParams) if Path("params.yaml").exists() else WholeParams()
    params = base.model_copy(update={"tokens": TokensParams(teacher=options.teacher, weights=options.weights)})
    if options.synthetic:
        patch_NTD, name = synthetic_tokens(), "synthetic"
    else:
        store = Store.find(params.store.root)
        patch_NTD, name = teacher_tokens(params, store, options.images, options.tiles), options.teacher
    tokens = split_halves(patch_NTD, name)
    rows = losses(tokens)
    title = (
        f"{len(tokens.x_MD)} tokens of {name}, {tokens.width} channels, rotated in blocks of {block_of(tokens.width)}"
    )
    keys = ("scheme", "bytes_per_element", "relative_l2", "one_minus_cosine", "worst_hundredth")
    columns = ("scheme", "bytes an element", "relative L2", "1 - cosine", "worst hundredth")
    show(title, columns, [tuple(row[key] for key in keys) for row in rows])
    (default,) = (row for row in rows if row["scheme"] == DEFAULT)
    told = {"teacher": name, "width": tokens.width, "tokens": len(tokens.x_MD), "schemes": rows}
    told |= {"relative_l2": default["relative_l2"], "cosine": 1 - float(default["one_minus_cosine"])}
    finish(told)


if __name__ == "__main__":
    main()
