"""One small file an adapter: a module from the student's stage maps to the teacher's token grid, (N, T, D)."""

from pipeline.student.adapters.adapter import Adapter
from pipeline.student.adapters.attention import AttentionAdapter
from pipeline.student.adapters.bilinear import BilinearAdapter
from pipeline.student.adapters.fuse import FuseAdapter
from pipeline.student.adapters.pool import PoolAdapter

ADAPTERS = {
    "attention": AttentionAdapter,
    "bilinear": BilinearAdapter,
    "fuse": FuseAdapter,
    "pool": PoolAdapter,
}

__all__ = ["ADAPTERS", "Adapter", "AttentionAdapter", "BilinearAdapter", "FuseAdapter", "PoolAdapter"]
