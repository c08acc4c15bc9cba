"""Numeric kernels: a plain PyTorch reference each, and where it pays a Triton kernel. Imports nothing of ours."""
