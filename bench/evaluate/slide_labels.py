"""What slide labels take over many slides: heads of three models, fitted and asked, at a real width.

Features are random about a mean of each label, so that there is something to learn; what is timed does not depend on
them. Every slide has `BAG_TILES` tiles, the most that it is looked at through where there are many.

Run: python -m bench.evaluate.slide_labels [--slides N …] [--width D]; the last line is one JSON object
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

import numpy as np

from bench.clock import clock, since
from bench.printing import finish, show
from pipeline.base.intervals import Units
from pipeline.base.types import Floats
from pipeline.evaluate.selection import BAG_TILES
from pipeline.measures.probes.mil import Bags, How, passes, slide_probes
from pipeline.params.evaluate import EvaluateParams

MODELS = ("teacher", "student", "untrained")
HELD_OUT = 10
"""One slide in so many."""


class Made(Mapping[str, Floats]):
    """Each model's features of all tiles (N, D) float32, made when they are asked for."""

    def __init__(self, class_S: np.ndarray[tuple[int], np.dtype[np.int64]], width: int, seed: int) -> None:
        self._class_S, self._width, self._seed = class_S, width, seed

    def __getitem__(self, name: str) -> Floats:
        rng = np.random.default_rng([self._seed, MODELS.index(name)])
        found_ND = rng.standard_normal((len(self._class_S) * BAG_TILES, self._width), dtype=np.float32)
        found_ND[:, 0] += np.repeat(self._class_S, BAG_TILES)
        return found_ND

    def __iter__(self) -> Iterator[str]:
        return iter(MODELS)

    def __len__(self) -> int:
        return len(MODELS)


def bags(slides: int, width: int, seed: int) -> Bags:
    """Slides of two labels."""
    class_S = np.arange(slides) % 2
    units = Units([f"slide {number}" for number in range(slides)], "slide")
    return Bags(["ab"[one] for one in class_S], units, [BAG_TILES] * slides, Made(class_S, width, seed))


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slides", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--width", type=int, default=1024, help="channels of an embedding")
    asked, params = parser.parse_args(), EvaluateParams()
    rows, told = [], dict[str, dict[str, float]]()
    for slides in asked.slides:
        held = slides // HELD_OUT
        train = slides - held
        how = How(epochs=params.mil_epochs, resamples=params.bootstrap, seed=params.seed)
        began = clock()
        found = slide_probes(
            bags(train, asked.width, 0), {"test": bags(held, asked.width, 1)}, how, lambda n=1.0, note="": None
        )
        taken = since(began)
        right = found["test"].attention.teacher.balanced.value
        rows.append((slides, passes(train, how.epochs), taken.cpu_s, taken.wall_s, right))
        told[str(slides)] = {"cpu_s": round(taken.cpu_s, 1), "wall_s": round(taken.wall_s, 1)}
    show(
        f"slide labels, {BAG_TILES} tiles a slide, {asked.width} channels",
        ("slides", "passes", "CPU s", "wall s", "teacher's balanced accuracy"),
        rows,
    )
    finish({"width": asked.width, "slides": told})


if __name__ == "__main__":
    main()
