"""`histill embed`: slides to the tools' own feature files, or images to one file, by the student or a teacher."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.items import TilesManifest
from pipeline.base.store import Ref
from pipeline.student.shipped import in_space
from stages.command import ARTIFACTS, Debug, Exit, errors, find_store, load

ONE_FILE = (".h5", ".npz", ".parquet")
"""An --out that ends so is a file of images; any other is a folder of slides."""


class Form(StrEnum):
    """Whose files are written."""

    TRIDENT = "trident"
    CLAM = "clam"
    STAMP = "stamp"
    SLIDEFLOW = "slideflow"
    SLIDE2VEC = "slide2vec"
    WSIDATA = "wsidata"
    H5AD = "h5ad"
    ZARR = "zarr"
    PARQUET = "parquet"


class Patch(StrEnum):
    """How patch tokens are kept."""

    FP16 = "fp16"
    INT8 = "int8"


class Engine(StrEnum):
    """What runs the network."""

    AUTO = "auto"
    EAGER = "eager"
    COMPILE = "compile"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"


def embed(
    what: Annotated[
        list[str], typer.Argument(help="Slides, folders of them, slide tables; for a file: images, folders, slide ids.")
    ],
    out: Annotated[Path, typer.Option(help="A folder: one file a slide. A .h5, .npz or .parquet file: images.")],
    student: Annotated[Path, typer.Option(help="An exported student.")] = Path("models/student"),
    space: Annotated[
        str | None, typer.Option(help="In whose space it answers, of several teachers: a name of tokens.also.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="A teacher in its place; `histill teachers` lists them.")] = None,
    form: Annotated[Form, typer.Option("--format", help="Whose files to write, for slides.")] = Form.TRIDENT,
    coords: Annotated[Path | None, typer.Option(help="A TRIDENT or CLAM job: embed its tiles, row by row.")] = None,
    stands_for: Annotated[
        str | None, typer.Option("--as", help="The encoder's name in the files, where a tool looks for one (uni_v1).")
    ] = None,
    dense: Annotated[bool, typer.Option("--dense", help="Patch tokens in the teacher's space as well.")] = False,
    patch: Annotated[Patch, typer.Option(help="How --dense keeps them; int8 as in the store, half the bytes.")] = (
        Patch.FP16
    ),
    width: Annotated[
        int | None, typer.Option(min=1, help="A nested size in place of the full embedding (student.nested).")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="What runs it; auto measures what is installed.")] = Engine.AUTO,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; a GPU where there is one.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads that each read and answer; one a core.")] = None,
    target_mpp: Annotated[float | None, typer.Option(help="um a pixel of the tiles; as params.yaml, else 0.5.")] = None,
    tile_px: Annotated[int | None, typer.Option(help="Side of a tile; as params.yaml, else 224.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass, of a file of images.")] = 64,
    debug: Debug = False,
) -> None:
    """Embed slides, one file each in the folder --out; or images, into the one file --out.

    histill embed /data/slides --out features --format clam
    """
    with errors(debug):
        student = student if space is None else in_space(student, space)
        if out.suffix in ONE_FILE or (out.suffix and not out.is_dir()):
            from pipeline.embed.images import embed as embed_all

            paths = [_images_or_tiles(name) for name in what]
            dense_as = patch.value if dense else None
            done = embed_all(paths, student, out, dense=dense_as, width=width, batch_size=batch_size)
            typer.echo(f"{done.n} images embedded in {out}")
            if done.named_in:
                typer.echo(f"{done.left_out} left out, named in {done.named_in}", err=True)
                raise typer.Exit(Exit.PARTLY)
            return
        from pipeline.embed.crashes import in_a_child

        journal = in_a_child()
        from pipeline.embed.slides import Wanted, embed_slides

        wanted = Wanted(
            out=out,
            form=form.value,
            student=student,
            teacher=teacher,
            coords=coords,
            stands_for=stands_for,
            dense=patch.value if dense else None,
            width=width,
            engine=engine.value,
            device=device,
            threads=jobs,
            target_mpp=target_mpp,
            tile_px=tile_px,
        )
        outcome = embed_slides([Path(name) for name in what], wanted, journal)
    if outcome.left_out:
        raise typer.Exit(Exit.PARTLY)


def _images_or_tiles(name: str) -> Path:
    """A path as it is; a slide id of artifacts/tiles.json as its item in the store."""
    path = Path(name)
    if path.exists() or not (ARTIFACTS / "tiles.json").exists():
        return path
    tiles = load(TilesManifest)
    refs = [Ref.of(tiles, item) for item in tiles.items if item.id == name]
    return find_store().open(refs[0], remedy="dvc repro tiles") if refs else path
