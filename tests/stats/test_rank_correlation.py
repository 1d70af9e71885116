"""Rank correlation of many genes, against scipy's of one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from scipy.stats import spearmanr

from scratio_sc.stats._rank_correlation import p_values, rank_correlation


def with_ties(n: int = 200, n_genes: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Counts, most of them zero, some negative; and a number a cell that is correlated with the first genes."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(n).round(1)
    x = rng.poisson(np.exp(np.outer(y, np.linspace(1, 0, n_genes)) - 1.5)) - rng.binomial(1, 0.1, (n, n_genes))
    return x.astype(float), y


def scipys(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    each = [spearmanr(x[:, j], y) for j in range(x.shape[1])]
    return np.array([found.statistic for found in each]), np.array([found.pvalue for found in each])


@pytest.mark.parametrize("stored", [np.asarray, sparse.csc_matrix])
def test_as_scipy(stored: type) -> None:
    x, y = with_ties()
    rho, p = scipys(x, y)
    found = rank_correlation(stored(x), y)
    np.testing.assert_allclose(found, rho, atol=1e-12)
    np.testing.assert_allclose(p_values(found, len(y)), p, rtol=1e-6)


@given(arrays(np.float64, (12, 3), elements=st.integers(-2, 2)), arrays(np.float64, 12, elements=st.integers(-3, 3)))
def test_sparse_and_dense_agree(x: np.ndarray, y: np.ndarray) -> None:
    found = rank_correlation(sparse.csc_matrix(x), y)
    np.testing.assert_allclose(found, rank_correlation(x, y), atol=1e-12)
    assert (np.isnan(found) == ((np.ptp(x, axis=0) == 0) | (np.ptp(y) == 0))).all()


def test_stored_zeros_are_zeros() -> None:
    x, y = with_ties()
    stored = sparse.csc_matrix(x)
    stored.data[::3] = 0
    np.testing.assert_allclose(rank_correlation(stored, y), rank_correlation(stored.toarray(), y), atol=1e-12)


def test_gene_that_does_not_vary_has_a_p_value_of_1() -> None:
    assert p_values(np.array([np.nan]), 30) == [1.0]


def test_perfect_correlation_has_a_p_value_of_0() -> None:
    assert p_values(np.array([1.0, -1.0]), 30).tolist() == [0.0, 0.0]
