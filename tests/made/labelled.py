"""Embeddings of tiles with labels."""

from __future__ import annotations

import numpy as np

from pipeline.base.intervals import Units
from pipeline.measures.probes.probes import Labelled

CLASSES = ("fat", "gland", "stroma")
WIDTH = 256
CENTRES = np.random.default_rng(7).normal(size=(len(CLASSES), WIDTH))


def labelled(n: int, seed: int, noise: float = 1.0, slides: int = 9) -> Labelled:
    """Teacher: classes around distinct centres. Student: the teacher. Untrained: noise that knows nothing."""
    random = np.random.default_rng(seed)
    label_N = random.choice(len(CLASSES), n, p=[0.6, 0.3, 0.1])
    teacher_ND = CENTRES[label_N] + noise * random.normal(size=(n, WIDTH))
    return Labelled(
        [CLASSES[i] for i in label_N],
        Units([f"s{i % slides}" for i in range(n)], "slide"),
        {"teacher": teacher_ND, "student": teacher_ND.copy(), "untrained": random.normal(size=(n, WIDTH))},
    )
