"""`histill export …`: results for other tools."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.types import Json
from stages.command import AsJson, Debug, Exit, errors, find_store, load, tell

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
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a file that builds the student in another tool, and the student beside it.

    histill export adapter --for trident --out adapters
    """
    from pipeline.export.adapters import export_adapter as write

    with errors(debug):
        adapter = write(tool.value, student, out, replace=replace)
        was = "" if adapter.written else " (as it was)"
        told: Json = {"file": str(adapter.file), "written": adapter.written, "usage": adapter.usage}
        tell(json, told, [f"{adapter.file}{was}", "", adapter.usage])


@export_cli.command("hub")
def export_hub(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; a clone of the repository will do.")],
    student: Annotated[Path, typer.Option(help="An exported student.")] = Path("models/student"),
    repo: Annotated[str, typer.Option(help="What it will be called on the hub.")] = "OWNER/NAME",
    base_model: Annotated[str | None, typer.Option(help="The teacher on the hub, where it is not known here.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="The hub's name of the licence.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="A data set on the hub (repeat for more).")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over other files of the same names.")] = False,
    json: AsJson = False,
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
        bases = (metadata.base_model,) if isinstance(metadata.base_model, str) else metadata.base_model or ()
        if not folder.figures:
            typer.echo(
                "the card has no figures: `dvc repro report` in the student's project makes one that has", err=True
            )
        whose = f"of {' and '.join(bases)}" if bases else "of the teacher"
        typer.echo(f"licence {metadata.licence}, {whose}: does it let you publish what was made of it?", err=True)
        lines = [f"{out}: wrote {', '.join(folder.written) or 'nothing'}"]
        lines += [f"as it was: {', '.join(folder.as_it_was)}"] if folder.as_it_was else []
        lines += [f"hf upload {repo} {out} .", f'timm.create_model("hf-hub:{repo}", pretrained=True)']
        told: dict[str, Json] = {
            "out": str(out),
            "written": list(folder.written),
            "as_it_was": list(folder.as_it_was),
            "figures": folder.figures,
            "license": metadata.licence,
            "base_model": list(bases),
        }
        tell(json, told, lines)


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
        for line in left_out:
            typer.echo(f"left out: {line}", err=True)
        told: Json = {"written": [str(path) for path in written], "left_out": left_out, "commands": more}
        tell(json, told, [f"{len(written)} files under {out}", *more])


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
        left: Json = [asdict(left_out) for left_out in files.left_out]
        told: Json = {"written": [str(path) for path in files.written], "left_out": left}
        tell(json, told, [f"{len(files.written)} files under {out}"])
        if files.left_out:
            raise typer.Exit(Exit.PARTLY)
