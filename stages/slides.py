"""Stage `slides`: the slide table becomes the catalogue.

In:  slides.csv (path; optionally slide_id, mpp, label, split, patient, mask, coords), what it names, params `slides`.
Out: artifacts/slides.json: identity, size, mpp, levels and vendor of each slide, and the refused ones with the reason.
     Rows `demo:N` are synthesised into the store.
Run: dvc repro slides, or python -m stages.slides
"""

import typer

from pipeline.base.items import SlidesManifest
from pipeline.base.store import Store
from pipeline.cluster.started import clusters_end
from pipeline.params.site import SiteParams
from pipeline.params.slides import SlidesParams
from pipeline.slides.catalogue import catalogue
from stages.command import Debug, Wait, execute


class Params(SiteParams):
    """What of params.yaml the stage takes."""

    slides: SlidesParams = SlidesParams()


@clusters_end()
def run(params: Params, store: Store) -> SlidesManifest:
    """Open every slide of the table and say what it is."""
    return catalogue(params.slides, store, params.cluster)


def main(debug: Debug = False, wait: Wait = None) -> None:
    """The slide table becomes the catalogue."""
    execute("slides", Params, run, debug, wait)


if __name__ == "__main__":
    typer.run(main)
