"""The path between noise and cells, and quadrature along it, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratio_sc.flow._path import SIGMA_MAX, SIGMA_MIN, gauss_legendre_nodes, time_of


@settings(max_examples=20, deadline=None, derandomize=True)
@given(sigma=st.floats(SIGMA_MIN, SIGMA_MAX))
def test_noise_level_and_time_are_inverse(sigma: float) -> None:
    t = time_of(sigma)
    assert (1 - t) / t == pytest.approx(sigma)


@pytest.mark.parametrize("n_nodes", [1, 4, 8, 16])
def test_nodes_lie_in_the_trained_range_from_coarse_to_fine(n_nodes: int) -> None:
    nodes = gauss_legendre_nodes(n_nodes)
    assert np.all(np.diff(nodes.sigma) < 0)
    assert nodes.sigma[0] <= SIGMA_MAX
    assert nodes.sigma[-1] >= SIGMA_MIN


@pytest.mark.parametrize("n_nodes", [1, 4, 8, 16])
def test_every_node_lies_in_the_band_it_stands_for(n_nodes: int) -> None:
    nodes = gauss_legendre_nodes(n_nodes)
    coarse_end = np.concatenate([[SIGMA_MAX], nodes.bandwidth[:-1]])
    assert np.all(nodes.bandwidth < nodes.sigma)
    assert np.all(nodes.sigma < coarse_end)


def test_bands_end_at_the_finest_trained_noise() -> None:
    assert gauss_legendre_nodes(8).bandwidth[-1] == pytest.approx(SIGMA_MIN)


@pytest.mark.parametrize("power", range(8))
def test_quadrature_is_exact_for_polynomials_in_t(power: int) -> None:
    nodes = gauss_legendre_nodes(4)
    t = time_of(nodes.sigma)
    total = np.sum(nodes.weight * nodes.sigma**2 * t * (1 - t) * t**power)
    low, high = time_of(SIGMA_MAX), time_of(SIGMA_MIN)
    assert total == pytest.approx((high ** (power + 1) - low ** (power + 1)) / (power + 1))


@pytest.mark.parametrize("variance", [0.1, 1.0, 3.0])
def test_quadrature_integrates_over_the_signal_to_noise_ratio(variance: float) -> None:
    """1/2 int d gamma / (1 + variance gamma)^2, what a shifted mean of that variance contributes."""
    nodes = gauss_legendre_nodes(8)
    total = np.sum(nodes.weight / (1 + variance / nodes.sigma**2) ** 2)
    exact = 0.5 / variance * (1 / (1 + variance / SIGMA_MAX**2) - 1 / (1 + variance / SIGMA_MIN**2))
    assert total == pytest.approx(exact, rel=1e-3)
