"""All commands of `histill`, in the order in which `histill --help` shows them."""

from __future__ import annotations

import typer

from stages.cli import bucket, cluster, embed, export, importing, machine, maps, options, project, run, store, study

cli = typer.Typer(no_args_is_help=True, help="Distil a pathology encoder from a feature cache.")
project.add_to(cli)
run.add_to(cli)
cli.command()(options.grouped(embed.embed))
maps.add_to(cli)
cli.add_typer(export.export_cli, name="export")
cli.add_typer(importing.import_cli, name="import")
study.add_to(cli)
machine.add_to(cli)
cli.add_typer(cluster.cluster_cli, name="cluster")
bucket.add_to(store.store_cli)
cli.add_typer(store.store_cli, name="store")
