"""`histill cluster`: whether a cluster can do the work, what its workers see, what is submitted (docs/cluster.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.errors import ClusterError
from pipeline.base.files import as_json, human
from pipeline.params.load import load_params
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.params.tokens import TokensParams
from stages.command import AsJson, Debug, errors, store_of

if TYPE_CHECKING:
    from pipeline.machine.trial import Tried

cluster_cli = typer.Typer(no_args_is_help=True, help="Where tiles and tokens are computed.")


class Params(SiteParams):
    """What of params.yaml a trial takes."""

    slides: SlidesParams = SlidesParams()
    tiles: TilesParams = TilesParams()
    tokens: TokensParams = TokensParams()


@cluster_cli.command("check")
def cluster_check(
    slide: Annotated[str | None, typer.Option(help="Whose few tiles to make there; else the table's first.")] = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Start the cluster of params.yaml, have one slide go through slides, tiles and tokens there, and end it.

    It says what a worker for cores and one for GPUs sees. That each has this Histill and its packages is checked as
    before all work. Exit code 1 where a stage did not come to its end there, or does not see the store.

    histill cluster check --slide slide-1
    """
    with errors(debug):
        from pipeline.cluster.started import clusters_end
        from pipeline.machine.trial import run, trial_of

        params = load_params(Params)
        store = store_of(params)
        with (
            clusters_end(),
            trial_of(params.slides, params.tiles, params.tokens, store, slide) as trial,
        ):
            tried = list(run(trial, params.cluster))
        last = tried[-1]
        if json:
            typer.echo(as_json({"ok": not last.wrong, "stages": [one.model_dump(mode="json") for one in tried]}))
        else:
            Console().print(_table(tried))
        if last.wrong:
            raise ClusterError(last.wrong, where=f"histill cluster check: {last.stage}", fix=last.fix)


@cluster_cli.command("spec")
def cluster_spec(
    gpu: Annotated[bool, typer.Option("--gpu", help="Of the workers for tokens.")] = False, debug: Debug = False
) -> None:
    """Print the DaskCluster that `cluster.kind: kubernetes` would submit, as YAML; nothing is submitted.

    histill cluster spec --gpu
    """
    with errors(debug):
        import yaml

        from pipeline.cluster.kinds import pods

        typer.echo(yaml.safe_dump(pods(load_params(SiteParams).cluster, gpu=gpu), sort_keys=False), nl=False)


def _table(tried: list[Tried]) -> Table:
    table = Table("stage", "host", "cores", "memory", "GPUs", "open files", "store", "made there")
    for one in tried:
        seen = one.seen
        if seen is None:
            table.add_row(one.stage, *[""] * 7)
            continue
        gpus, files = "\n".join(seen.gpus) or "none", "any" if seen.open_files < 0 else str(seen.open_files)
        made = f"{one.made} in {one.seconds:.1f} s" if one.made and one.seconds is not None else "nothing"
        row = seen.host, str(seen.cores), human(seen.memory), gpus, files, seen.store or "the same", made
        table.add_row(one.stage, *row)
    return table
