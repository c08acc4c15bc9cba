"""Stage `tiles`: slides become tiles at one physical resolution, decoded once and kept as JPEG.

In:  artifacts/slides.json, slides.csv (where the files are), params `tiles`.
Out: artifacts/tiles.json, artifacts/left_out.csv (images that became no tile); in the store, per slide: the tile
     table, the JPEG tiles, thumbnail, overlay and mosaic.
Run: dvc repro tiles, or python -m stages.tiles
"""

from pathlib import Path

import typer

from pipeline.base.items import SlidesManifest, TilesManifest
from pipeline.base.store import Store
from pipeline.cluster.started import clusters_end
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.params.tiles import TilesParams
from pipeline.slides.sources import sources
from pipeline.tiles.lost.left_out import write_left_out
from pipeline.tiles.stage import make_tiles
from stages.command import ARTIFACTS, Debug, Wait, execute, load


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    slides: SlidesParams = SlidesParams()
    tiles: TilesParams = TilesParams()


@clusters_end()
def run(params: Params, store: Store) -> TilesManifest:
    """Tile the slides that the store does not have yet at this recipe."""
    slides = load(SlidesManifest)
    located = sources(Path(params.slides.table), store, params.slides)
    tiles = make_tiles(slides, located, params.tiles, store, params.cluster)
    write_left_out(tiles, store, ARTIFACTS / "left_out.csv")
    return tiles


def main(debug: Debug = False, wait: Wait = None) -> None:
    """Slides become tiles at one physical resolution, decoded once and kept as JPEG."""
    execute("tiles", Params, run, debug, wait)


if __name__ == "__main__":
    typer.run(main)
