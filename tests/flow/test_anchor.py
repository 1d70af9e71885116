"""The Gaussian anchor: the right Gaussians, shrunken where cells cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, ortho_group

from scratio_sc.flow._anchor import OWN_SHARES, PSEUDO_CELLS, Anchor, Moments, gaussian_log_density
from scratio_sc.flow._design import Design


def fit(x: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Anchor:
    labels = labels.reshape(len(labels), -1)
    design, group = Design.of(labels, [f"column{j}" for j in range(labels.shape[1])], labels.shape[1])
    return Anchor.fit(x, group, design.features(design.groups), rng=np.random.default_rng(seed))


def means(anchor: Anchor) -> np.ndarray:
    """Group means in the embedding."""
    return anchor.center + anchor.mean @ anchor.basis.T


def covariances(anchor: Anchor) -> np.ndarray:
    """Group covariances in the embedding."""
    k, _d = anchor.mean.shape
    inner = np.tile(np.diag(anchor.variance), (k, 1, 1))
    if anchor.own_share:
        inner = anchor.own_basis * anchor.own_variance[:, None] @ anchor.own_basis.transpose(0, 2, 1)
    return anchor.basis @ inner @ anchor.basis.T


def draw(n: int, *, scale: float = 1.0, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((n, 3)) * [2.0, 1.0, 0.5]


LABELS = np.repeat(["a", "b"], 300)
SHIFTED = np.concatenate([draw(300), draw(300, shift=2.0, seed=1)])
SCALED = np.concatenate([draw(300), draw(300, scale=3.0, seed=1)])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), d=st.integers(1, 5))
def test_log_density_is_that_of_scipy(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    x, mean, root = rng.normal(size=(7, d)), rng.normal(size=d), rng.normal(size=(d, d))
    covariance = root @ root.T + 0.1 * np.eye(d)
    expected = np.atleast_1d(multivariate_normal(mean, covariance).logpdf(x))
    np.testing.assert_allclose(gaussian_log_density(x, mean, covariance), expected)


def moments(x: np.ndarray, group: np.ndarray, features: np.ndarray) -> Moments:
    return Moments.of(x, group, features)


def test_moments_of_groups_are_those_of_their_cells() -> None:
    x, group = SHIFTED, np.repeat([0, 1], 300)
    found = moments(x, group, np.eye(2))
    np.testing.assert_allclose(found.mean, [x[:300].mean(0), x[300:].mean(0)])
    np.testing.assert_allclose(found.own, [np.cov(x[:300].T), np.cov(x[300:].T)], atol=1e-5)


def test_shared_covariance_is_pooled_within_groups() -> None:
    sizes = np.array([100, 300])
    x = np.concatenate([draw(100), draw(300, scale=3.0, shift=5.0, seed=1)])
    found = moments(x, np.repeat([0, 1], sizes), np.eye(2))
    expected = (99 * np.cov(x[:100].T) + 299 * np.cov(x[100:].T)) / 398
    np.testing.assert_allclose(found.within, expected, atol=1e-5)


def test_no_pseudo_cells_leave_the_means_alone() -> None:
    found = moments(SHIFTED, np.repeat([0, 1], 300), np.eye(2))
    np.testing.assert_allclose(found.shrunken_mean(0.0), found.mean)


def test_endless_pseudo_cells_pull_the_means_of_one_column_to_the_pooled_one() -> None:
    found = moments(SHIFTED, np.repeat([0, 1], 300), np.eye(2))
    np.testing.assert_allclose(found.shrunken_mean(np.inf), np.tile(SHIFTED.mean(0), (2, 1)))


def test_as_many_pseudo_cells_as_cells_pull_the_means_half_way() -> None:
    found = moments(SHIFTED, np.repeat([0, 1], 300), np.eye(2))
    np.testing.assert_allclose(found.shrunken_mean(300.0), (found.mean + SHIFTED.mean(0)) / 2)


def test_group_without_cells_has_the_pooled_mean() -> None:
    found = moments(SHIFTED, np.repeat([0, 1], 300), np.eye(3))
    np.testing.assert_allclose(found.shrunken_mean(0.0)[2], SHIFTED.mean(0))


def test_means_of_shifted_groups_are_found() -> None:
    expected = [SHIFTED[:300].mean(0), SHIFTED[300:].mean(0)]
    np.testing.assert_allclose(means(fit(SHIFTED, LABELS)), expected, atol=0.1)


def test_means_of_groups_that_are_alike_are_shrunken() -> None:
    """Mostly: some pairs of halves differ the same way by chance."""
    kept = []
    for seed in range(11):
        first, second = draw(300, seed=2 * seed), draw(300, seed=2 * seed + 1)
        gap = np.diff(means(fit(np.concatenate([first, second]), LABELS)), axis=0)
        kept.append(np.linalg.norm(gap) / np.linalg.norm(second.mean(0) - first.mean(0)))
    assert np.median(kept) < 0.5
    assert max(kept) < 1 + 1e-9


def test_groups_of_one_shape_share_their_covariance() -> None:
    anchor = fit(SHIFTED, LABELS)
    x, group = SHIFTED, np.repeat([0, 1], 300)
    np.testing.assert_allclose(covariances(anchor)[0], moments(x, group, np.eye(2)).within, atol=0.3)
    assert anchor.own_share < 0.5


def test_groups_of_different_shapes_keep_their_own_covariances() -> None:
    found = covariances(fit(SCALED, LABELS))
    np.testing.assert_allclose(np.trace(found[1]) / np.trace(found[0]), 9.0, rtol=0.3)


def test_shrinkage_is_one_of_those_on_offer() -> None:
    assert fit(SCALED, LABELS).own_share in OWN_SHARES
    assert 0.0 in PSEUDO_CELLS


def test_basis_is_orthonormal() -> None:
    basis = fit(SCALED, LABELS).basis
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)


def test_shared_variances_fall_along_the_basis() -> None:
    assert np.all(np.diff(fit(SHIFTED, LABELS).variance) < 0)


def test_spread_is_the_variance_of_all_cells_along_the_basis() -> None:
    anchor = fit(SHIFTED, LABELS)
    np.testing.assert_allclose(anchor.spread, (SHIFTED @ anchor.basis).var(0), atol=1e-5)


def test_same_generator_gives_the_same_anchor() -> None:
    first, second = fit(SCALED, LABELS, seed=3), fit(SCALED, LABELS, seed=3)
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(second, name))


@pytest.mark.parametrize("x", [SHIFTED, SCALED], ids=["shifted", "scaled"])
def test_gaussians_rotate_with_the_embedding(x: np.ndarray) -> None:
    q = ortho_group(3, seed=1).rvs()
    there, here = fit(x @ q.T + 7.0, LABELS), fit(x, LABELS)
    np.testing.assert_allclose(means(there), means(here) @ q.T + 7.0, atol=1e-8)
    np.testing.assert_allclose(covariances(there), q @ covariances(here) @ q.T, atol=1e-8)


def test_coordinates_do_not_rotate_with_the_embedding() -> None:
    """The sign of every axis follows the cells, so a network trained on coordinates sees the same."""
    x = SHIFTED + (SHIFTED > 1) * SHIFTED**2
    q = ortho_group(3, seed=1).rvs()
    there, here = fit(x @ q.T, LABELS), fit(x, LABELS)
    np.testing.assert_allclose((x @ q.T - there.center) @ there.basis, (x - here.center) @ here.basis, atol=1e-8)


def test_combination_never_observed_has_the_mean_its_columns_predict() -> None:
    labels = np.repeat(np.array([("a", "x"), ("a", "y"), ("b", "x")]), 2000, axis=0)
    x = np.random.default_rng(0).standard_normal((len(labels), 2))
    x += np.column_stack([2.0 * (labels[:, 0] == "b"), -3.0 * (labels[:, 1] == "y")])
    design, group = Design.of(labels, ("first", "second"), 2)
    anchor = Anchor.fit(x, group, design.features(design.groups), rng=np.random.default_rng(0))
    never = design.features(np.array([1, 1])) @ anchor.effect
    np.testing.assert_allclose(anchor.center + never @ anchor.basis.T, [[2.0, -3.0]], atol=0.2)


@pytest.mark.parametrize("x", [SHIFTED, SCALED], ids=["shifted", "scaled"])
def test_constant_dimension_leaves_the_gaussians_proper(x: np.ndarray) -> None:
    flat = np.column_stack([x, np.full(len(x), 4.0)])
    anchor = fit(flat, LABELS)
    assert min(np.linalg.eigvalsh(covariance).min() for covariance in covariances(anchor)) > 0
    np.testing.assert_allclose(means(anchor)[:, 3], 4.0)


def test_more_dimensions_than_cells_leave_the_gaussians_proper() -> None:
    x = np.random.default_rng(0).standard_normal((40, 60))
    anchor = fit(x, np.repeat(["a", "b"], 20))
    assert min(np.linalg.eigvalsh(covariance).min() for covariance in covariances(anchor)) > 0
