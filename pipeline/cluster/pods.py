"""What is submitted to Kubernetes: the library's own specification of a cluster, as its operator takes it.

It is made before anything is submitted, so that it can be looked at (`histill cluster spec`). GPUs are asked for the
workers alone: the library would give its scheduler the same resources.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.types import Json

Spec = dict[str, Any]


def spec_of(options: Mapping[str, Json], scheduler: Json, replicas: int) -> Spec:
    """Of `KubeCluster`'s options, else of Dask's own settings; `scheduler` are the resources of its scheduler.

    A specification that the options bring along is as it is. Raises what the library raises.
    """
    import dask
    import yaml
    from dask_kubernetes.operator import make_cluster_spec

    def told(option: str) -> Any:
        name = f"kubernetes.{option.replace('_', '-')}"
        return dask.config.get(name, default=None, override_with=options.get(option))

    brought = told("custom_cluster_spec")
    if brought is not None:
        return dict(yaml.safe_load(Path(brought).read_text()) if isinstance(brought, str) else brought)
    spec: Spec = make_cluster_spec(
        name=options.get("name") or f"histill-{uuid.uuid4().hex[:10]}",
        env=told("env") or {},
        resources=told("resources"),
        worker_command=told("worker_command"),
        n_workers=replicas,
        image=told("image"),
        scheduler_service_type=told("scheduler_service_type"),
        idle_timeout=told("idle_timeout") or 0,
        jupyter=bool(options.get("jupyter")),
    )
    spec["spec"]["scheduler"]["spec"]["containers"][0]["resources"] = scheduler
    return spec
