"""How far components lie apart, and who learns from whom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from scratio_sc.flow._distances import MOVE, REACHES, Neighbours, bhattacharyya, moving_alike


def unit(mean: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Unit Gaussians."""
    return np.array(mean), np.tile(np.eye(len(mean[0])), (len(mean), 1, 1))


def neighbours(mean: list[list[float]]) -> Neighbours:
    """Unit Gaussians of equal weights."""
    return Neighbours.of(*unit(mean), np.full(len(mean), 1 / len(mean)))


@pytest.mark.parametrize(("gap", "scale"), [(0.0, 1.0), (2.0, 1.0), (1.0, 3.0)])
def test_distance_is_the_logarithm_of_the_overlap(gap: float, scale: float) -> None:
    """- log of the integral of the root of the product of two densities."""
    overlap, _ = quad(lambda x: np.sqrt(norm.pdf(x) * norm.pdf(x, gap, scale)), -30, 30)
    distance = bhattacharyya(np.array([[0.0], [gap]]), np.array([[[1.0]], [[scale**2]]]))
    np.testing.assert_allclose(distance, -np.log(overlap) * (1 - np.eye(2)), atol=1e-7)


def test_distance_does_not_rotate() -> None:
    rng = np.random.default_rng(0)
    mean, root = rng.standard_normal((4, 3)), rng.standard_normal((4, 3, 3))
    covariance, (q, _) = root @ root.swapaxes(1, 2), np.linalg.qr(rng.standard_normal((3, 3)))
    np.testing.assert_allclose(bhattacharyya(mean @ q.T, q @ covariance @ q.T), bhattacharyya(mean, covariance))


def test_kernels_fall_with_the_distance_in_units_of_the_median() -> None:
    mean = [[0.0], [1.0], [5.0]]
    roots, distance = neighbours(mean).roots, bhattacharyya(*unit(mean))
    median = np.median(distance[~np.eye(3, dtype=bool)])
    for root, reach in zip(roots, REACHES, strict=False):
        np.testing.assert_allclose(root @ root.T, np.exp(-distance / (reach * median)), atol=1e-7)
    np.testing.assert_array_equal(roots[-1], np.eye(3))


@pytest.mark.parametrize("mean", [[[0.0]], [[1.0], [1.0]]])
def test_components_that_nothing_tells_apart_are_independent(mean: list[list[float]]) -> None:
    np.testing.assert_array_equal(neighbours(mean).roots, np.eye(len(mean))[None])


def test_many_cells_close_by_count_most() -> None:
    mean, covariance = unit([[0.0], [0.5], [0.5], [9.0]])
    near = Neighbours.of(mean, covariance, np.array([0.4, 0.4, 0.1, 0.1])).near
    np.testing.assert_allclose(near.sum(1), 1)
    assert near[0, 1] == pytest.approx(4 * near[0, 2])
    assert 0 < near[0, 3] < near[0, 2]


def test_components_at_the_same_place_move_alike_and_others_by_themselves() -> None:
    alike = moving_alike(*unit([[0.0], [0.0], [4.0], [8.0]]))
    np.testing.assert_array_equal(alike[:2, :2], 1)
    assert alike[0, 2] < 1e-3


def test_how_far_components_move_alike_falls_with_the_distance_in_units_of_the_median() -> None:
    mean = [[0.0], [0.4], [1.0]]
    distance = bhattacharyya(*unit(mean))
    median = np.median(distance[~np.eye(3, dtype=bool)])
    np.testing.assert_allclose(moving_alike(*unit(mean)), np.exp(-distance / (MOVE * median)))


@pytest.mark.parametrize("mean", [[[0.0]], [[1.0], [1.0]]])
def test_components_that_nothing_tells_apart_move_alike(mean: list[list[float]]) -> None:
    np.testing.assert_array_equal(moving_alike(*unit(mean)), 1)
