from __future__ import annotations

import torch

from pipeline.student.adapters.attention import AttentionAdapter, position_code


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
