"""`evaluate.protocol`: which one gave the figures is told wherever they stand, and Histill's own keeps its keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.run import Made, folder_set
from pydantic import ValidationError

from pipeline.evaluate.manifest import EvaluateManifest
from pipeline.measures.split_figures import UniFewShot, UniProbes
from pipeline.params.evaluate import DatasetParams, EvaluateParams
from pipeline.report.details import detail_rows


@pytest.fixture(scope="module")
def by_uni(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluateManifest, Path]:
    """An evaluation with a data set, and its plots."""
    root = tmp_path_factory.mktemp("uni")
    dataset = DatasetParams(name="it", kind="folder", path=str(folder_set(root / "set", {"train": 6, "test": 4})))
    return made.evaluate(root / "plots", dataset, protocol="uni"), root / "plots"


def test_slides_and_data_sets_are_probed_by_it(by_uni: tuple[EvaluateManifest, Path]):
    summary = by_uni[0].summary
    assert summary.protocol == "uni"
    for split in (summary.lead, summary.sets["it"].splits["test"]):
        assert isinstance(split.probes, UniProbes)
        assert 0 <= split.probes.scores["linear"]["teacher"].auroc.value <= 1
        assert isinstance(split.few_shot[1], UniFewShot) and split.few_shot[1].episodes == 1000


def test_it_is_read_back_as_it_was(by_uni: tuple[EvaluateManifest, Path], tmp_path: Path):
    by_uni[0].save(tmp_path / "evaluate.json")
    assert EvaluateManifest.load(tmp_path / "evaluate.json").summary == by_uni[0].summary


def test_its_figures_are_never_called_as_histills(by_uni: tuple[EvaluateManifest, Path]):
    manifest, plots = by_uni
    names = set(manifest.numbers())
    assert {"uni_linear_student", "uni_shots_1_student", "it_test_uni_knn_teacher"} <= names
    assert not {"linear_student", "knn_student", "shots_1_student", "it_test_linear_student"} & names
    probes = {line.split(",")[3] for line in (plots / "probes.csv").read_text().splitlines()[1:]}
    assert any(name.startswith("uni_") for name in probes) and "linear" not in probes
    rows = [row.what for row in detail_rows(manifest.summary) if row.section == "downstream"]
    assert "weighted F1, kNN, UNI’s protocol" in rows and "AUROC, linear probe, UNI’s protocol" in rows
    of_probes = [what for what in rows if not what.startswith("slide labels")]
    assert all("UNI’s protocol" in what for what in of_probes)


def test_only_another_protocol_is_in_the_key(made: Made, by_uni: tuple[EvaluateManifest, Path], tmp_path: Path):
    own = made.evaluate(tmp_path)
    assert own.summary.protocol == "histill" and "protocol" not in own.recipe["evaluate"]
    assert by_uni[0].recipe["evaluate"]["protocol"] == "uni" and by_uni[0].recipe_key != own.recipe_key


def test_what_standardises_a_cosine_is_told(by_uni: tuple[EvaluateManifest, Path]):
    """Of slides their train tiles, 2 slides of 24; of a set its own train images, 6 of each of 3 classes."""
    summary = by_uni[0].summary
    assert (summary.lead.standard.of, summary.lead.standard.tiles) == ("slides", 48)
    own = summary.sets["it"].splits["test"].standard
    assert (own.of, own.tiles) == ("set", 18)


def test_neighbours_that_uni_has_not_are_refused():
    with pytest.raises(ValidationError, match="20 neighbours, not 5"):
        EvaluateParams(protocol="uni", knn_k=5)
    assert EvaluateParams(protocol="uni").knn_k == 20
