"""How much of a slide's tissue was dropped, and what of it has to be said.

Ink and lack of stain are looked for in all tiles with tissue; whether a tile decodes and is in focus only in those that
were read, so of a slide with a limit the shares of the two kinds are of different numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.base.items import WITH_TISSUE

MUCH = 0.2
"""Share of a slide's tissue from which on a loss is said."""
_TOOK = {"pen": "ink", "blank": "lack of stain", "blurred": "blur", "damaged": "damage"}
_WITHOUT = {
    "pen": "tiles.tissue.exclude_pen: false keeps it",
    "blank": "tiles.min_stain: 0 keeps it",
    "blurred": "tiles.min_sharpness: 0 keeps it",
    "damaged": "copy the slide again",
}


def losses(n: int, dropped: Mapping[str, int]) -> dict[str, float]:
    """{reason: share of the tiles with tissue that were looked at}, of a slide with n tiles kept."""
    lost = {reason: dropped.get(reason, 0) for reason in WITH_TISSUE}
    seen = n + sum(lost.values()) + dropped.get("limit", 0)
    read = n + lost["blurred"] + lost["damaged"]
    of = {"pen": seen, "blank": seen, "blurred": read, "damaged": read}
    return {reason: count / of[reason] for reason, count in lost.items() if count}


def remarks(n: int, dropped: Mapping[str, int], own: Sequence[str] = (), *, folder: bool = False) -> list[str]:
    """What has to be said of a slide, or a folder of images: its `own` remarks, and each loss of more than `MUCH`."""
    if folder:
        share = losses(n, dropped).get("damaged", 0.0)
        much = [f"{share:.0%} of its images do not decode: artifacts/left_out.csv names them"] if share > MUCH else []
        return [*own, *much]
    lost = {reason: share for reason, share in losses(n, dropped).items() if share > MUCH}
    said = [f"{_TOOK[reason]} took {share:.0%} of its tissue: {_WITHOUT[reason]}" for reason, share in lost.items()]
    return [*own, *said]
