"""Stage `tokens`: the teacher answers every tile once; its CLS and patch tokens are kept.

In:  artifacts/tiles.json, the tiles in the store, params `tokens`.
Out: artifacts/tokens.json; in the store, per slide: Zarr arrays `cls`, `patch`, `scale`.
Run: dvc repro tokens, or python -m stages.tokens. A killed run goes on where it was.
"""

from __future__ import annotations

import typer

from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tokens import TokensParams
from pipeline.tokens.stage import make_tokens
from stages.command import Debug, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    slides: SlidesParams = SlidesParams()
    tokens: TokensParams = TokensParams()


def run(params: Params, store: Store) -> TokensManifest:
    """Run the teacher over the tiles whose tokens the store does not have yet."""
    tiles = load(TilesManifest)
    store.require(tiles)
    return make_tokens(tiles, params.tokens, store, params.slides.demo_px, params.cluster)


def main(debug: Debug = False) -> None:
    """The teacher answers every tile once; its CLS and patch tokens are kept."""
    execute("tokens", Params, run, debug)


if __name__ == "__main__":
    typer.run(main)
