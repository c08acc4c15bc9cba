"""`python -m stages` is `histill` (stages/cli/)."""

from __future__ import annotations

from stages.cli.app import cli

if __name__ == "__main__":
    cli()
