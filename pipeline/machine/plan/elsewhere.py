"""What slides take on somebody's cluster and bucket: bytes, GPU-hours, files, requests, and what that costs.

Bytes, tiles and passes are a plan's, or a size's that is told; files and requests follow from how the store and the
bucket are laid out; hours and prices follow from `Rates`, which nobody has measured here: they are to be replaced.

    files      of an item of tiles 9 and one for each 8 MB of JPEG, of tokens 10 (12 with views) and one of each array
               for each 512 MB of patch tokens; and their folders: each is an inode
    send       of F files an item: F + 2 PUT and F LIST, which cost alike; 2 F HEAD, F + 4 GET and one for each further
               16 MB, since what was sent is read back; a file above 100 MB goes in parts of 50. What a recipe takes
               once (its own object, a listing of 1,000 items) is not counted
    open       a GET an item, of its head
    an epoch   four GET a block of `student.block_rows` neighbours (pixels, CLS, patch tokens, scales), where the
               bucket's cache on the machine holds none of it
"""

from __future__ import annotations

import math

from pydantic import Field

from pipeline.base.arrays import CHUNK_NBYTES
from pipeline.base.errors import ParamsError
from pipeline.base.types import Frozen
from pipeline.machine.plan.planned import Plan
from pipeline.params.whole import WholeParams
from pipeline.remote.transfers import BLOCK
from pipeline.tokens.item.writer import SHARD_NBYTES, tile_nbytes

HOUR_S = 3600.0
_GB = 1e9
_SENT_WHOLE, _SENT_PART = 100 << 20, 50 << 20
"""s3fs's: up to the first a file is one PUT, else parts of the second, begun and ended by a request each."""
_TILES_FILES, _TILES_FOLDERS = 9, 5
_TOKENS_FILES, _TOKENS_FOLDERS, _VIEWS_FILES, _VIEWS_FOLDERS = 10, 6, 2, 1
_READ_A_BLOCK = 4


class Rates(Frozen):
    """List prices in USD and speeds, none of them measured here: replace them by your own (`--rate NAME=NUMBER`)."""

    teacher_tiles_per_s: float = Field(default=1000.0, gt=0)
    """Of one GPU: assumed. ViT-L/16 at 224 px is 123 GFLOP a tile, an eighth of an H100's dense bf16 peak."""
    student_tiles_per_s: float = Field(default=2000.0, gt=0)
    """Of one GPU, trained on: assumed."""
    gpu_hour: float = Field(default=3.0, ge=0)
    """An H100 on demand: specialised clouds listed 2.50 to 3.50 (mercatus-ai.com/blog/cloud-gpu-pricing, May 2026)."""
    gb_month: float = Field(default=0.023, ge=0)
    """S3 Standard, us-east-1, first 50 TB; this and the next three as they long stood at aws.amazon.com/s3/pricing,
    not looked up there for this: check."""
    put_1000: float = Field(default=0.005, ge=0)
    """Of PUT, POST and LIST."""
    get_1000: float = Field(default=0.0004, ge=0)
    """Of GET and HEAD."""
    gb_out: float = Field(default=0.09, ge=0)
    """From the bucket to machines outside its cloud; within its region nothing."""


class Size(Frozen):
    """Of a corpus: what the stages make of it, and what they ask of teacher and student."""

    slides: int
    tiles: int
    train_tiles: int
    views: int
    answers: int
    """Images that the teacher is asked about."""
    passes: int
    """Tiles that the student is trained on, over all epochs."""
    tiles_nbytes: int
    tokens_nbytes: int
    block_rows: int


class Line(Frozen):
    """One thing that is done, once; None where it has none of it."""

    what: str
    nbytes: int | None = None
    files: int | None = None
    gpu_hours: float | None = None
    puts: int | None = None
    gets: int | None = None
    usd: float | None = None


def size_of(plan: Plan, params: WholeParams) -> Size:
    """Of the slides that were planned for."""
    stage = {one.stage: one for one in plan.stages}
    tokens, train = params.tokens, plan.train_tiles
    return Size(
        slides=plan.slides,
        tiles=plan.tiles,
        train_tiles=train,
        views=tokens.n_views,
        answers=train * tokens.n_views + plan.tiles - train,
        passes=stage["student"].tiles or 0,
        tiles_nbytes=stage["tiles"].nbytes or 0,
        tokens_nbytes=stage["tokens"].nbytes or 0,
        block_rows=params.student.block_rows,
    )


def uni(slides: int, tiles_a_slide: int, params: WholeParams, *, jpeg_nbytes: int = 20_000) -> Size:
    """Of so many slides with UNI's tokens (196 of 1,024 channels, int8, one view), four fifths of them trained on.

    `jpeg_nbytes` a tile of 224 px is assumed, not measured.
    """
    tiles = slides * tiles_a_slide
    train = tiles * 4 // 5
    return Size(
        slides=slides,
        tiles=tiles,
        train_tiles=train,
        views=1,
        answers=tiles,
        passes=train * params.student.epochs,
        tiles_nbytes=tiles * jpeg_nbytes,
        tokens_nbytes=tiles * tile_nbytes("int8", 1, 196, 1024),
        block_rows=params.student.block_rows,
    )


def rates_of(told: list[str]) -> Rates:
    """Those that were told as NAME=NUMBER, the others as they are. Raises `ParamsError`."""
    known, found = Rates.model_fields, {}
    for word in told:
        name, _, number = word.partition("=")
        if name not in known:
            raise ParamsError(f"no rate {name!r}", where="--rate", fix=f"one of {', '.join(known)}, as {name}=1.5")
        found[name] = number
    try:
        return Rates.model_validate(found)
    except ValueError as error:
        what = str(error).splitlines()[-1 if len(str(error).splitlines()) < 3 else 2].strip()
        raise ParamsError(what, where="--rate", fix="a number, as --rate gpu_hour=2.5") from None


def lines(size: Size, rates: Rates) -> list[Line]:
    """What each thing takes: made, kept, sent, read."""
    tiles, tokens = _tiles_item(size), _tokens_item(size)
    both = size.tiles_nbytes + size.tokens_nbytes
    puts, gets = (size.slides * sum(_sent(of)[i] for of in (tiles, tokens)) for i in (0, 1))
    fetched = size.slides * sum(1 + sum(math.ceil(max(1, n) / BLOCK) for n in of.files) for of in (tiles, tokens))
    epoch = _READ_A_BLOCK * math.ceil(size.train_tiles / size.block_rows)
    teacher_h = size.answers / rates.teacher_tiles_per_s / HOUR_S
    student_h = size.passes / rates.student_tiles_per_s / HOUR_S

    def asked(puts: int, gets: int) -> float:
        return puts / 1000 * rates.put_1000 + gets / 1000 * rates.get_1000

    return [
        Line(what="tiles", nbytes=size.tiles_nbytes, files=size.slides * tiles.inodes),
        Line(
            what="tokens",
            nbytes=size.tokens_nbytes,
            files=size.slides * tokens.inodes,
            gpu_hours=teacher_h,
            usd=teacher_h * rates.gpu_hour,
        ),
        Line(what="student", gpu_hours=student_h, usd=student_h * rates.gpu_hour),
        Line(what="send to a bucket", nbytes=both, puts=puts, gets=gets, usd=asked(puts, gets)),
        Line(what="keep there a month", nbytes=both, usd=both / _GB * rates.gb_month),
        Line(what="open for a training", gets=2 * size.slides, usd=asked(0, 2 * size.slides)),
        Line(what="read an epoch there", nbytes=_of_train(size, both), gets=epoch, usd=asked(0, epoch)),
        Line(what="fetch all", nbytes=both, gets=fetched, usd=asked(0, fetched)),
        Line(what="  out of its cloud", nbytes=both, usd=both / _GB * rates.gb_out),
    ]


class _Item(Frozen):
    """Of a mean slide: the bytes of each file but item.json (0: some KB), and how many folders."""

    files: tuple[int, ...]
    folders: int

    @property
    def inodes(self) -> int:
        return len(self.files) + 1 + self.folders


def _tiles_item(size: Size) -> _Item:
    nbytes = size.tiles_nbytes // max(1, size.slides)
    chunks = max(1, math.ceil(nbytes / CHUNK_NBYTES))
    return _Item(files=(nbytes // chunks,) * chunks + (0,) * (_TILES_FILES - 1), folders=_TILES_FOLDERS)


def _tokens_item(size: Size) -> _Item:
    nbytes = size.tokens_nbytes // max(1, size.slides)
    shards, views = max(1, math.ceil(nbytes / SHARD_NBYTES)), size.views > 1
    small = _TOKENS_FILES - 1 + (_VIEWS_FILES if views else 0) + 2 * shards
    folders = _TOKENS_FOLDERS + (_VIEWS_FOLDERS if views else 0)
    return _Item(files=(nbytes // shards,) * shards + (0,) * small, folders=folders)


def _sent(item: _Item) -> tuple[int, int]:
    """(PUT and LIST, GET and HEAD) of sending it."""
    parts = [1 if n <= _SENT_WHOLE else math.ceil(n / _SENT_PART) + 2 for n in item.files]
    blocks = [math.ceil(max(1, n) / BLOCK) for n in item.files]
    n = len(item.files)
    return sum(parts) + 2 + n, 2 * n + sum(blocks) + 4


def _of_train(size: Size, nbytes: int) -> int:
    return nbytes * size.train_tiles // max(1, size.tiles)
