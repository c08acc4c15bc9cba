"""Stage `tokens`: each teacher answers every tile once; its CLS and patch tokens are kept.

Where the slide table names features that another tool has computed, they are taken instead, as CLS tokens of the first
teacher.

In:  artifacts/tiles.json, the tiles in the store, params `tokens`; the slide table, where it names features.
Out: artifacts/tokens.json; in the store, per slide: Zarr arrays `cls`, `patch`, `scale`.
Run: dvc repro tokens, or python -m stages.tokens. A killed run goes on where it was.
"""

from collections.abc import Mapping
from pathlib import Path

import typer

from pipeline.base.items import TilesManifest, TokensManifest
from pipeline.base.store import Store
from pipeline.cluster.started import clusters_end
from pipeline.imports.stage import take_features
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tokens import TokensParams
from pipeline.slides.looked import Memory
from pipeline.slides.sources import Source, sources
from pipeline.tokens.several import require_each_once, together
from pipeline.tokens.stage import make_tokens
from stages.command import Debug, Wait, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    slides: SlidesParams = SlidesParams()
    tokens: TokensParams = TokensParams()


@clusters_end()
def run(params: Params, store: Store) -> TokensManifest:
    """Run each teacher over the tiles whose tokens the store does not have yet."""
    tiles = load(TilesManifest)
    store.require(tiles)
    require_each_once(params.tokens.each)
    first, *further = params.tokens.each
    if any(item.features for item in tiles.items):
        here = sources(Path(params.slides.table), store, params.slides)
        paths = {slide_id: source.features for slide_id, source in here.items() if source.features is not None}
        marks = _marks(tiles, here, Memory(store.root, Path(params.slides.table)))
        made = take_features(tiles, paths, first, store, params.slides.demo_px, params.cluster, marks)
        # Imported answers have one view, and a tile has as many of every teacher.
        further = [one.one_view for one in further]
    else:
        made = make_tokens(tiles, first, store, params.slides.demo_px, params.cluster)
    return together(made, [make_tokens(tiles, one, store, params.slides.demo_px, params.cluster) for one in further])


def _marks(tiles: TilesManifest, here: Mapping[str, Source], memory: Memory) -> dict[str, str]:
    """What the files of features were marked by when the stage slides took the digests that tiles.json has."""
    known = {item.id: memory.features(here[item.id]) for item in tiles.items if item.id in here}
    digests = {item.id: item.features for item in tiles.items}
    return {slide_id: told[0] for slide_id, told in known.items() if told is not None and told[1] == digests[slide_id]}


def main(debug: Debug = False, wait: Wait = None) -> None:
    """Each teacher answers every tile once; its CLS and patch tokens are kept."""
    execute("tokens", Params, run, debug, wait)


if __name__ == "__main__":
    typer.run(main)
