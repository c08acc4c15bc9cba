"""Where and with what it runs: no result depends on these."""

from __future__ import annotations

from pipeline.params.base import Positive, Section


class StoreParams(Section):
    """Where bytes live; HISTILL_STORE wins over this, and null means `.store` in the DVC root."""

    root: str | None = None
    """A folder, relative to the DVC root; null = `.store`."""


class ClusterParams(Section):
    """With what to compute."""

    scheduler: str | None = None
    """Address of a running Dask scheduler (tcp://host:8786); null = a local cluster. Workers want `--nthreads 1`."""
    workers: Positive | None = None
    """Local worker processes; null = one a core it may use; 1 = this process, which a crashing decoder then ends."""


class SiteParams(Section):
    """The sections of the site, which every stage takes beside its own."""

    store: StoreParams = StoreParams()
    cluster: ClusterParams = ClusterParams()
