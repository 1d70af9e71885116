"""Levels that change alike: united where that is likelier, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from scratio_sc.flow import _same_levels
from scratio_sc.flow._same_levels import same_levels, together


def told(effects: np.ndarray, *, precision: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Information and pull of levels with such effects ``(n_levels, m)``, measured with errors of their own."""
    rng = np.random.default_rng(seed)
    information = precision * np.eye(effects.shape[1])[None].repeat(len(effects), 0)
    return information, precision * (effects + rng.standard_normal(effects.shape) / np.sqrt(precision))


def test_sums_are_of_the_levels_of_a_set() -> None:
    np.testing.assert_array_equal(together(np.array([[1, 2], [3, 4], [5, 6]]), np.array([1, 0, 1])), [[3, 4], [6, 8]])


@pytest.mark.parametrize("sets", [[0, 0, 1, 2], [0, 1, 0, 1], [0, 0, 0, 1]])
def test_gain_is_that_of_the_marginal_likelihood_of_all_estimates(
    monkeypatch: pytest.MonkeyPatch, sets: list[int]
) -> None:
    """Of estimates about what all have in common, which is hardly known (a standard deviation of 1,000)."""
    monkeypatch.setattr(_same_levels, "RIDGE", 1e-6)
    rng, m = np.random.default_rng(0), 3
    half = rng.standard_normal((4, m, 6))
    information, estimate, root = half @ half.swapaxes(1, 2), rng.standard_normal((4, m)), rng.standard_normal((m, m))
    pull = (information @ estimate[..., None])[..., 0]

    def likelihood(of_level: np.ndarray) -> float:
        same = of_level[:, None] == of_level
        covariance = np.kron(np.ones((4, 4)), 1e6 * np.eye(m)) + np.kron(same, root @ root.T)
        for level in range(4):
            own = slice(level * m, (level + 1) * m)
            covariance[own, own] += np.linalg.inv(information[level])
        return float(multivariate_normal(cov=covariance, allow_singular=True).logpdf(estimate.ravel()))

    def evidence(of_level: np.ndarray) -> float:
        return _same_levels._evidence(together(information, of_level), together(pull, of_level), root)

    united, each = np.array(sets), np.arange(4)
    assert evidence(united) - evidence(each) == pytest.approx(likelihood(united) - likelihood(each), abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_levels_with_the_same_effects_are_united(seed: int) -> None:
    effects = np.random.default_rng(seed).standard_normal((3, 20))[[0, 1, 0, 2, 1]]
    sets, _ = same_levels(*told(effects, precision=50.0, seed=seed), root=np.eye(20))
    np.testing.assert_array_equal(sets[:, None] == sets, np.array([0, 1, 0, 2, 1])[:, None] == [0, 1, 0, 2, 1])


@pytest.mark.parametrize("seed", range(5))
def test_levels_with_effects_of_their_own_stay_apart(seed: int) -> None:
    effects = np.random.default_rng(seed).standard_normal((5, 20))
    assert len(set(same_levels(*told(effects, precision=50.0, seed=seed), root=np.eye(20))[0])) == 5


def test_two_sets_remain_though_no_level_does_anything() -> None:
    assert len(set(same_levels(*told(np.zeros((4, 20)), precision=50.0), root=np.eye(20))[0])) == 2


def test_sets_do_not_depend_on_the_order_of_levels() -> None:
    effects = np.random.default_rng(0).standard_normal((3, 20))[[0, 1, 0, 2, 1]]
    information, pull = told(effects, precision=50.0)
    order = np.array([3, 0, 4, 2, 1])
    sets, again = (same_levels(information[o], pull[o], root=np.eye(20))[0] for o in (np.arange(5), order))
    np.testing.assert_array_equal(sets[order][:, None] == sets[order], again[:, None] == again)


def test_level_without_cells_takes_after_no_other() -> None:
    effects = np.random.default_rng(0).standard_normal((3, 20))
    information, pull = told(effects, precision=50.0)
    information[2], pull[2] = 0, 0
    assert len(set(same_levels(information, pull, root=np.eye(20))[0])) == 3
