"""One small file an adapter: a module from the student's stage maps to the teacher's token grid, (N, T, D)."""

from pipeline.student.adapters.attention import AttentionAdapter

ADAPTERS = {"attention": AttentionAdapter}

__all__ = ["ADAPTERS", "AttentionAdapter"]
