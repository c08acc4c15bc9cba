"""What is compared: evaluate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.params.base import MISSING, Positive, Section, Seed


class DatasetParams(Section):
    """A labelled data set besides the slides, for probes alone: the student is never trained on it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
    """What its figures are called."""
    kind: Literal["folder", "csv", "masks", "h5"]
    """folder: SPLIT/CLASS/images; csv: path, label, split, group; masks: SPLIT/images and SPLIT/masks; h5: as PCam."""
    path: str
    """The folder or the CSV file; relative to the project. When its files change: dvc repro -s -f evaluate."""
    missing: tuple[str, ...] = MISSING
    """Texts that mean no label, in any case; of split and group they always mean none."""


class EvaluateParams(Section):
    """What is compared, and how sure to be."""

    datasets: tuple[DatasetParams, ...] = ()
    """Labelled data sets besides the slides: name, kind and path of each, as below."""
    protocol: Literal["histill", "uni"] = "histill"
    """How tile labels are probed: Histill's own way, or as UNI's authors published theirs; the two do not compare."""
    knn_k: Positive = 20
    """Neighbours of the kNN probe; 20 by protocol uni."""
    episodes: Positive = 100
    """Few-shot episodes behind each figure; 1,000 by protocol uni, whatever is said here."""
    from_labels: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Labels a class, e.g. [10, 25], from which alone the student's architecture is trained, for comparison; slow."""
    label_steps: Positive = 600
    """Steps of each such training, 32 tiles each; three trainings for each number of labels."""
    mil_epochs: Positive = 20
    """Passes over the train slides of the attention model for slide labels; fewer where they see over 50,000 slides."""
    max_probe_tiles: Positive = 20000
    """Tiles a probe is trained and tested on at most, evenly spread; slide labels get 16 of each slide all the same."""
    max_dense_tiles: Positive = 2000
    """Tiles at most of which patch tokens are compared, and of which CKA, neighbours and RankMe are taken."""
    robustness_tiles: Annotated[int, Field(ge=0)] = 64
    """Held-out tiles that are stained, scaled, blurred and turned; the teacher runs 10 times over each. 0 = none."""
    bootstrap: Annotated[int, Field(ge=100)] = 1000
    """Resamples behind each interval."""
    batch_size: Positive = 64
    """Tiles a forward pass."""
    seed: Seed = 0
    """Of every random choice of this stage."""

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluateParams:
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) < len(names):
            raise ValueError(f"two datasets have one name: {', '.join(sorted(names))}")
        return self

    @model_validator(mode="after")
    def _uni_is_uni(self) -> EvaluateParams:
        if self.protocol == "uni" and self.knn_k != 20:
            raise ValueError(f"protocol uni has 20 neighbours, not {self.knn_k}: leave knn_k out, or take histill")
        return self
