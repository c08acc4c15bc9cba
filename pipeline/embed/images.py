"""Images to embeddings with an exported student, and with `dense` to patch tokens in the teacher's space.

The student is loaded by timm alone, the adapter from `adapter.safetensors`; both answer in the teacher's own units, so
that what was fitted to the teacher's features takes these as they are. An image is taken as in training: its middle
square, resized to the student's input side. Where the answers go: files.py.

Shapes: N images, H = W = input side, T = h * w teacher positions in row-major order, D teacher width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.data import resolve_model_data_config

from pipeline.base.errors import EmbedError
from pipeline.base.progress import track
from pipeline.embed.files import Answers, open_file
from pipeline.slides.images import list_images
from pipeline.slides.read.reader import detect_vendor
from pipeline.student.adapters import ADAPTERS
from pipeline.teachers.engines import pick_device
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.item.writer import JPEG_ARRAY
from pipeline.tiles.pixels import decode_jpeg

_ORDINARY = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""What no slide ends in, so that OpenSlide need not be asked."""


@dataclass(frozen=True)
class Image:
    """One image: `source` is the file, or a tiles item and the `row` in it."""

    source: str
    row: int
    tiles: TileReader | None = None

    def read(self, side_px: int) -> NDArray[np.uint8]:
        """(side_px, side_px, 3) RGB. Raises `EmbedError` where it cannot be read."""
        if self.tiles is not None:
            return self.tiles.image(self.row, side_px)
        try:
            return decode_jpeg(Path(self.source).read_bytes(), side_px)
        except (OSError, ValueError) as error:
            fix = "mend it or leave it out"
            raise EmbedError(f"the image cannot be read: {error}", where=self.source, fix=fix) from None


def find_images(paths: Sequence[Path]) -> list[Image]:
    """The images of each path in turn: a file, a folder of images (sorted by path), or a tiles item of the store.

    Raises `EmbedError` for a whole slide, which would be squeezed into one image, and for what is not there.
    """
    found: list[Image] = []
    for path in paths:
        if (path / JPEG_ARRAY).is_dir():
            tiles = TileReader(path)
            found += [Image(str(path), row, tiles) for row in range(len(tiles))]
        elif path.is_dir():
            found += [Image(str(path / name), 0) for name, _ in list_images(path)]
        elif path.is_file():
            found.append(Image(str(path), 0))
        else:
            fix = "give images, folders of images, tiles items of the store, or slide ids of artifacts/tiles.json"
            raise EmbedError("neither a file nor a folder, nor a slide with tiles", where=str(path), fix=fix)
    for image in found:
        if image.tiles is None and not image.source.lower().endswith(_ORDINARY) and detect_vendor(Path(image.source)):
            fix = "name it in slides.csv, run `dvc repro tiles`, then `histill embed SLIDE_ID --out FILE`"
            raise EmbedError("a whole slide, not a tile", where=image.source, fix=fix)
    return found


class Encoder:
    """An exported student, ready to answer; raises `EmbedError` where the folder does not hold what is asked for."""

    def __init__(self, folder: Path, dense: bool) -> None:
        if not (folder / "config.json").is_file():
            raise EmbedError("no exported student here", where=str(folder), fix="dvc repro student, or give --student")
        self.device = pick_device()
        self.model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        self.model.to(self.device, memory_format=torch.channels_last)
        config = resolve_model_data_config(self.model)
        self.side_px = int(config["input_size"][-1])
        self.mean_C, self.std_C = (torch.tensor(config[name], device=self.device) for name in ("mean", "std"))
        self.width = int(self.model.num_classes)
        self.grid: tuple[int, int] | None = None
        if dense:
            if not (folder / "adapter.json").is_file():
                what = "the student has no adapter: it was trained without the patch objective"
                raise EmbedError(
                    what, where=str(folder), fix="leave out --dense, or train with student.objective.patch"
                )
            described = json.loads((folder / "adapter.json").read_bytes())
            self.adapter = ADAPTERS[described["adapter"]](**described["arguments"]).eval()
            self.adapter.load_state_dict(load_file(folder / "adapter.safetensors"))
            self.adapter.to(self.device)
            self.stages = described["stages"]
            self.grid = tuple(described["arguments"]["grid"])

    @torch.inference_mode()
    def __call__(self, image_NHWC: NDArray[np.uint8]) -> Answers:
        """uint8 images to (embedding_ND float32, patch_NTD float16 or None)."""
        scaled_NHWC = (torch.from_numpy(image_NHWC).to(self.device).float() / 255 - self.mean_C) / self.std_C
        image_NCHW = scaled_NHWC.permute(0, 3, 1, 2)
        if self.grid is None:
            return self.model(image_NCHW).float().cpu().numpy(), None
        final, maps = self.model.forward_intermediates(image_NCHW, indices=self.stages, output_fmt="NCHW")
        embedding_ND, patch_NTD = self.model.forward_head(final), self.adapter(maps)
        return embedding_ND.float().cpu().numpy(), patch_NTD.half().cpu().numpy()


def embed(paths: Sequence[Path], student: Path, out: Path, *, dense: bool = False, batch_size: int = 64) -> int:
    """Write the answers to all images of `paths` to `out` (.h5, .npz or .parquet), replacing it; returns N.

    Raises `EmbedError` for a path, student or suffix that cannot be used; then `out` stays as it was.
    """
    images = find_images(paths)
    encoder = Encoder(student, dense)
    names = [(image.source, image.row) for image in images]
    with (
        open_file(out, names, encoder.width, encoder.grid) as write,
        track("embed", len(images), "images") as advance,
    ):
        for image_NHWC in _batches(images, encoder.side_px, batch_size):
            write(encoder(image_NHWC))
            advance(len(image_NHWC))
    return len(images)


def _batches(images: Sequence[Image], side_px: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Batches in order; the next one is decoded while this one is at work."""

    def read(start: int) -> NDArray[np.uint8]:
        return np.stack([image.read(side_px) for image in images[start : start + batch_size]])

    starts = range(0, len(images), batch_size)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read, 0)
        for start in starts:
            image_NHWC = waiting.result()
            if start + batch_size < len(images):
                waiting = pool.submit(read, start + batch_size)
            yield image_NHWC
