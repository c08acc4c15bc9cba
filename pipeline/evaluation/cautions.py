"""What a reader must know before trusting a figure of a comparison: warnings, each a sentence of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.evaluation import datasets
from pipeline.evaluation.datasets import TRAIN, Sample
from pipeline.evaluation.intervals import MIN_SLIDES
from pipeline.evaluation.mil import FEW_SLIDES
from pipeline.tokens.reader import TokenReader


def of_few_slides(held: Mapping[str, Sequence[Sample]]) -> list[str]:
    """For each split of so few slides (or groups) that its intervals draw tiles instead."""
    slides = {split: len(set(datasets.slide_of_tiles(chosen))) for split, chosen in held.items()}
    return [
        f"intervals of {split}: {n} held-out slides are too few to draw from ({MIN_SLIDES} needed); tiles are drawn, "
        "and the intervals speak of these slides only"
        for split, n in slides.items()
        if n < MIN_SLIDES
    ]


def of_tiles(split: str, train: Sequence[Sample], chosen: Sequence[Sample], fitted: int, knn_k: int) -> list[str]:
    """Of the probes: how few tiles they learnt from, and which slides they know nothing of."""
    found = []
    if fitted <= knn_k:
        what = f"with {knn_k} neighbours and {fitted} train tiles every tile votes"
        found.append(f"kNN of {split}: {what}; it answers with the majority class")
    for part, samples in ((TRAIN, train), (split, chosen)):
        without = sum(not datasets.labelled([sample]) for sample in samples)
        if without:
            found.append(f"probes of {split}: {without} of {len(samples)} {part} slides have no tile labels")
    return found


def of_slides(split: str, train: Sequence[Sample], chosen: Sequence[Sample], n: int) -> list[str]:
    """Of slide labels: how few slides `n` they were tested on, and which have no label."""
    found = []
    if n < FEW_SLIDES:
        found.append(f"slide labels of {split}: only {n} held-out slides; the figure and its interval say little")
    for part, samples in ((TRAIN, train), (split, chosen)):
        without = sum(sample.slide_label is None for sample in samples)
        if without:
            what = f"{without} of {len(samples)} {part} slides have no label and were left out"
            found.append(f"slide labels of {split}: {what}")
    return found


def of_thin_bags(parts: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Of slide labels: where slides were seen through some of their tiles alone."""
    found = []
    for part, samples in parts.items():
        every, n = sum(len(TokenReader(sample.tokens)) for sample in samples), datasets.count(samples)
        if n < every:
            what = f"the {part} slides were seen through {n} of their {every} tiles (evaluate.max_probe_tiles)"
            found.append(f"slide labels: {what}")
    return found
