from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.student.adapters.attention import AttentionAdapter, position_code

CASES = [
    pytest.param([64, 128], [(14, 14), (7, 7)], (14, 14), 1024, id="vit-l/16 at 224 px"),
    pytest.param([64, 128], [(8, 8), (4, 4)], (16, 16), 192, id="finer than the student"),
    pytest.param([8], [(3, 5)], (2, 4), 12, id="one stage, not square"),
]


def maps_of(channels: list[int], grids: list[tuple[int, int]], n: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, c, *g, generator=generator) for c, g in zip(channels, grids, strict=True)]


@pytest.mark.parametrize(("channels", "grids", "grid", "width"), CASES)
def test_answers_on_the_teachers_grid(
    channels: list[int], grids: list[tuple[int, int]], grid: tuple[int, int], width: int
) -> None:
    adapter = AttentionAdapter(channels, grids, grid, width)
    assert adapter(maps_of(channels, grids)).shape == (2, grid[0] * grid[1], width)


def test_gradient_reaches_every_parameter_and_every_stage() -> None:
    channels, grids = [6, 10], [(6, 6), (3, 3)]
    adapter = AttentionAdapter(channels, grids, (6, 6), 20)
    maps = [m.requires_grad_() for m in maps_of(channels, grids)]
    adapter(maps).square().mean().backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps)


def test_tiles_do_not_see_one_another() -> None:
    adapter = AttentionAdapter([6], [(4, 4)], (4, 4), 8).eval()
    maps = maps_of([6], [(4, 4)], n=3)
    assert torch.allclose(adapter(maps)[1:2], adapter([maps[0][1:2]]), atol=1e-6)


def test_code_is_nearest_to_itself() -> None:
    code_TD = position_code((7, 7), (7, 7), 32)
    similar_TT = code_TD @ code_TD.T
    assert torch.equal(similar_TT.argmax(1), torch.arange(49))


def test_code_of_a_coarse_cell_is_nearest_to_the_cells_it_covers() -> None:
    fine_TD, coarse_KD = position_code((8, 8), (8, 8), 32), position_code((4, 4), (8, 8), 32)
    nearest_T = (fine_TD @ coarse_KD.T).argmax(1).reshape(8, 8)
    expected = torch.arange(16).reshape(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(nearest_T, expected)


def test_starts_local() -> None:
    torch.manual_seed(0)
    adapter = AttentionAdapter([6], [(8, 8)], (8, 8), 16)
    fine, spot = torch.zeros(1, 6, 8, 8), torch.zeros(1, 6, 8, 8)
    spot[0, :, 2, 5] = 3.0
    change_T = (adapter([spot]) - adapter([fine])).detach().norm(dim=-1)[0]
    assert change_T.argmax() == 2 * 8 + 5
    assert change_T.reshape(8, 8)[2, 5] > 5 * change_T.reshape(8, 8)[7, 0]
