"""`histill embed`: slides to the tools' own feature files, or images to one file, by the student or a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.errors import EmbedError
from pipeline.base.files import as_json
from pipeline.base.items import TilesManifest
from pipeline.base.store import Ref
from pipeline.student.shipped import in_space
from stages.cli.options import Embedding, Engine
from stages.command import ARTIFACTS, AsJson, Debug, Exit, errors, find_store, load

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


def embed(
    encoder: Embedding,
    what: Annotated[
        list[str],
        typer.Argument(help="Slides, folders (or URLs) of them, slide tables; for a file: images, folders, ids."),
    ],
    out: Annotated[Path, typer.Option(help="A folder: one file a slide. A .h5, .npz or .parquet file: images.")],
    space: Annotated[
        str | None, typer.Option(help="In whose space it answers, of several teachers: a name of tokens.also.")
    ] = None,
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
    jobs: Annotated[int | None, typer.Option(min=1, help="Threads that each read and answer; one a core.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass, of a file of images.")] = 64,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Embed slides, one file each in the folder --out; or images, into the one file --out.

    histill embed /data/slides --out features --format clam
    """
    with errors(debug):
        student = encoder.student if space is None else in_space(encoder.student, space)
        if out.suffix in ONE_FILE or (out.suffix and not out.is_dir()):
            given: dict[str, object] = {
                "--teacher": encoder.teacher,
                "--coords": coords,
                "--as": stands_for,
                "--jobs": jobs,
            }
            given |= {"--device": encoder.device, "--target-mpp": encoder.target_mpp, "--tile-px": encoder.tile_px}
            _require_none(given | {"--engine": None if encoder.engine is Engine.AUTO else encoder.engine})
            from pipeline.embed.images import embed as embed_all

            paths = [_images_or_tiles(name) for name in what]
            dense_as = patch.value if dense else None
            done = embed_all(paths, student, out, dense=dense_as, width=width, batch_size=batch_size)
            if json:
                typer.echo(as_json({"out": str(out), **asdict(done), "named_in": str(done.named_in or "") or None}))
            else:
                typer.echo(f"{done.n} images embedded in {out}")
            if done.named_in:
                typer.echo(f"{done.left_out} left out, named in {done.named_in}", err=True)
                raise typer.Exit(Exit.PARTLY)
            return
        from pipeline.embed.crashes import in_a_child

        journal = in_a_child()
        from pipeline.embed.record import keep
        from pipeline.embed.slides import Wanted, embed_slides

        wanted = Wanted(
            out=out,
            form=form.value,
            coords=coords,
            stands_for=stands_for,
            dense=patch.value if dense else None,
            width=width,
            threads=jobs,
            **{**vars(encoder), "student": student},
        )
        outcome = embed_slides([Path(name) for name in what], wanted, journal)
        if encoder.teacher is None:
            keep(outcome)
    if json:
        typer.echo(as_json({"out": str(out), **asdict(outcome)}))
    if outcome.left_out:
        raise typer.Exit(Exit.PARTLY)


def _require_none(given: Mapping[str, object]) -> None:
    """Raise `EmbedError` for options of slides, beside a file of images: they would change nothing."""
    told = [name for name, value in given.items() if value is not None]
    if told:
        what = f"{', '.join(told)}: of slides, and --out names one file of images, which the student answers"
        raise EmbedError(what, fix="leave it out, or name a folder as --out")


def _images_or_tiles(name: str) -> Path:
    """A path as it is; a slide id of artifacts/tiles.json as its item in the store."""
    path = Path(name)
    if path.exists() or not (ARTIFACTS / "tiles.json").exists():
        return path
    tiles = load(TilesManifest)
    refs = [Ref.of(tiles, item) for item in tiles.items if item.id == name]
    return find_store().open(refs[0], remedy="dvc repro tiles") if refs else path
