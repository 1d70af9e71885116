"""Differences between levels: kept where cells can tell them from chance, shrunk where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from scratio_sc.flow._design import Design
from scratio_sc.flow._shrinkage import (
    GATE,
    SPREADS,
    Columns,
    logit_effects,
    mean_effects,
    posterior_mean,
    prior_weights,
    shrink_means,
)

ONE, _ = Design.of(np.array([["a"], ["b"], ["c"]]), ("condition",), 1)
PAIRS = np.array([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")])
TWO, _ = Design.of(PAIRS, ("condition", "donor"), 1)
EVEN = np.full(len(SPREADS), 1 / len(SPREADS))


def price(d: int) -> float:
    """What a set of levels with a mean of its own costs, in ``d`` dimensions."""
    return d + GATE * np.sqrt(2 * d)


# --- the prior of effects, and what is to be expected of them


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n=st.integers(0, 50), scale=st.floats(0, 5))
def test_weights_of_the_prior_sum_to_one(seed: int, n: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    weight = prior_weights(scale * rng.standard_normal(n), rng.uniform(0.01, 1, n))
    assert weight.shape == SPREADS.shape
    assert weight.min() >= 0
    assert weight.sum() == pytest.approx(1)


def test_prior_of_nothing_but_noise_is_narrow() -> None:
    rng = np.random.default_rng(0)
    weight = prior_weights(0.3 * rng.standard_normal(2000), np.full(2000, 0.3))
    assert np.sqrt(weight @ SPREADS**2) < 0.1


def test_prior_has_the_spread_of_the_effects() -> None:
    rng = np.random.default_rng(0)
    effect = 0.8 * rng.standard_normal(2000) + 0.1 * rng.standard_normal(2000)
    weight = prior_weights(effect, np.full(2000, 0.1))
    assert np.sqrt(weight @ SPREADS**2) == pytest.approx(0.8, rel=0.1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(effect=st.floats(-10, 10), error=st.floats(0.01, 10), seed=st.integers(0, 1000))
def test_expected_effect_lies_between_zero_and_what_was_measured(effect: float, error: float, seed: int) -> None:
    weight = np.random.default_rng(seed).dirichlet(EVEN)
    (expected,) = posterior_mean(np.array([effect]), np.array([error]), weight)
    assert 0 <= expected * np.sign(effect) <= abs(effect)


def test_expected_effect_is_the_average_over_the_posterior() -> None:
    """By numerical integration."""
    effect, error, weight = 0.7, 0.5, np.r_[0.0, np.full(len(SPREADS) - 1, 1 / (len(SPREADS) - 1))]
    grid = np.linspace(-20, 20, 400_001)
    density = norm.pdf(grid[:, None], scale=SPREADS[1:]) @ weight[1:] * norm.pdf(effect, grid, error)
    (expected,) = posterior_mean(np.array([effect]), np.array([error]), weight)
    assert expected == pytest.approx((grid * density).sum() / density.sum(), rel=1e-4)


def test_effects_of_a_prior_at_zero_are_zero() -> None:
    weight = np.eye(len(SPREADS))[0]
    np.testing.assert_array_equal(posterior_mean(np.array([1.0, -3.0]), np.array([0.1, 2.0]), weight), 0)


def test_effect_measured_well_is_kept() -> None:
    effect = np.array([2.0, -1.0])
    np.testing.assert_allclose(posterior_mean(effect, np.full(2, 0.01), EVEN), effect, rtol=0.01)


def test_effects_that_are_noise_are_shrunk_to_almost_nothing() -> None:
    rng = np.random.default_rng(0)
    effect, error = 0.3 * rng.standard_normal(500), np.full(500, 0.3)
    expected = posterior_mean(effect, error, prior_weights(effect, error))
    assert (expected**2).mean() < 0.2**2 * (effect**2).mean()


def test_expected_effects_keep_their_shape() -> None:
    effect, error = np.arange(6.0).reshape(2, 3), np.arange(1, 7).reshape(2, 3) / 5
    expected = posterior_mean(effect, error, EVEN)
    flat = posterior_mean(effect.ravel(), error.ravel(), EVEN)
    np.testing.assert_array_equal(expected, flat.reshape(2, 3))


# --- means of levels


def cell_means(truth: np.ndarray, n: int, *, seed: int = 0) -> np.ndarray:
    """Means of ``n`` cells around the truth, about their average."""
    mean = truth + np.random.default_rng(seed).standard_normal(truth.shape) / np.sqrt(n)
    return mean - mean.mean(0)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n_levels=st.integers(1, 6), d=st.integers(1, 5))
def test_levels_that_cannot_be_told_apart_have_no_effect(seed: int, n_levels: int, d: int) -> None:
    """Their distances stay within the gate, because they are pulled together first."""
    mean = 0.3 * cell_means(np.zeros((n_levels, d)), 100, seed=seed)
    shrunken, _ = shrink_means(mean, np.full(n_levels, 100), whiten=np.eye(d))
    np.testing.assert_allclose(shrunken, 0, atol=1e-12)


def test_real_difference_of_one_level_is_kept() -> None:
    truth = np.array([[3.0, 0.0], [0, 0], [0, 0], [0, 0]])
    shrunken, _ = shrink_means(cell_means(truth, 200), np.full(4, 200), whiten=np.eye(2))
    np.testing.assert_allclose(shrunken - shrunken[1], truth, atol=0.3)


def test_levels_of_one_set_share_their_mean_exactly() -> None:
    truth = np.array([[3.0, 0.0], [0, 0], [3, 0], [0, 0]])
    shrunken, _ = shrink_means(cell_means(truth, 200), np.full(4, 200), whiten=np.eye(2))
    np.testing.assert_array_equal(shrunken[[0, 1]], shrunken[[2, 3]])
    assert not np.isclose(shrunken[0], shrunken[1]).all()


def test_means_are_shrunk_and_never_turned_round() -> None:
    mean = np.array([[0.6, 0.0], [-0.6, 0.0]])
    shrunken, _ = shrink_means(mean, np.full(2, 50), whiten=np.eye(2))
    np.testing.assert_array_equal(shrunken[:, 1], 0)
    assert 0 < shrunken[0, 0] < 0.6


def test_level_without_cells_goes_with_the_others() -> None:
    mean = np.array([[1.0, 0], [-1, 0], [50, 50]])
    shrunken, _ = shrink_means(mean, np.array([100, 100, 0]), whiten=np.eye(2))
    assert np.isfinite(shrunken).all()
    assert min(np.abs(shrunken[2] - shrunken[level]).max() for level in (0, 1)) == 0


def test_distances_are_those_of_whitened_cells() -> None:
    """The same in units in which cells spread by 1."""
    rng = np.random.default_rng(0)
    mean, whiten = cell_means(np.array([[2.0, 0, 0], [0, 0, 0], [0, 1, 0]]), 100), rng.normal(size=(3, 3))
    found, cost = shrink_means(mean @ np.linalg.inv(whiten), np.full(3, 100), whiten=whiten)
    expected, expected_cost = shrink_means(mean, np.full(3, 100), whiten=np.eye(3))
    np.testing.assert_allclose(found @ whiten, expected, atol=1e-10)
    assert cost == pytest.approx(expected_cost)


def test_cost_of_one_set_is_all_that_is_left_unexplained() -> None:
    mean, size = np.array([[0.01, 0.0], [-0.01, 0.02]]), np.array([100, 100])
    _, cost = shrink_means(mean, size, whiten=np.eye(2))
    assert cost == pytest.approx((size * (mean**2).sum(1)).sum())


def test_cost_of_sets_is_what_they_leave_and_the_price_of_each_but_one() -> None:
    mean, size = np.array([[3.0, 0], [-3, 0.5], [0, -4]]), np.array([100, 100, 100])
    shrunken, cost = shrink_means(mean, size, whiten=np.eye(2))
    left = (size * ((mean - shrunken) ** 2).sum(1)).sum()
    assert cost == pytest.approx(left + 2 * price(2))


# --- columns of a design


def test_one_column_has_its_levels() -> None:
    (column,) = Columns.of(ONE)
    assert (column.start, column.n_levels, column.level.tolist()) == (0, 3, [0, 1, 2])


def test_several_columns_have_the_groups_too() -> None:
    *columns, groups = Columns.of(TWO)
    assert [(column.start, column.n_levels) for column in columns] == [(0, 2), (2, 2)]
    assert (groups.start, groups.level.tolist()) == (4, [0, 1, 2, 3])


def test_totals_are_sums_over_the_groups_of_a_level() -> None:
    first, *_ = Columns.of(TWO)
    np.testing.assert_array_equal(first.total(np.array([[1.0], [2], [4], [8]])), [[3], [12]])


# --- effects on log odds


def errors_of(information: np.ndarray) -> np.ndarray:
    """Standard errors of the distance between a level and all levels together, which it belongs to."""
    return np.sqrt(1 / information - 1 / information.sum(0))


def test_errors_are_those_of_the_distance_to_all_cells() -> None:
    """By drawing levels with nothing between them again and again."""
    rng, information = np.random.default_rng(0), np.array([4.0, 4.0, 25.0])
    logit = rng.standard_normal((100_000, 3)) / np.sqrt(information)
    apart = logit - (logit @ information / information.sum())[:, None]
    np.testing.assert_allclose(apart.std(0), errors_of(information), rtol=0.01)


def test_effects_on_log_odds_are_the_expected_ones() -> None:
    """Under a prior given, each level by its own information."""
    rng = np.random.default_rng(0)
    logit, information = rng.standard_normal((3, 4)), rng.uniform(1, 50, (3, 4))
    effects, _ = logit_effects(logit, information, ONE, prior=EVEN[None])
    np.testing.assert_allclose(effects, posterior_mean(logit, errors_of(information), EVEN))


def test_prior_of_log_odds_is_that_of_most_likelihood_unless_given() -> None:
    rng = np.random.default_rng(0)
    logit, information = rng.standard_normal((3, 4)), rng.uniform(1, 50, (3, 4))
    _, prior = logit_effects(logit, information, ONE, prior=None)
    np.testing.assert_allclose(prior, prior_weights(logit, errors_of(information))[None])


def test_prior_of_log_odds_that_is_given_comes_back() -> None:
    _, prior = logit_effects(np.ones((3, 2)), np.ones((3, 2)), ONE, prior=EVEN[None])
    np.testing.assert_array_equal(prior, EVEN[None])


def test_effects_of_columns_add_up_to_the_log_odds_of_the_groups() -> None:
    logit = 1.5 * np.array([[1.0], [1], [-1], [-1]]) + 0.8 * np.array([[1.0], [-1], [1], [-1]])
    effects, _ = logit_effects(logit, np.full((4, 1), 1e4), TWO, prior=None)
    np.testing.assert_allclose(TWO.features(TWO.groups) @ effects, logit, atol=0.05)


def test_difference_between_conditions_is_the_effect_of_the_condition() -> None:
    logit = 1.5 * np.array([[1.0], [1], [-1], [-1]])
    effects, _ = logit_effects(logit, np.full((4, 1), 1e4), TWO, prior=None)
    np.testing.assert_allclose(effects[:2, 0], [1.5, -1.5], atol=0.05)
    np.testing.assert_allclose(effects[2:, 0], 0, atol=0.05)


def test_component_alone_has_no_splits_and_no_effects() -> None:
    effects, prior = logit_effects(np.empty((3, 0)), np.empty((3, 0)), ONE, prior=None)
    assert effects.shape == (3, 0)
    np.testing.assert_allclose(prior.sum(1), 1)


# --- effects on means


def precisions(m: int, d: int) -> np.ndarray:
    return np.tile(np.eye(d), (m, 1, 1))


def test_means_of_one_component_move_by_themselves() -> None:
    shift, size = cell_means(np.array([[2.0, 0.0], [0, 0], [0, 0]]), 100), np.full((3, 1), 100.0)
    effects = mean_effects(shift[:, None], size, ONE, precision=precisions(1, 2))
    expected, _ = shrink_means(shift, size[:, 0], whiten=np.eye(2))
    np.testing.assert_allclose(effects[:, 0], expected)


def test_shift_of_all_components_is_found_better_than_by_each_alone() -> None:
    """Twenty components of fifteen cells a level, moved by half a deviation."""
    m, n, common = 20, 15, np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]])
    rng = np.random.default_rng(0)
    shift = common[:, None] + rng.standard_normal((3, m, 2)) / np.sqrt(n)
    shift -= shift.mean(0)
    effects = mean_effects(shift, np.full((3, m), float(n)), ONE, precision=precisions(m, 2))
    alone = np.stack([shrink_means(shift[:, k], np.full(3, n), whiten=np.eye(2))[0] for k in range(m)], axis=1)
    error, error_alone = (np.square(each - common[:, None]).mean() for each in (effects, alone))
    assert error < 0.1 * error_alone


def test_component_that_moves_alone_leaves_the_others_where_they_are() -> None:
    m, n = 6, 100
    truth = np.zeros((3, m, 2))
    truth[0, 2], truth[1, 2] = [2, 0], [-2, 0]
    shift = truth + np.random.default_rng(0).standard_normal(truth.shape) / np.sqrt(n)
    shift -= shift.mean(0)
    effects = mean_effects(shift, np.full((3, m), float(n)), ONE, precision=precisions(m, 2))
    np.testing.assert_allclose(effects[:, 2], truth[:, 2], atol=0.3)
    np.testing.assert_array_equal(np.delete(effects, 2, axis=1), 0)


def test_means_that_are_alike_have_no_effects() -> None:
    m, n = 5, 50
    shift = 0.5 * np.random.default_rng(0).standard_normal((3, m, 2)) / np.sqrt(n)
    effects = mean_effects(shift - shift.mean(0), np.full((3, m), float(n)), ONE, precision=precisions(m, 2))
    np.testing.assert_allclose(effects, 0, atol=1e-12)


def test_effects_of_columns_add_up_to_the_means_of_the_groups() -> None:
    by_condition, by_donor = (
        np.array([[2.0, 0], [2, 0], [-2, 0], [-2, 0]]),
        np.array([[0, 1.0], [0, -1], [0, 1], [0, -1]]),
    )
    shift = (by_condition + by_donor)[:, None]
    effects = mean_effects(shift, np.full((4, 1), 1e4), TWO, precision=precisions(1, 2))
    np.testing.assert_allclose(np.einsum("gf,fmd->gmd", TWO.features(TWO.groups), effects), shift, atol=0.01)
    np.testing.assert_allclose(effects[:2, 0], [[2, 0], [-2, 0]], atol=0.01)


def test_components_without_cells_have_finite_effects() -> None:
    size = np.array([[100.0, 0.0], [100, 0], [100, 0]])
    shift = np.stack([np.array([[1.0, 0], [-1, 0], [0, 0]]), np.zeros((3, 2))], axis=1)
    assert np.isfinite(mean_effects(shift, size, ONE, precision=precisions(2, 2))).all()
