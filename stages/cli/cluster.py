"""`histill cluster check`: whether a cluster can do the work, and what its workers see (docs/cluster.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from pipeline.base.errors import ClusterError, HistillError
from pipeline.base.files import human
from pipeline.params.load import load_params
from pipeline.params.site import ClusterParams, SiteParams
from stages.command import Debug, errors, store_of

if TYPE_CHECKING:
    from pipeline.cluster.look import Seen

cluster_cli = typer.Typer(no_args_is_help=True, help="Where tiles and tokens are computed.")


@cluster_cli.callback()
def _group() -> None:
    """A group, though of one command."""


@cluster_cli.command("check")
def cluster_check(debug: Debug = False) -> None:
    """Start the cluster of params.yaml, ask a worker for cores and one for GPUs what it sees, and end it.

    That each has this Histill and its packages is checked as before all work. Exit code 1 where one has not, or does
    not see the store.

    histill cluster check
    """
    with errors(debug):
        from pipeline.cluster.started import clusters_end

        params = load_params(SiteParams)
        root = store_of(params).root
        root.mkdir(parents=True, exist_ok=True)
        table = Table("stage", "host", "cores", "memory", "GPUs", "store")
        wrong = []
        with clusters_end():
            for stage, gpu in (("tiles", False), ("tokens", True)):
                seen = _ask(root, params.cluster, gpu)
                wrong += [f"{stage}: {seen.store}"] if seen.store else []
                gpus = "\n".join(seen.gpus) or "none"
                table.add_row(stage, seen.host, str(seen.cores), human(seen.memory), gpus, seen.store or "the same")
        Console().print(table)
        if wrong:
            fix = "mount the store at the same path on every machine, or point store.root at one that is"
            raise ClusterError("; ".join(wrong), where="histill cluster check", fix=fix)


def _ask(root: Path, cluster: ClusterParams, gpu: bool) -> Seen:
    from pipeline.cluster.look import Sign, look
    from pipeline.cluster.spread import each

    sign = Sign.put(root)
    try:
        ((_, seen),) = each(look, [sign], cluster, gpu=gpu)
    finally:
        sign.path.unlink(missing_ok=True)
    if isinstance(seen, HistillError):
        raise seen
    return seen
