"""Weights of a DINOv2 ViT as Hugging Face's transformers names them, renamed to DINOv2's own names.

The two are the same network; transformers keeps query, key and value apart, DINOv2 in one matrix, in that order. What
DINOv2 names otherwise than timm (registers, SwiGLU) timm's own filter renames (`weights.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_NAMES = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.register_tokens", "register_tokens"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("layernorm.", "norm."),
)
_IN_BLOCK = (
    ("attention.output.dense.", "attn.proj."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("mlp.weights_in.", "mlp.w12."),
    ("mlp.weights_out.", "mlp.w3."),
)
_QKV = ("query", "key", "value")


def dinov2_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state under DINOv2's names; a state that is not transformers' Dinov2Model comes back as it is."""
    if "embeddings.patch_embeddings.projection.weight" not in state:
        return dict(state)
    renamed: dict[str, Tensor] = {}
    qkv: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        part = re.fullmatch(r"encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)", name)
        if part is not None:
            qkv.setdefault(f"blocks.{part[1]}.attn.qkv.{part[3]}", {})[part[2]] = value
        else:
            renamed[_own_name(name)] = value
    for name, parts in qkv.items():
        if len(parts) == len(_QKV):
            renamed[name] = torch.cat([parts[part] for part in _QKV])
    return renamed


def _own_name(name: str) -> str:
    block = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", name)
    for before, after in _IN_BLOCK if block else _NAMES:
        inner = block[2] if block else name
        if inner.startswith(before):
            inner = after + inner.removeprefix(before)
            return f"blocks.{block[1]}.{inner}" if block else inner
    return f"blocks.{block[1]}.{block[2]}" if block else name
