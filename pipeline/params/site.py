"""Where and with what it runs: no result depends on these."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.params.base import Keywords, Positive, Section


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
    remote_read: Literal["fetch", "stream"] = "fetch"
    """How the bucket's tiles and tokens are read. fetch: an item is brought here, whole, and stays; stream: it stays
    there, and of its pixels and answers comes what is read, through a cache beside the store."""
    stream_cache_gb: Annotated[float, Field(ge=0.1)] = 50
    """Of what is streamed, so much is kept here (10^9 bytes), the least recently used dropped first: seven eighths for
    what is read of large arrays, the rest for items' small files, of which none goes that a run may be reading."""
    push: bool = True
    """Send to the bucket what a stage makes, while it goes on, and at its end what the bucket lacks of all it names."""
    push_wait: bool = True
    """A stage ends when all has been sent, or was tried; false: with the item that is on its way, and says what is
    left to `histill store push`."""
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
    """Local worker processes; null = one a core it may use; 1 = this process, which a crashing decoder then ends. With
    another `kind` the most workers that it may have at a time, which must be said."""
    kind: Literal["local", "slurm", "kubernetes", "ssh"] = "local"
    """What a stage starts for its work, and ends with it (docs/cluster.md)."""
    least: Annotated[int, Field(ge=0)] = 0
    """Workers that such a cluster keeps even while it has less work."""
    options: Keywords = {}
    """Options of the library that starts it, by its names."""
    gpu_options: Keywords = {}
    """Further ones for `tokens`, whose workers want a GPU each."""
    patience_minutes: Annotated[float, Field(gt=0)] | None = None
    """For which to wait for a first worker, or for one after the last was lost; null = for ever."""

    @model_validator(mode="after")
    def _one_cluster(self) -> ClusterParams:
        if self.kind != "local" and self.scheduler is not None:
            raise ValueError("`scheduler` is a cluster that runs and `kind` one to start: leave one out")
        if self.kind != "local" and self.workers is None:
            raise ValueError(f"`kind: {self.kind}` wants `workers`, the most that it may have at a time")
        if self.kind == "local" and (self.options or self.gpu_options):
            raise ValueError("`options` and `gpu_options` are another kind's: say `kind` too")
        return self

    @property
    def is_here(self) -> bool:
        """Whether the work is done by processes of this machine alone, which this process starts."""
        return self.kind == "local" and self.scheduler is None


class SiteParams(Section):
    """The sections of the site, which every stage takes beside its own."""

    store: StoreParams = StoreParams()
    cluster: ClusterParams = ClusterParams()
