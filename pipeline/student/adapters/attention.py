"""Adapter `attention`: one learned query a teacher position reads the student's multi-stage feature maps.

The student's maps are coarser than the teacher's (7 x 7 and 14 x 14 at strides 32 and 16 against ViT-L/16's 14 x 14),
and resizing them fixes beforehand what each teacher position may look at. Here it is learned: cross-attention from T
queries to all student tokens of the last two stages (K of them), then a residual MLP and a projection to D.

Queries and keys carry the same fixed 2-D sine-cosine code of their centre, in units of teacher cells, so that at the
start a query looks where it is (its logit falls with distance) and learns to look further from there.

Cost a sample at T = 196, K = 245, dim 128, D = 1024: 25 MMAC in projections to D, 13 in attention, 13 in the MLP;
EfficientViT-B0 itself is 100 MMAC at 224 px, but in depthwise convolutions that run several times slower a MAC.

Shapes: N samples, T teacher positions, K student tokens, C channels of a stage, D teacher width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.student.adapters.adapter import Adapter, tokens

LOCALITY = 8.0
"""Logit of a query for a key at its own centre, at the start; at one cell's distance it is about 3 lower."""


class AttentionAdapter(Adapter):
    """Cross-attention of one query a teacher position over the tokens of all stages.

    `dim` is the inner width, divided among `heads`; dim / heads is a multiple of 4 (sine and cosine of x and of y).
    """

    def __init__(
        self,
        channels: Sequence[int],
        grids: Sequence[Sequence[int]],
        grid: Sequence[int],
        width: int,
        dim: int = 128,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.heads = heads
        code_T = position_code(grid, grid, dim // heads)
        code_K = torch.cat([position_code(stage, grid, dim // heads) for stage in grids])
        # <code, code> = dim / heads / 2 at the same place, and attention divides by sqrt(dim / heads).
        gain = math.sqrt(LOCALITY * 2 / math.sqrt(dim // heads))
        self.code_T: Tensor
        self.code_K: Tensor
        self.register_buffer("code_T", gain * code_T.repeat(1, heads), persistent=False)
        self.register_buffer("code_K", gain * code_K.repeat(1, heads), persistent=False)
        self.query = nn.Parameter(torch.randn(len(code_T), dim) * 0.02)
        self.level = nn.Parameter(torch.randn(len(channels), dim) * 0.02)
        self.enter = nn.ModuleList(nn.Linear(c, dim) for c in channels)
        self.norm = nn.LayerNorm(dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.merge = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.leave = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width))
        # Content starts small beside the position code, or the first queries look at random places.
        nn.init.trunc_normal_(self.key_value.weight[:dim], std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Embeddings, which decay would pull towards one another."""
        return {"query", "level"}

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        tokens_NKd = torch.cat(
            [
                enter(tokens(map_NCHW)) + level
                for map_NCHW, enter, level in zip(maps, self.enter, self.level, strict=True)
            ],
            dim=1,
        )
        key_NKd, value_NKd = self.key_value(self.norm(tokens_NKd)).chunk(2, dim=-1)
        n, dim = tokens_NKd.shape[0], self.query.shape[1]
        query_NTd = (self.query + self.code_T).to(key_NKd.dtype).expand(n, -1, -1)
        key_NKd = key_NKd + self.code_K.to(key_NKd.dtype)
        q, k, v = (self._split(x_NLd) for x_NLd in (query_NTd, key_NKd, value_NKd))
        seen_NHTd = F.scaled_dot_product_attention(q, k, v)
        seen_NTd = seen_NHTd.transpose(1, 2).reshape(n, -1, dim)
        out_NTd = self.query + self.merge(seen_NTd)
        out_NTd = out_NTd + self.mlp(out_NTd)
        patch_NTD: Tensor = self.leave(out_NTd)
        return patch_NTD

    def _split(self, x_NLd: Tensor) -> Tensor:
        n, length, dim = x_NLd.shape
        return x_NLd.reshape(n, length, self.heads, dim // self.heads).transpose(1, 2)

    @property
    def last(self) -> nn.Linear:
        linear = self.leave[-1]
        assert isinstance(linear, nn.Linear)
        return linear


def position_code(grid: Sequence[int], unit: Sequence[int], dim: int) -> Tensor:
    """Sine-cosine code (h * w, dim), fp32, row-major, of the cell centres of `grid` in cells of the grid `unit`.

    <code(a), code(b)> = sum over dim / 4 frequencies f of cos(f dx) + cos(f dy): greatest where a = b. Frequencies run
    from half a turn across the whole grid (no two places alike) to a quarter turn a cell.
    """
    if dim % 4:
        raise ValueError(f"width of the position code is {dim}, not a multiple of 4")
    (h, w), (unit_h, unit_w) = grid, unit
    y = (torch.arange(h) + 0.5) * unit_h / h
    x = (torch.arange(w) + 0.5) * unit_w / w
    low, high = math.pi / max(unit_h, unit_w, 2), math.pi / 2
    frequency = torch.logspace(math.log10(low), math.log10(high), dim // 4)
    parts = [
        function(at[:, None] * frequency)
        for at in (y.repeat_interleave(w), x.repeat(h))
        for function in (torch.sin, torch.cos)
    ]
    return torch.cat(parts, dim=1)
