"""Proportions of components by group: what cells tell of them, and what neighbours add."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.special import log_softmax, softmax
from scipy.stats import norm

from scratio_sc.flow import _proportions, _sizes, _weight_effects
from scratio_sc.flow._design import Design
from scratio_sc.flow._distances import Neighbours
from scratio_sc.flow._proportions import _Scoring, fit_effects, log_weights
from scratio_sc.flow._sizes import SPREADS
from scratio_sc.flow._weight_effects import EffectPrior

ONE, _ = Design.of(np.array([["a"], ["b"], ["c"]]), ("condition",), 1)
PAIR, _ = Design.of(np.array([["a"], ["b"]]), ("condition",), 1)
DONORS, _ = Design.of(np.array([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]), ("condition", "donor"), 1)


def neighbours(mean: list[list[float]]) -> Neighbours:
    """Unit Gaussians of equal weights."""
    m, d = np.shape(mean)
    return Neighbours.of(np.array(mean), np.tile(np.eye(d), (m, 1, 1)), np.full(m, 1 / m))


def strangers(m: int) -> Neighbours:
    """Components that have nothing to do with each other."""
    return Neighbours(np.eye(m)[None], np.eye(m))


# --- weights


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), scale=st.floats(0, 50))
def test_partitions_have_equal_shares(seed: int, sizes: list[int], scale: float) -> None:
    partition = np.repeat(np.arange(len(sizes)), sizes)
    logit = scale * np.random.default_rng(seed).standard_normal((3, len(partition)))
    weight = np.exp(log_weights(logit, partition))
    share = np.stack([weight[:, partition == p].sum(1) for p in range(len(sizes))])
    np.testing.assert_allclose(share, 1 / len(sizes))


def test_weights_of_one_partition_are_a_softmax() -> None:
    logit = np.random.default_rng(0).standard_normal((2, 4))
    np.testing.assert_allclose(log_weights(logit, np.zeros(4, int)), log_softmax(logit, axis=1))


# --- what cells tell


def test_gradient_is_that_of_the_log_likelihood() -> None:
    rng = np.random.default_rng(0)
    density, logit = [rng.random((n, 3)) for n in (40, 20)], rng.standard_normal((2, 3))
    scoring = _Scoring.at(log_softmax(logit, axis=1), [torch.as_tensor(cells) for cells in density])
    for g, cells in enumerate(density):
        found = approx_fprime(logit[g], lambda at, cells=cells: np.log(cells @ np.exp(log_softmax(at))).sum())
        np.testing.assert_allclose(scoring.gradient[g], found, atol=1e-5)


def test_steady_information_counts_the_cells_that_are_expected_and_missing() -> None:
    """Of a hundred cells ten, twenty and seventy are expected; the first component has none."""
    weight = np.array([0.1, 0.2, 0.7])
    scoring = _Scoring.at(np.log(weight)[None], [torch.as_tensor(np.repeat(np.eye(3), [0, 25, 75], axis=0))])
    apart = np.eye(3) - weight
    np.testing.assert_allclose(scoring.steady[0], apart.T @ np.diag([10, 25, 75]) @ apart)


def test_shares_of_most_likelihood_have_no_gradient() -> None:
    count = np.array([[10, 20, 30], [5, 5, 50]])
    density = [torch.as_tensor(np.repeat(np.eye(3), row, axis=0)) for row in count]
    scoring = _Scoring.at(np.log(count / count.sum(1, keepdims=True)), density)
    np.testing.assert_allclose(scoring.gradient, 0, atol=1e-9)


def test_group_without_cells_tells_nothing() -> None:
    scoring = _Scoring.at(np.full((2, 3), -np.log(3)), [torch.ones(5, 3).double(), torch.zeros(0, 3).double()])
    np.testing.assert_array_equal(scoring.information[1], 0)


# --- the fit


def fitted(
    count: list[list[int]], design: Design = PAIR, *, prior: Neighbours | list[EffectPrior] | None = None
) -> tuple[np.ndarray, list[EffectPrior]]:
    """Log weights of groups ``(n_groups, m)`` with so many cells of each component, and the prior."""
    density = [torch.as_tensor(np.repeat(np.eye(len(row)), row, axis=0)) for row in count]
    base, m = np.log(np.sum(count, axis=0) / np.sum(count)), len(count[0])
    start = np.zeros((design.n_features, m))
    effects, chosen, _ = fit_effects(
        density, base, start, design=design, prior=strangers(m) if prior is None else prior
    )
    return log_weights(base + design.features(design.groups) @ effects, np.zeros(m, int)), chosen


def of_size(tau: float) -> EffectPrior:
    """Of two components that have nothing to do with each other; tau as large as a size that is tried."""
    return EffectPrior(tau / SPREADS[9] * np.eye(2), np.eye(len(SPREADS))[9], np.zeros(2), np.arange(2))


def shares(count: list[list[int]]) -> np.ndarray:
    return np.array(count) / np.sum(count, axis=1, keepdims=True)


def test_proportions_of_many_cells_are_kept() -> None:
    count = [[6000, 3000, 1000], [2000, 2000, 6000]]
    np.testing.assert_allclose(np.exp(fitted(count)[0]), shares(count), rtol=0.02)


def test_proportions_that_differ_by_chance_are_the_same() -> None:
    found, prior = fitted([[505, 300, 195], [495, 303, 202]])
    np.testing.assert_array_equal(SPREADS @ prior[0].share, 0)
    np.testing.assert_array_equal(found[0], found[1])


def test_proportions_lie_between_all_cells_and_the_group() -> None:
    count = [[60, 40], [40, 60]]
    found = np.exp(fitted(count, prior=[of_size(0.2)])[0])
    assert 0.5 < found[0, 0] < 0.6
    np.testing.assert_allclose(found[0], found[1, ::-1])


def test_few_cells_among_many_of_another_group_are_not_taken_for_theirs() -> None:
    """What differs between 4,000 and 60 cells is hardly anything of all cells, and much of the 60."""
    log_weight, _ = fitted([[1000, 1000, 1000, 1000], [40, 10, 5, 5]])
    many, few = np.exp(log_weight)
    np.testing.assert_allclose(many, 0.25, atol=0.01)
    np.testing.assert_allclose(few, shares([[40, 10, 5, 5]])[0], atol=0.06)


def test_small_component_changes_with_those_beside_it() -> None:
    """Of three components two lie together; the one of few cells was counted evenly."""
    count = [[300, 5, 695], [700, 5, 295]]
    together = neighbours([[0.0, 0.0], [0.5, 0.0], [9.0, 0.0]])
    alone, beside = (fitted(count, prior=near)[0] for near in (strangers(3), together))
    apart = [np.subtract(*found[::-1])[1] - np.log(1.0) for found in (alone, beside)]
    assert abs(apart[0]) < 0.1
    assert apart[1] > 0.3


@pytest.mark.parametrize("price", [np.inf, _weight_effects.PRICE])
def test_what_does_not_change_is_not_made_to_by_what_does(monkeypatch: pytest.MonkeyPatch, *, price: float) -> None:
    """Of twelve components eleven differ by chance; one size for all effects can say it of one that stands apart."""
    monkeypatch.setattr(_weight_effects, "PRICE", price)
    chance = np.array([12, -9, 4, -14, 7, 15, -6, 2, -11, 5, -5])
    count = np.stack([np.r_[500 + chance, 800], np.r_[500 - chance, 200]])
    of_one_size = Neighbours(np.eye(12)[None], np.full((12, 12), 1 / 12))
    change = [np.subtract(*fitted(count.tolist(), prior=near)[0]) for near in (of_one_size, strangers(12))]
    spread, step = zip(*((np.std(c[:-1]), c[-1] - np.mean(c[:-1])) for c in change), strict=True)
    if np.isinf(price):
        assert spread[1] < 0.75 * spread[0]
        assert step[1] > step[0]
    else:
        assert max(spread) < 1e-9
        assert step == pytest.approx(2 * [np.log(4) + 0.01], abs=0.02)


def test_component_without_cells_of_a_group_has_hardly_any_weight_there() -> None:
    found = np.exp(fitted([[500, 500, 0], [400, 300, 300]])[0])
    assert 0 < found[0, 2] < 0.01


def test_group_without_cells_has_the_proportions_of_the_others() -> None:
    found = np.exp(fitted([[300, 500], [0, 0]])[0])
    np.testing.assert_allclose(found, [[0.375, 0.625]] * 2)


def test_prior_that_is_given_comes_back() -> None:
    (given,) = prior = [of_size(0.3)]
    (found,) = fitted([[60, 40], [40, 60]], prior=prior)[1]
    assert found is given


def test_what_is_expected_of_a_level_comes_from_its_own_cells_alone() -> None:
    """A prior tells of sizes that levels may have, and so nothing of which level has which."""
    prior = [EffectPrior(np.eye(2), np.full(len(SPREADS), 1 / len(SPREADS)), np.zeros(2), np.arange(2))]
    assert np.ptp(fitted([[50, 50], [50, 50]], prior=prior)[0], axis=0) == pytest.approx(0)
    apart = fitted([[90, 10], [10, 90]], prior=prior)[0]
    np.testing.assert_allclose(np.exp(apart), shares([[90, 10], [10, 90]]), atol=0.03)


@pytest.mark.parametrize("n_scoring", [9, 20])
def test_effects_of_levels_without_cells_in_a_component_settle(monkeypatch: pytest.MonkeyPatch, n_scoring: int) -> None:
    """Three levels of a hundred do much, and most levels lack one component or another."""
    rng = np.random.default_rng(0)
    odds = rng.normal(0, np.repeat([2.5, 0.0], [3, 37])[:, None], size=(40, 12))
    count = np.stack([rng.multinomial(60, p) for p in softmax(odds, axis=1)])
    design, _ = Design.of(np.array([[f"p{i:02}"] for i in range(40)]), ("condition",), 1)
    found = fitted(count.tolist(), design)[0]
    monkeypatch.setattr(_proportions, "N_SCORING", n_scoring)
    np.testing.assert_allclose(fitted(count.tolist(), design)[0], found, atol=0.02)


def test_levels_that_do_nothing_are_not_made_to_by_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thirty levels one has other proportions, as clearly as a hundred cells tell; the others differ by chance."""
    rng = np.random.default_rng(0)
    usual, other = np.full(6, 1 / 6), np.array([0.35, 0.05, 0.3, 0.05, 0.2, 0.05])
    design, _ = Design.of(np.array([[f"p{i:02}"] for i in range(30)]), ("condition",), 1)
    count = np.stack([rng.multinomial(100, other if i == 7 else usual) for i in range(30)])
    found = np.exp(fitted(count.tolist(), design)[0])
    monkeypatch.setattr(_sizes, "PRICE", np.inf)
    of_one_size = np.exp(fitted(count.tolist(), design)[0])
    others = [np.delete(shares, 7, 0).std(0).max() for shares in (found, of_one_size)]
    assert others[0] < 0.5 * others[1]
    assert np.abs(found[7] - other).max() < np.abs(of_one_size[7] - other).max()


def test_effects_of_columns_add_up() -> None:
    """The condition and the donor each multiply the odds."""
    odds = np.array([4.0, 12.0, 1.0, 3.0]) / 2
    count = np.column_stack([1e6 * odds / (1 + odds), 1e6 / (1 + odds)]).round().astype(int) // 100
    found, prior = fitted(count.tolist(), DONORS)
    np.testing.assert_allclose(np.exp(found[:, 0] - found[:, 1]), odds, rtol=0.05)
    assert SPREADS @ prior[2].share < 0.1


def test_difference_between_conditions_is_the_effect_of_the_condition() -> None:
    count = [[8000, 2000], [8000, 2000], [2000, 8000], [2000, 8000]]
    density = [torch.as_tensor(np.repeat(np.eye(2), row, axis=0)) for row in count]
    effects, *_ = fit_effects(density, np.log([0.5, 0.5]), np.zeros((8, 2)), design=DONORS, prior=strangers(2))
    logit = effects[:, 0] - effects[:, 1]
    np.testing.assert_allclose(logit[:2], [np.log(4), -np.log(4)], atol=0.05)
    np.testing.assert_allclose(logit[2:], 0, atol=0.05)


def test_conditions_that_cannot_be_told_apart_have_the_same_proportions() -> None:
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.full(20, 5.0), 2)[[0, 1, 1]]
    count = [rng.multinomial(5_000, each).tolist() for each in share]
    found, (prior,) = fitted(count, ONE, prior=strangers(20))
    np.testing.assert_array_equal(prior.sets[1:], prior.sets[1])
    np.testing.assert_array_equal(found[1], found[2])
    together = np.log(np.add(count[1], count[2]) / 10_000)
    np.testing.assert_allclose(found[1], together, atol=0.1)


def test_component_alone_has_no_effects() -> None:
    found, _ = fitted([[100], [50]])
    np.testing.assert_array_equal(found, 0)


def test_components_that_overlap_are_told_apart_as_far_as_cells_can() -> None:
    """Two Gaussians two deviations apart, in shares of .7 and .3."""
    rng = np.random.default_rng(0)
    density = []
    for share in (0.7, 0.3):
        x = rng.standard_normal(4000) + 2 * (rng.random(4000) > share)
        density.append(torch.as_tensor(np.column_stack([norm.pdf(x), norm.pdf(x, 2)])))
    effects, *_ = fit_effects(density, np.log([0.5, 0.5]), np.zeros((2, 2)), design=PAIR, prior=strangers(2))
    found = np.exp(log_weights(np.log([0.5, 0.5]) + effects, np.zeros(2, int)))
    np.testing.assert_allclose(found, [[0.7, 0.3], [0.3, 0.7]], atol=0.03)
