"""A mixture whose weights and means depend on the group, and its fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from scratio_sc.flow import _mixture_fit
from scratio_sc.flow._components import Components
from scratio_sc.flow._design import Design
from scratio_sc.flow._mixture_fit import Fitted, Mixture, Prior
from scratio_sc.flow._weight_effects import EffectPrior

LABELS = np.repeat(["a", "b"], 500)
DESIGN, GROUP = Design.of(LABELS[:, None], ("condition",), 1)
BOTH = DESIGN.features(DESIGN.groups)
CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])


def start(centres: np.ndarray = CENTRES, *, n_features: int = 2) -> Mixture:
    """Equal parts of unit Gaussians."""
    m, d = centres.shape
    weight = torch.full((m,), 1 / m, dtype=torch.float64)
    return Mixture.start(
        Components(weight, torch.as_tensor(centres), torch.eye(d).double().expand(m, d, d)), n_features
    )


def random_mixture(m: int, seed: int, *, d: int = 2) -> Mixture:
    rng = np.random.default_rng(seed)
    return Mixture(
        np.zeros(m, np.int64),
        rng.standard_normal(m),
        rng.standard_normal((2, m)),
        rng.standard_normal((m, d)),
        rng.standard_normal((2, m, d)),
        np.tile(np.eye(d), (m, 1, 1)),
    )


def cells(shares: dict[str, list[float]], *, centres: np.ndarray = CENTRES, seed: int = 0) -> torch.Tensor:
    """Unit Gaussians around the centres, in the shares of each group."""
    rng = np.random.default_rng(seed)
    kind = [
        rng.permutation(np.repeat(np.arange(len(centres)), np.multiply(p, 500).round().astype(int)))
        for p in shares.values()
    ]
    return torch.as_tensor(centres[np.concatenate(kind)] + rng.standard_normal((1000, 2)))


def fitted(x: torch.Tensor, mixture: Mixture | None = None, *, n_sweeps: int = 4) -> Fitted:
    return Fitted.of(mixture or start(), x, GROUP, design=DESIGN, n_sweeps=n_sweeps)


# --- weights and means


def test_mixture_starts_with_the_weights_of_its_components() -> None:
    weight = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    mixture = Mixture.start(Components(weight, torch.as_tensor(CENTRES), torch.eye(2).double().expand(3, 2, 2)), 2)
    np.testing.assert_allclose(np.exp(mixture.log_weights(BOTH)), np.tile(weight, (2, 1)))


def test_effects_of_features_add_up() -> None:
    mixture, features = random_mixture(3, 0), np.array([[1.0, 0], [0, 1], [1, 1]])
    means, base = mixture.means(features), mixture.mean
    np.testing.assert_allclose(means[2] - base, means[0] - base + means[1] - base)


# --- several mixtures in one


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_union_has_its_mixtures_in_equal_shares(seed: int, sizes: list[int]) -> None:
    parts = [random_mixture(m, seed + i) for i, m in enumerate(sizes)]
    expected = [part.log_weights(BOTH) - np.log(len(parts)) for part in parts]
    np.testing.assert_allclose(Mixture.union(parts).log_weights(BOTH), np.concatenate(expected, axis=1), atol=1e-9)


def test_union_has_the_means_of_its_mixtures() -> None:
    parts = [random_mixture(m, m) for m in (2, 3)]
    expected = np.concatenate([part.means(BOTH) for part in parts], axis=1)
    np.testing.assert_allclose(Mixture.union(parts).means(BOTH), expected)


def test_union_of_one_mixture_is_itself() -> None:
    one = random_mixture(3, 0)
    for name, value in vars(Mixture.union([one])).items():
        np.testing.assert_array_equal(value, getattr(one, name))


# --- the fit

PROPORTIONS = {"a": [0.6, 0.3, 0.1], "b": [0.2, 0.2, 0.6]}


def test_shares_are_found_where_groups_differ_in_them() -> None:
    mixture = fitted(cells(PROPORTIONS)).mixture
    np.testing.assert_allclose(np.exp(mixture.log_weights(BOTH)), list(PROPORTIONS.values()), atol=0.05)


def test_means_stay_where_groups_differ_in_their_shares_alone() -> None:
    np.testing.assert_array_equal(fitted(cells(PROPORTIONS)).mixture.mean_effect, 0)


def test_groups_of_equal_shares_have_almost_equal_weights() -> None:
    mixture = fitted(cells({"a": [0.5, 0.3, 0.2], "b": [0.5, 0.3, 0.2]})).mixture
    weight = np.exp(mixture.log_weights(BOTH))
    np.testing.assert_allclose(weight[0], weight[1], atol=0.01)


def test_shares_of_components_that_overlap_are_found() -> None:
    """The centres are two deviations apart."""
    centres = np.array([[0.0, 0.0], [2.0, 0.0]])
    x = cells({"a": [0.7, 0.3], "b": [0.3, 0.7]}, centres=centres)
    mixture = fitted(x, start(centres), n_sweeps=10).mixture
    np.testing.assert_allclose(np.exp(mixture.log_weights(BOTH)), [[0.7, 0.3], [0.3, 0.7]], atol=0.1)


@pytest.mark.parametrize(("n", "n_target"), [(6, 3.0), (12, 3.0), (48, 0.75)])
def test_covariances_are_drawn_as_if_by_some_cells_of_the_target(n: int, n_target: float) -> None:
    drawn = _mixture_fit._drawn_towards(np.zeros((3, 3)), np.eye(3), np.array(n))
    np.testing.assert_allclose(drawn, np.eye(3) / (n - 1 + n_target))


def test_component_without_cells_of_a_group_has_hardly_any_weight_there() -> None:
    weight = np.exp(fitted(cells({"a": [0.5, 0.5, 0.0], "b": [0.4, 0.3, 0.3]})).mixture.log_weights(BOTH))
    assert weight[0, 2] < 0.02
    assert weight[1, 2] == pytest.approx(0.3, abs=0.05)


def test_mean_of_the_component_that_moves_is_found() -> None:
    x = cells({"a": [0.5, 0.3, 0.2], "b": [0.5, 0.3, 0.2]})
    second = (torch.cdist(x, torch.as_tensor(CENTRES)).argmin(1) == 1) & torch.as_tensor(GROUP == 1)
    x[second] += torch.tensor([0.0, 2.0])
    moved = np.subtract(*fitted(x).mixture.means(BOTH)[::-1])
    np.testing.assert_allclose(moved, [[0, 0], [0, 2], [0, 0]], atol=0.3)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_one_component_has_the_moments_of_its_groups(shift: float) -> None:
    x = torch.as_tensor(np.random.default_rng(0).standard_normal((1000, 2)) * [2.0, 1.0])
    x[500:] += shift
    one = start(np.zeros((1, 2)))
    result = fitted(x, one)
    expected = np.stack([x[:500].mean(0), x[500:].mean(0)]) if shift else np.tile(x.mean(0), (2, 1))
    np.testing.assert_allclose(result.mixture.means(BOTH)[:, 0], expected, atol=0.02)
    for g, group in enumerate((x[:500], x[500:])):
        np.testing.assert_allclose(result.own[g, 0], np.cov(group.T), rtol=0.02, atol=0.02)
    within = (np.cov(x[:500].T) + np.cov(x[500:].T)) / 2
    np.testing.assert_allclose(result.mixture.covariance[0], within, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_covariances_lie_between_the_shared_and_the_own_ones(share: float) -> None:
    result = fitted(cells(PROPORTIONS))
    expected = (1 - share) * result.mixture.covariance + share * result.own
    np.testing.assert_allclose(result.covariances(share), expected)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_log_densities_are_those_of_scipy(share: float) -> None:
    x = cells(PROPORTIONS)
    result = fitted(x)
    weight, mean = result.mixture.log_weights(BOTH), result.mixture.means(BOTH)
    covariance = np.broadcast_to(result.covariances(share), (2, 3, 2, 2))
    expected = [
        logsumexp(
            [weight[g, k] + multivariate_normal(mean[g, k], covariance[g, k]).logpdf(x) for k in range(3)], axis=0
        )
        for g in range(2)
    ]
    np.testing.assert_allclose(result.log_densities(x, DESIGN, own_share=share).T, expected)


def test_mixture_is_the_same_without_the_groups_own_covariances(monkeypatch: pytest.MonkeyPatch) -> None:
    x = cells({"a": [0.5, 0.3, 0.2], "b": [0.1, 0.2, 0.7]})
    usual = fitted(x)
    monkeypatch.setattr(_mixture_fit, "MAX_OWN_ELEMENTS", 23)
    without = fitted(x)
    assert len(without.scatter) == 0
    for name in ("log_weight", "weight_effect", "mean", "mean_effect", "covariance"):
        np.testing.assert_allclose(getattr(without.mixture, name), getattr(usual.mixture, name), atol=1e-10)
    np.testing.assert_allclose(
        without.log_densities(x, DESIGN, own_share=0), usual.log_densities(x, DESIGN, own_share=0), atol=1e-8
    )


def test_group_without_cells_has_finite_parameters() -> None:
    """A member may not have seen the only cells of a group."""
    x, group = cells(PROPORTIONS)[:500], GROUP[:500]
    result = Fitted.of(start(), x, group, design=DESIGN, n_sweeps=2)
    of_effects = (value for prior in result.prior.effects for value in vars(prior).values())
    for value in (result.own, result.prior.alike, *of_effects, *vars(result.mixture).values()):
        assert np.isfinite(value).all()


def test_order_of_cells_does_not_matter() -> None:
    x, order = cells(PROPORTIONS), np.random.default_rng(0).permutation(1000)
    there = Fitted.of(start(), x[torch.as_tensor(order)], GROUP[order], design=DESIGN, n_sweeps=2).mixture
    for name, value in vars(fitted(x, n_sweeps=2).mixture).items():
        np.testing.assert_allclose(getattr(there, name), value, atol=1e-8)


@pytest.mark.parametrize(("distance", "beside"), [(8.0, [0.0, 3.0]), (8.0, [1.0, 0.0]), (10.0, [-2.0, 2.0])])
def test_scatter_is_no_less_than_nothing_where_shares_are_tiny(distance: float, beside: list[float]) -> None:
    """Cells far from a component that moves: those that the scatter leaves out must not count as cells either."""
    centres = np.array([[0.0, 0.0], [distance, 0.0]])
    x = cells({"a": [0.5, 0.5], "b": [1.0, 0.0]}, centres=centres)
    mixture = start(centres + np.array([[0.0, 0.0], beside]))
    assert np.linalg.eigvalsh(fitted(x, mixture, n_sweeps=1).scatter).min() > -1e-9


def test_cells_of_a_condition_count_once_whatever_their_numbers() -> None:
    """Groups that differ in numbers alone have their cells together: each of them has all cells of the others."""
    one = Components(torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2)[None].double())
    mixture, prior = Mixture.start(one, 1), Prior([EffectPrior.broad(1)], np.eye(1))
    scatter, size = np.full((1, 1, 2, 2), 4.0) + 40 * np.eye(2), np.full((1, 1), 8.0)
    nothing = np.zeros((1, 1, 1)), np.zeros((1, 1))
    alone = Fitted(mixture, scatter, size, np.zeros((1, 2), int), prior, *nothing)
    bins = Fitted(mixture, scatter.repeat(5, 0), size.repeat(5, 0), np.zeros((5, 2), int), prior, *nothing)
    np.testing.assert_allclose(bins.own, alone.own.repeat(5, 0))
