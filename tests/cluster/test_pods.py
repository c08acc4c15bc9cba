"""What is submitted to Kubernetes, held to the operator's own schema; there is no cluster here to submit it to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from made.command import histill

GPU = {"limits": {"nvidia.com/gpu": "1"}}
OPTIONS = {"image": "lab/histill:1", "namespace": "pathology", "env": {"HISTILL_STORE": "/store"}}
CLUSTER = {
    "kind": "kubernetes",
    "workers": 8,
    "least": 1,
    "options": {**OPTIONS, "resources": {"requests": {"cpu": "1"}}},
    "gpu_options": {"resources": GPU},
}


def spec(folder: Path, *words: str) -> dict[str, Any]:
    (folder / "params.yaml").write_text(json.dumps({"cluster": CLUSTER}))
    done = histill(folder, "cluster", "spec", *words)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_it_is_what_the_operator_takes_and_gpus_are_the_workers(tmp_path: Path) -> None:
    library = pytest.importorskip("dask_kubernetes")
    jsonschema = pytest.importorskip("jsonschema")
    (crd,) = Path(library.__file__).parent.glob("operator/deployment/helm/*/crds/daskcluster.yaml")
    schema = yaml.load(crd.read_text(), yaml.CSafeLoader)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    validator = jsonschema.validators.validator_for(schema)(schema)
    for words, resources in (((), {"requests": {"cpu": "1"}}), (("--gpu",), GPU)):
        found = spec(tmp_path, *words)
        validator.validate(found)
        assert found["kind"] == "DaskCluster" and found["spec"]["worker"]["replicas"] == 1
        (worker,) = found["spec"]["worker"]["spec"]["containers"]
        (scheduler,) = found["spec"]["scheduler"]["spec"]["containers"]
        assert worker["args"][:6] == ["dask", "worker", "--nthreads", "1", "--memory-limit", "0"]
        assert worker["image"] == scheduler["image"] == "lab/histill:1"
        assert {"name": "HISTILL_STORE", "value": "/store"} in worker["env"]
        assert worker["resources"] == resources and scheduler["resources"] == {"requests": {"cpu": "1"}}
    broken = {**found, "spec": {"scheduler": found["spec"]["scheduler"]}}
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(broken)


def test_of_another_kind_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(json.dumps({"cluster": {"kind": "slurm", "workers": 1}}))
    done = histill(tmp_path, "cluster", "spec")
    assert done.returncode == 1 and "it submits no pods" in done.stderr
