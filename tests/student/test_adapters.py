from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.corpus.targets import Standardiser
from pipeline.params.student import StudentParams
from pipeline.student.adapters import ADAPTERS, Adapter, BilinearAdapter, FuseAdapter, PoolAdapter
from pipeline.student.adapters.adapter import Regrid, Resample, average, bilinear, tokens

CASES = [
    pytest.param([64, 128], [(14, 14), (7, 7)], (14, 14), 1024, id="vit-l/16 at 224 px"),
    pytest.param([64, 128], [(8, 8), (4, 4)], (16, 16), 192, id="finer than the student"),
    pytest.param([6, 10], [(14, 14), (7, 7)], (7, 7), 20, id="a CNN's map, coarser"),
    pytest.param([8], [(3, 5)], (2, 4), 12, id="one stage, not square"),
]
Shape = tuple[int, int]


def maps_of(channels: list[int], grids: list[Shape], n: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, c, *g, generator=generator) for c, g in zip(channels, grids, strict=True)]


def made(name: str, *arguments: object) -> Adapter:
    torch.manual_seed(1)
    adapter = ADAPTERS[name](*arguments)
    assert isinstance(adapter, Adapter)
    return adapter


def test_params_know_every_adapter() -> None:
    assert set(StudentParams.model_fields["adapter"].annotation.__args__) == set(ADAPTERS)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize(("channels", "grids", "grid", "width"), CASES)
def test_answers_on_the_teachers_grid(
    name: str, channels: list[int], grids: list[Shape], grid: Shape, width: int
) -> None:
    adapter = made(name, channels, grids, grid, width)
    assert adapter(maps_of(channels, grids)).shape == (2, grid[0] * grid[1], width)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("grid", [(6, 6), (4, 4)])
def test_gradient_reaches_every_parameter_and_the_student(name: str, grid: Shape) -> None:
    adapter = made(name, [6, 10], [(6, 6), (3, 3)], grid, 20)
    maps = [m.requires_grad_() for m in maps_of([6, 10], [(6, 6), (3, 3)])]
    adapter(maps).square().mean().backward()
    for label, parameter in adapter.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, label
    reached = [m.grad is not None and bool(m.grad.abs().sum() > 0) for m in maps]
    assert reached == {"bilinear": [False, True], "pool": [True, False]}.get(name, [True, True])


@pytest.mark.parametrize("name", ADAPTERS)
def test_tiles_do_not_see_one_another(name: str) -> None:
    adapter = made(name, [6, 5], [(4, 4), (2, 2)], (4, 4), 8).eval()
    maps = maps_of([6, 5], [(4, 4), (2, 2)], n=3)
    torch.testing.assert_close(adapter(maps)[1:2], adapter([m[1:2] for m in maps]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("grid", [(8, 8), (3, 3)])
def test_a_folded_adapter_answers_in_the_teachers_space(name: str, grid: Shape) -> None:
    generator = torch.Generator().manual_seed(2)
    standardiser = Standardiser(torch.randn(8, generator=generator), torch.rand(8, generator=generator) + 0.5)
    adapter = made(name, [6, 5], [(4, 4), (2, 2)], grid, 8)
    maps = maps_of([6, 5], [(4, 4), (2, 2)])
    with torch.no_grad():
        z_NTD = adapter(maps)
        standardiser.fold_into(adapter.last)
        torch.testing.assert_close(standardiser.forward(adapter(maps)), z_NTD, atol=1e-4, rtol=1e-4)


def test_a_ramp_stays_a_ramp_when_resized() -> None:
    ramp_1L1 = torch.arange(4.0).repeat(4)[None, :, None]
    fine_HW = Regrid(bilinear, (4, 4), (8, 8))(ramp_1L1).reshape(8, 8)
    torch.testing.assert_close(fine_HW[3, 1:7], torch.arange(6) / 2 + 0.25)


@pytest.mark.parametrize("resample", [bilinear, average])
@pytest.mark.parametrize(("own", "grid"), [((14, 14), (7, 7)), ((7, 9), (5, 4)), ((3, 5), (2, 8)), ((4, 6), (9, 13))])
def test_the_product_that_onnx_has_is_the_resampling(
    resample: Resample, own: Shape, grid: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    regrid, tokens_NLC = Regrid(resample, own, grid), tokens(maps_of([6], [own])[0])
    expected_NTC = regrid(tokens_NLC)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert regrid(tokens_NLC).shape == (2, grid[0] * grid[1], 6)
    torch.testing.assert_close(regrid(tokens_NLC), expected_NTC, atol=1e-6, rtol=1e-5)


def test_tokens_are_row_major() -> None:
    map_NCHW = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert tokens(map_NCHW)[0].tolist() == [[i, i + 6] for i in range(6)]


def test_bilinear_is_the_coarsest_map_projected_after_resizing() -> None:
    adapter, maps = made("bilinear", [6, 5], [(4, 4), (2, 2)], (4, 4), 8), maps_of([6, 5], [(4, 4), (2, 2)])
    assert isinstance(adapter, BilinearAdapter)
    large = F.interpolate(maps[1], size=(4, 4), mode="bilinear", align_corners=False)
    expected = F.conv2d(large, adapter.leave.weight[:, :, None, None], adapter.leave.bias)
    torch.testing.assert_close(adapter(maps), expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_pool_averages_the_cells_that_a_teacher_position_covers() -> None:
    adapter, maps = made("pool", [6], [(4, 4)], (2, 2), 8), maps_of([6], [(4, 4)])
    assert isinstance(adapter, PoolAdapter)
    corner_NC = maps[0][:, :, :2, 2:].mean((2, 3))
    torch.testing.assert_close(adapter(maps)[:, 1], adapter.leave(corner_NC), atol=1e-5, rtol=1e-5)


def test_fuse_adds_the_stages_at_each_place() -> None:
    adapter, maps = made("fuse", [6, 5], [(4, 4), (2, 2)], (4, 4), 8), maps_of([6, 5], [(4, 4), (2, 2)])
    assert isinstance(adapter, FuseAdapter)
    constant = torch.ones(2, 5, 2, 2)
    inner_Nd = adapter.enter[0](maps[0][:, :, 3, 1]) + adapter.enter[1](constant[:, :, 0, 0])
    expected_ND = adapter.leave(adapter.norm(F.gelu(inner_Nd)))
    torch.testing.assert_close(adapter([maps[0], constant])[:, 13], expected_ND, atol=1e-5, rtol=1e-5)
