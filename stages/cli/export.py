"""`histill export …`: results for other tools."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.files import as_json
from pipeline.base.items import SlidesManifest, TilesManifest
from stages.command import AsJson, Debug, Exit, errors, find_store, load

export_cli = typer.Typer(no_args_is_help=True, help="Hand results to other tools.")


class Tool(StrEnum):
    """Who is to build the student."""

    TRIDENT = "trident"
    CLAM = "clam"
    LAZYSLIDE = "lazyslide"
    SLIDE2VEC = "slide2vec"
    STAMP = "stamp"
    EVA = "eva"
    THUNDER = "thunder"


@export_cli.command("adapter")
def export_adapter(
    tool: Annotated[Tool, typer.Option("--for", help="The tool that is to use the student.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; several tools may share it.")],
    student: Annotated[Path, typer.Option(help="An exported student.")] = Path("models/student"),
    replace: Annotated[bool, typer.Option("--replace", help="Write over an adapter that was changed.")] = False,
    debug: Debug = False,
) -> None:
    """Write a file that builds the student in another tool, and the student beside it.

    histill export adapter --for trident --out adapters
    """
    from pipeline.export.adapters import export_adapter as write

    with errors(debug):
        adapter = write(tool.value, student, out, replace=replace)
        typer.echo(f"{adapter.file}{'' if adapter.written else ' (as it was)'}\n\n{adapter.usage}")


@export_cli.command("hub")
def export_hub(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; a clone of the repository will do.")],
    student: Annotated[Path, typer.Option(help="An exported student.")] = Path("models/student"),
    repo: Annotated[str, typer.Option(help="What it will be called on the hub.")] = "OWNER/NAME",
    base_model: Annotated[str | None, typer.Option(help="The teacher on the hub, where it is not known here.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="The hub's name of the licence.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="A data set on the hub (repeat for more).")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over other files of the same names.")] = False,
    debug: Debug = False,
) -> None:
    """Write a folder to push to a model hub: the student, and its card with the metadata block.

    histill export hub hub --repo lab/student
    """
    from pipeline.export.hub import export_hub as write
    from pipeline.export.metadata import metadata_of
    from pipeline.student.shipped import Shipped

    with errors(debug):
        metadata = metadata_of(Shipped.of_folder(student), base_model, licence, dataset or ())
        folder = write(student, out, metadata, repo=repo, replace=replace)
        typer.echo(f"{out}: wrote {', '.join(folder.written) or 'nothing'}")
        if folder.as_it_was:
            typer.echo(f"as it was: {', '.join(folder.as_it_was)}")
        if not folder.figures:
            typer.echo(
                "the card has no figures: `dvc repro report` in the student's project makes one that has", err=True
            )
        bases = (metadata.base_model,) if isinstance(metadata.base_model, str) else metadata.base_model or ()
        whose = f"of {' and '.join(bases)}" if bases else "of the teacher"
        typer.echo(f"licence {metadata.licence}, {whose}: does it let you publish what was made of it?", err=True)
        typer.echo(f'hf upload {repo} {out} .\ntimm.create_model("hf-hub:{repo}", pretrained=True)')


class CoordsFormat(StrEnum):
    """Who is to read the coordinates."""

    TRIDENT = "trident"
    CLAM = "clam"
    QUPATH = "qupath"


@export_cli.command("coords")
def export_coords(
    form: Annotated[CoordsFormat, typer.Option("--format", help="trident and clam: h5; qupath: GeoJSON.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; of TRIDENT its job folder.")] = Path("coords"),
    replace: Annotated[bool, typer.Option("--replace", help="Write over files that say otherwise.")] = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write where each slide's tiles are, a file a slide, for TRIDENT, CLAM or QuPath, and say how they go on from it.

    histill export coords --format trident --out job
    """
    from pipeline.tiles.coords.exporting import export_coords as write_all
    from pipeline.tiles.coords.exporting import go_on

    with errors(debug):
        slides, tiles, store = load(SlidesManifest), load(TilesManifest), find_store()
        store.require(tiles)
        written, left_out = write_all(slides, tiles, store, form.value, out, replace=replace)
        more = go_on(form.value, written, out.absolute())
        if json:
            typer.echo(as_json({"written": [str(path) for path in written], "left_out": left_out, "commands": more}))
            return
        for line in left_out:
            typer.echo(f"left out: {line}", err=True)
        typer.echo("\n".join([f"{len(written)} files under {out}", *more]))


@export_cli.command("tissue")
def export_tissue(
    slides: Annotated[
        list[Path] | None, typer.Argument(help="Slides, folders, slide tables; by default the project's table.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("tissue"),
    replace: Annotated[bool, typer.Option("--replace", help="Write over files that say otherwise.")] = False,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write each slide's tissue as GeoJSON, polygons with holes in level-0 pixels, as QuPath opens it.

    histill export tissue SLIDES --out tissue
    """
    from pipeline.embed.slides import project_params
    from pipeline.export.tissue import export_tissue as write_all

    with errors(debug):
        params = project_params()
        files = write_all(slides or [Path(params.slides.table)], params, out, replace=replace)
        for left_out in files.left_out:
            typer.echo(f"left out: {left_out.slide}: {left_out.reason}\n  -> {left_out.fix}", err=True)
        if json:
            left = [asdict(left_out) for left_out in files.left_out]
            typer.echo(as_json({"written": [str(path) for path in files.written], "left_out": left}))
        else:
            typer.echo(f"{len(files.written)} files under {out}")
        if files.left_out:
            raise typer.Exit(Exit.PARTLY)
