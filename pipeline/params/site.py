"""Where and with what it runs: no result depends on these."""

from __future__ import annotations

from pydantic import field_validator

from pipeline.params.base import Positive, Section


class StoreParams(Section):
    """Where bytes live; HISTILL_STORE wins over this, and null means `.store` in the DVC root."""

    root: str | None = None
    """A folder, relative to the DVC root; null = `.store`."""
    base: tuple[str, ...] = ()
    """Folders of other stores, which are read and never written: what is there is used, what is new goes to `root`.
    HISTILL_STORE_BASE wins over this."""
    remote: str | None = None
    """A bucket behind the store, as `s3://bucket/prefix`, without credentials: what the store lacks is fetched from
    there, an item at a time. HISTILL_STORE_REMOTE wins over this, and `none` there means none."""
    push: bool = True
    """At a stage's end, send to the bucket what the stage has found or made and the bucket lacks."""
    trust: bool = False
    """Load code that others have put there, as built TensorRT engines are; else each user builds their own."""

    @field_validator("base", mode="before")
    @classmethod
    def _one_or_several(cls, told: object) -> object:
        return (told,) if isinstance(told, str) else () if told is None else told


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
