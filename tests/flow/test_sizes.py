"""Sizes of the effects of levels: alike, unless the levels tell otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import norm

from scratio_sc.flow._sizes import PRICE, SPREADS, Sizes, _apart, prior_variance

ERROR = 0.2
"""Standard error of every effect."""
TAU = np.repeat([0.0, 1.0], [80, 20])
"""Most levels do nothing, some much."""


def evidence(effects: np.ndarray) -> np.ndarray:
    """Log likelihood of independent effects ``(n_levels, m)`` of each size, ``(n_levels, 1, n_spreads)``."""
    return norm(0, np.hypot(SPREADS, ERROR)).logpdf(effects[..., None]).sum(1)[:, None]


def drawn(tau: np.ndarray, seed: int = 0) -> np.ndarray:
    """Estimates of eight effects of levels of sizes ``(n_levels,)``."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((len(tau), 8)) * np.hypot(tau, ERROR)[:, None]


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.238, 0.336, 0.4, 0.476, 0.95])
def test_levels_that_differ_by_chance_have_one_size(tau: float) -> None:
    """In nine draws of ten, at least, and wherever the size lies between those tried."""
    n_alike = 0
    for seed in range(20):
        of_each = evidence(drawn(np.full(60, tau), seed))
        sizes = Sizes.of(of_each)
        n_alike += not sizes.differ and sizes.share[of_each.sum(0)[0].argmax()] == 1
    assert n_alike >= 18


def test_where_one_size_does_all_sizes_are_as_likely_as_they_explain_all_levels() -> None:
    of_each = evidence(drawn(np.full(5, 0.3)))
    found = Sizes.of(of_each)
    assert not found.differ
    np.testing.assert_allclose(found.likely(of_each), np.tile(softmax(of_each.sum(0)), (5, 1, 1)))


def test_few_levels_that_do_much_stand_out_from_those_that_do_nothing() -> None:
    of_each = evidence(drawn(TAU))
    sizes = Sizes.of(of_each)
    assert sizes.differ
    expected = sizes.likely(of_each)[:, 0] @ SPREADS
    assert expected[TAU == 0].mean() < 0.1
    assert expected[TAU == 1].mean() > 0.7


def test_size_of_a_level_is_what_its_effects_say_among_the_sizes_of_all() -> None:
    """By Bayes' theorem, the shares as prior."""
    of_each = evidence(drawn(TAU))
    sizes = Sizes.of(of_each)
    joint = np.exp(of_each[:, 0] - of_each[:, 0].max(1, keepdims=True)) * sizes.share
    np.testing.assert_allclose(sizes.likely(of_each)[:, 0], joint / joint.sum(1, keepdims=True))


def test_kernel_of_sizes_that_differ_is_the_one_that_explains_levels_best() -> None:
    """One kernel explains them better if all have one size, the other if they may differ."""
    of_each = evidence(drawn(TAU))
    of_one = np.full_like(of_each, of_each.sum(0).max() / len(TAU) + 0.1)
    sizes = Sizes.of(np.concatenate([of_one, of_each], axis=1))
    assert Sizes.alike(np.concatenate([of_one, of_each], axis=1)).kernel == 0
    assert (sizes.kernel, sizes.differ) == (1, True)


def test_single_level_has_the_size_that_explains_it_best() -> None:
    sizes = Sizes.of(evidence(np.full((1, 8), 0.7)))
    assert SPREADS[sizes.share.argmax()] == pytest.approx(np.sqrt(0.7**2 - ERROR**2), rel=0.2)
    assert not sizes.differ


def test_shares_of_sizes_are_those_of_most_likelihood() -> None:
    of_each = np.full((30, 1, len(SPREADS)), -np.inf)
    of_each[..., [2, 9]] = np.random.default_rng(0).normal(size=(30, 1, 2), scale=3)
    of_two = of_each[:, 0, [2, 9]]
    best = minimize_scalar(
        lambda p: -np.log(np.exp(of_two) @ [p, 1 - p]).sum(), bounds=(0, 1), method="bounded", options={"xatol": 1e-9}
    )
    likelihood, share = _apart(of_each)
    np.testing.assert_allclose(likelihood, -best.fun)
    np.testing.assert_allclose(share[0, 2], best.x, atol=1e-5)


def test_sizes_that_explain_nothing_end_at_0_whatever_numpy_says_of_underflow() -> None:
    of_each = evidence(drawn(TAU)) * 50
    with np.errstate(all="raise"):
        _, share = _apart(of_each)
    np.testing.assert_allclose(share.sum(1), 1)


def test_sizes_that_differ_explain_no_less_than_one() -> None:
    of_each = evidence(drawn(np.full(20, 0.3)))
    assert _apart(of_each)[0][0] > of_each.sum(0).max() - 0.1 * PRICE


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), value=st.floats(0, 1e4))
def test_prior_shrinks_as_much_as_all_sizes_do_on_average(seed: int, value: float) -> None:
    rng = np.random.default_rng(seed)
    share, of_level = rng.dirichlet(np.full(len(SPREADS), 0.3)), rng.normal(size=(1, len(SPREADS)))
    variance = prior_variance(share, of_level, np.full((1, 1), value))
    weight = share * np.exp(of_level[0])
    expected = weight @ (SPREADS**2 / (1 + SPREADS**2 * value)) / weight.sum()
    np.testing.assert_allclose((variance / (1 + variance * value))[0], expected)


@pytest.mark.parametrize("spread", [0, 5, 15])
def test_prior_of_one_size_is_its_square(spread: int) -> None:
    of_level = np.random.default_rng(0).normal(size=(1, len(SPREADS)))
    found = prior_variance(np.eye(len(SPREADS))[spread], of_level, np.array([[0.0, 3.0, 1e5]]))
    np.testing.assert_allclose(found, SPREADS[spread] ** 2)
