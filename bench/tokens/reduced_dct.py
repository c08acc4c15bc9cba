"""What decoding at a reduced DCT scale (`tiles.reduced_dct`) does to a teacher's embeddings.

Tiles of one slide are made from level 0 alone: decoded whole and resized, as is the default; and decoded reduced, then
resized by what is left. Both are stored as JPEG as ever, and the teacher answers both. For scale, two rows beside it:
the default's tiles resized by Pillow's bicubic instead, and each tile against its neighbour in the order of rows.

    raw            cosine of the two embeddings
    standardised   the same after subtracting the default's mean and dividing by its deviation, each channel
    patch          standardised cosine of the patch tokens

Run: python -m bench.tokens.reduced_dct SLIDE --teacher NAME --weights FILE [--target-mpp M] [--mpp M] [--tiles N]
The target is twice the slide's own mpp unless it is said. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.clock import clock, ratios, since
from bench.printing import finish, show
from pipeline.base.errors import HistillError, SlideRefused
from pipeline.base.store import Store
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.read.reader import SlideReader
from pipeline.slides.read.reduced import ReducedReader
from pipeline.teachers.engines import Eager, Engine, pick_device, resolve_precision
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.teacher import Teacher
from pipeline.tiles.choice import choose
from pipeline.tiles.cutting import cut
from pipeline.tiles.grid import Geometry, geometry_of, spread_choice
from pipeline.tiles.pixels import decode_jpeg, encode_jpeg, resize
from pipeline.tiles.tissue.look import look


def measure(
    slide: Path, tokens: TokensParams, target_mpp: float | None, mpp: float | None, n_tiles: int
) -> dict[str, Any]:
    """All that is printed. Raises `SlideRefused` where the slide cannot be decoded reduced for that target."""
    teacher = load_teacher(tokens, Store.find(), demo_px=512)
    with ReducedReader(slide, mpp, alone=True) as reader:
        own_mpp = max(reader.mpp_xy)
        params = TilesParams(target_mpp=target_mpp or 2 * own_mpp, tile_px=teacher.input_px, min_sharpness=0)
        sizes = zip(reader.level_dimensions, reader.level_downsamples, strict=True)
        levels = [(width, height, downsample) for (width, height), downsample in sizes]
        whole, reduced = (geometry_of(offered, reader.mpp_xy, params) for offered in (levels[:1], levels))
        scale = reader.own(reduced.level)[1]
        if scale == 1:
            what = f"nothing to reduce from {own_mpp:.3g} to {params.target_mpp:.3g} um/px, or no JPEG tiles"
            raise SlideRefused(what, where=slide.name, fix="give a --target-mpp of at least twice the slide's own")
        # Corners on pixels of the reduced level are on pixels of level 0 too.
        choice = choose(reduced, look(reader, params).mask, params)
        drawn = spread_choice(len(choice.x_l0), n_tiles, params.seed)
        x_l0, y_l0, tissue = choice.x_l0[drawn], choice.y_l0[drawn], choice.tissue[drawn]
        tiles, taken = {}, {}
        for name, geometry in (("whole", whole), ("reduced", reduced)):
            began = clock()
            cuts = list(cut(reader, geometry, x_l0, y_l0, tissue, params.jpeg_quality))
            taken[name] = since(began)
            tiles[name] = [None if one.jpeg is None else decode_jpeg(one.jpeg) for one in cuts]
        tiles["pillow"] = _by_pillow(reader, whole, x_l0, y_l0, params.jpeg_quality)
    intact = [i for i, one in enumerate(tiles["whole"]) if one is not None]
    pixel_NHWC = {name: np.stack([one for i in intact if (one := some[i]) is not None]) for name, some in tiles.items()}
    device = pick_device()
    engine = Eager(teacher, device, resolve_precision(tokens.precision, device))
    answers = {name: _answers(teacher, engine, pixels, tokens.batch_size) for name, pixels in pixel_NHWC.items()}
    cls_ND, patch_NTD = answers["whole"]
    answers["neighbour"] = cls_ND.roll(1, 0), patch_NTD.roll(1, 0)
    pixel_NHWC["neighbour"] = np.roll(pixel_NHWC["whole"], 1, 0)
    rows = {
        name: {
            "psnr_db": _psnr(pixel_NHWC["whole"], pixel_NHWC[name]),
            "raw": _spread(_cosine(cls_ND, answers[name][0])),
            "standardised": _spread(_cosine(*_standard(cls_ND, answers[name][0]))),
            "patch": _spread(_cosine(*_standard(patch_NTD.flatten(0, 1), answers[name][1].flatten(0, 1)))),
        }
        for name in ("reduced", "pillow", "neighbour")
    }
    return {
        "teacher": teacher.name,
        "tiles": len(intact),
        "mpp": own_mpp,
        "target_mpp": params.target_mpp,
        "dct_scale": scale,
        "rows": rows,
        "cutting_ratio": ratios([taken["whole"]], [taken["reduced"]]),
    }


def _by_pillow(
    reader: SlideReader, geometry: Geometry, x_l0: NDArray[np.int64], y_l0: NDArray[np.int64], quality: int
) -> list[NDArray[np.uint8] | None]:
    """The same tiles by Pillow's antialiased bicubic, stored alike."""
    found: list[NDArray[np.uint8] | None] = []
    width, height = geometry.size_px
    side = geometry.tile_px
    for x, y in zip(x_l0.tolist(), y_l0.tolist(), strict=True):
        region_HWC = reader.read(geometry.level, x, y, int(np.ceil(width - 1e-6)), int(np.ceil(height - 1e-6)))
        tile_HWC = resize(region_HWC, (side, side), (0.0, 0.0, width, height))
        found.append(decode_jpeg(encode_jpeg(tile_HWC, quality)))
    return found


def _answers(teacher: Teacher, engine: Engine, image_NHWC: NDArray[np.uint8], batch_size: int) -> tuple[Tensor, Tensor]:
    """cls (N, D) and patch (N, T, D), float32 on the CPU."""
    batches = [torch.from_numpy(image_NHWC[i : i + batch_size]) for i in range(0, len(image_NHWC), batch_size)]
    answers = [teacher.finish(engine(batch.to(engine.device))) for batch in batches]
    cls_ND, patch_NTD = (torch.cat([part.float().cpu() for part in parts]) for parts in zip(*answers, strict=True))
    return cls_ND, patch_NTD


def _standard(reference_ND: Tensor, other_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Both, centred and divided by the deviation of the first; channels that never vary stay 0."""
    mean_D, std_D = reference_ND.mean(0), reference_ND.std(0)
    floor = 1e-3 * float(std_D.mean())
    return (reference_ND - mean_D) / std_D.clamp(min=floor), (other_ND - mean_D) / std_D.clamp(min=floor)


def _cosine(one_ND: Tensor, other_ND: Tensor) -> NDArray[np.float32]:
    cosine_N: NDArray[np.float32] = torch.nn.functional.cosine_similarity(one_ND, other_ND, dim=1).numpy()
    return cosine_N


def _spread(cosine_N: NDArray[np.float32]) -> dict[str, float]:
    return {"mean": round(float(cosine_N.mean()), 4), "p5": round(float(np.percentile(cosine_N, 5)), 4)}


def _psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    square = float(((one.astype(np.float32) - other.astype(np.float32)) ** 2).mean())
    return round(10 * float(np.log10(255**2 / max(square, 1e-6))), 1)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the effect of tiles.reduced_dct on a teacher's embeddings")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--teacher", required=True, help="a timm name")
    parser.add_argument("--weights", help="a local file for it")
    parser.add_argument("--model-kwargs", type=json.loads, default={}, help="JSON, as tokens.model_kwargs")
    parser.add_argument("--target-mpp", type=float)
    parser.add_argument("--mpp", type=float, help="of the slide, where it does not say")
    parser.add_argument("--tiles", type=int, default=200)
    args = parser.parse_args(arguments)
    tokens = TokensParams(teacher=args.teacher, weights=args.weights, model_kwargs=args.model_kwargs)
    try:
        found = measure(args.slide, tokens, args.target_mpp, args.mpp, args.tiles)
    except HistillError as error:
        raise SystemExit(str(error)) from None
    title = "{tiles} tiles, {mpp:.3f} -> {target_mpp:.3f} um/px, JPEG at 1/{dct_scale}, {teacher}; ".format(**found)
    title += "reading, resizing and encoding {cutting_ratio[wall]:.2f} times as fast".format(**found)
    kinds = ("raw", "standardised", "patch")
    rows = [
        (name, row["psnr_db"], *(f"{row[kind]['mean']:.4f} ({row[kind]['p5']:.4f})" for kind in kinds))
        for name, row in found["rows"].items()
    ]
    show(title, ("against the default", "PSNR dB", *(f"cosine, {kind} (p5)" for kind in kinds)), rows)
    finish(found)


if __name__ == "__main__":
    main()
