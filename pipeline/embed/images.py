"""Images to embeddings with an exported student, and with `dense` to patch tokens in the teacher's space.

Both are in the teacher's own units, so that what was fitted to the teacher's features takes these as they are. An image
is taken as in training: its middle square, resized to the student's input side. Where the answers go: files.py.

Shapes: N images, H = W = input side, T = h * w teacher positions in row-major order, D teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.base.errors import EmbedError
from pipeline.base.files import write_csv
from pipeline.base.progress import track
from pipeline.embed.encoders.encoder import Answers
from pipeline.embed.files import open_file
from pipeline.embed.patch_form import PatchForm
from pipeline.slides.images import list_images
from pipeline.slides.read.reader import detect_vendor
from pipeline.slides.walk import Walked
from pipeline.student.exported import Encoder, batches, load_dense, load_prefix, load_student
from pipeline.tiles.item.meta import JPEG_ARRAY
from pipeline.tiles.item.reader import TileReader
from pipeline.tiles.pixels import decode_jpeg

COLUMNS = ("image", "reason")
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


def find_images(paths: Sequence[Path], walked: Walked | None = None) -> list[Image]:
    """The images of each path in turn: a file, a folder of images (sorted by path), or a tiles item of the store.

    `walked` is told what of the folders is left out. Raises `EmbedError` for a whole slide, which would be squeezed
    into one image, and for what is not there.
    """
    found: list[Image] = []
    for path in paths:
        if (path / JPEG_ARRAY).is_dir():
            tiles = TileReader(path)
            found += [Image(str(path), row, tiles) for row in range(len(tiles))]
        elif path.is_dir():
            found += [Image(str(path / name), 0) for name, _ in list_images(path, walked)]
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


def load_encoder(folder: Path, dense: bool, width: int | None = None) -> Encoder:
    """An exported student, ready to answer; with `width` its embedding of that nested size.

    Raises `StudentError` where the folder holds none.
    """
    model = load_student(folder)
    if width is not None:
        return Encoder(load_prefix(folder, model, width))
    return Encoder(model, load_dense(folder, model) if dense else None)


@dataclass(frozen=True)
class Embedded:
    """How many images were answered, how many were not, and the file that names those; None where there are none."""

    n: int
    left_out: int
    named_in: Path | None


def embed(
    paths: Sequence[Path],
    student: Path,
    out: Path,
    *,
    dense: str | None = None,
    width: int | None = None,
    batch_size: int = 64,
) -> Embedded:
    """Write the answers to all images of `paths` to `out` (.h5, .npz or .parquet), replacing it; with `dense` (fp16,
    int8) patch tokens so kept; with `width` the embedding of that nested size.

    Images that cannot be read have no row, and are named with the reason in `left_out_file(out)`. Raises `EmbedError`
    for a path or suffix and where no image at all can be read, `StudentError` for a student that cannot be used; `out`
    stays as it was.
    """
    if dense and width is not None:
        fix = "leave out one of them; two runs, with an --out each, where both are wanted"
        raise EmbedError("nested sizes are without patch tokens", where="--width", fix=fix)
    walked = Walked()
    images = find_images(paths, walked)
    encoder = load_encoder(student, dense is not None, width)
    form = None if dense is None else PatchForm.of_student(student, encoder.width, dense)
    lost: dict[int, EmbedError] = {}

    def read(i: int) -> NDArray[np.uint8]:
        try:
            return images[i].read(encoder.side_px)
        except EmbedError as error:
            lost[i] = error
            return np.zeros((encoder.side_px, encoder.side_px, 3), np.uint8)

    done = 0
    with (
        open_file(out, len(images), encoder.width, form) as write,
        track("embed", len(images), "images") as advance,
    ):
        for image_NHWC in batches(read, len(images), batch_size):
            here = [i for i in range(done, done + len(image_NHWC)) if i not in lost]
            if here:
                names = [(images[i].source, images[i].row) for i in here]
                write(names, _answers(encoder, form, image_NHWC[[i - done for i in here]]))
            done += len(image_NHWC)
            advance(len(image_NHWC))
        if len(lost) == len(images):
            raise next(iter(lost.values()))
    left_out = [*walked.left_out, *((images[i].source, error.what) for i, error in sorted(lost.items()))]
    file = left_out_file(out)
    if left_out:
        write_csv(file, COLUMNS, [dict(zip(COLUMNS, pair, strict=True)) for pair in left_out])
    else:
        file.unlink(missing_ok=True)
    return Embedded(len(images) - len(lost), len(left_out), file if left_out else None)


def left_out_file(out: Path) -> Path:
    """Where images that have no row in `out` are named: features.left_out.csv beside features.h5."""
    return out.with_name(f"{out.stem}.left_out.csv")


def _answers(encoder: Encoder, form: PatchForm | None, image_NHWC: NDArray[np.uint8]) -> Answers:
    """With patch tokens where they have a form."""
    image_NCHW = encoder.normalise(image_NHWC)
    if form is None:
        return Answers(encoder.embed(image_NCHW))
    embedding_ND, patch_NTD = encoder.embed_dense(image_NCHW)
    return Answers(embedding_ND, form.encode(patch_NTD))
