from __future__ import annotations

import numpy as np
import pytest

from pipeline.corpus.phi_s import equalising, hadamard, phi_s

WIDTHS = [1, 2, 4, 8, 12, 20, 24, 32, 40, 96, 128, 192, 384, 768]


def covariance(width: int, seed: int = 0) -> np.ndarray:
    """A spectrum that falls over four decades, in random directions."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(width, width)))
    return (axes * np.logspace(2, -2, width)) @ axes.T


@pytest.mark.parametrize("width", WIDTHS)
def test_hadamard_is_orthogonal_and_its_entries_are_of_one_size(width: int) -> None:
    matrix_DD = hadamard(width)
    assert matrix_DD is not None
    np.testing.assert_allclose(np.abs(matrix_DD), width**-0.5)
    np.testing.assert_allclose(matrix_DD @ matrix_DD.T, np.eye(width), atol=1e-12)


@pytest.mark.parametrize("width", [3, 5, 6, 10, 22, 49])
def test_where_there_is_no_hadamard_matrix_rotations_equalise(width: int) -> None:
    assert hadamard(width) is None
    variance_D = np.logspace(2, -2, width)
    rotation_DD = equalising(variance_D)
    np.testing.assert_allclose(rotation_DD @ rotation_DD.T, np.eye(width), atol=1e-10)
    np.testing.assert_allclose(((rotation_DD * variance_D) @ rotation_DD.T).diagonal(), variance_D.mean())


@pytest.mark.parametrize("width", [1, 5, 16, 22, 24])
def test_every_channel_has_variance_one(width: int) -> None:
    rotation_DD, scale = phi_s(covariance(width))
    np.testing.assert_allclose((rotation_DD @ covariance(width) @ rotation_DD.T).diagonal() / scale**2, 1)
    np.testing.assert_allclose(rotation_DD @ rotation_DD.T, np.eye(width), atol=1e-10)


def test_an_error_of_one_size_costs_the_same_in_every_principal_direction() -> None:
    rotation_DD, _ = phi_s(covariance(24))
    axes_DD = np.linalg.eigh(covariance(24))[1]
    np.testing.assert_allclose(np.abs(rotation_DD @ axes_DD), 24**-0.5, rtol=1e-6)


@pytest.mark.parametrize("width", [6, 8])
def test_targets_that_do_not_vary_stay_finite(width: int) -> None:
    rotation_DD, scale = phi_s(np.zeros((width, width)))
    assert scale == 1.0
    np.testing.assert_allclose(rotation_DD @ rotation_DD.T, np.eye(width), atol=1e-12)
