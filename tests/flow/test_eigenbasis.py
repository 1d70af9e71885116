"""Coordinates in which cells of a group vary independently."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from scratio_sc.flow._eigenbasis import eigenbasis

GROUP = np.repeat([3, 7], 300)
CELLS = np.random.default_rng(0).standard_normal((600, 3)) ** 3 * [2.0, 1.0, 0.5] + 2.0 * (GROUP == 7)[:, None]


def within(x: np.ndarray) -> np.ndarray:
    """Covariance within both groups."""
    apart = np.concatenate([part - part.mean(0) for part in (x[:300], x[300:])])
    return apart.T @ apart / 598


def test_center_is_the_mean_of_all_cells() -> None:
    center, _, _ = eigenbasis(CELLS, GROUP)
    np.testing.assert_allclose(center, CELLS.mean(0), atol=1e-12)


def test_basis_is_orthonormal() -> None:
    _, basis, _ = eigenbasis(CELLS, GROUP)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)


def test_cells_of_a_group_vary_independently_along_the_basis_and_most_along_the_first() -> None:
    _, basis, variance = eigenbasis(CELLS, GROUP)
    np.testing.assert_allclose(basis.T @ within(CELLS) @ basis, np.diag(variance), atol=1e-5)
    assert (np.diff(variance) < 0).all()


def test_coordinates_do_not_rotate_with_the_embedding() -> None:
    """The sign of every axis follows the cells, so a network trained on coordinates sees the same."""
    rotated = CELLS @ ortho_group(3, seed=1).rvs().T
    (there, turned, _), (here, basis, _) = eigenbasis(rotated, GROUP), eigenbasis(CELLS, GROUP)
    np.testing.assert_allclose((rotated - there) @ turned, (CELLS - here) @ basis, atol=1e-8)


@pytest.mark.parametrize("constant", [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], ids=["all alike", "one dimension varies"])
def test_no_variance_is_zero(constant: list[float]) -> None:
    _, _, variance = eigenbasis(CELLS * constant, GROUP)
    assert (variance > 0).all()
