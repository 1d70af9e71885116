"""What is expected of the effects of levels, and what cells tell of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import multivariate_normal

from scratio_sc.flow import _weight_effects
from scratio_sc.flow._columns import Column
from scratio_sc.flow._design import Design
from scratio_sc.flow._distances import Neighbours
from scratio_sc.flow._sizes import SPREADS, Sizes
from scratio_sc.flow._weight_effects import EffectPrior, Known, Told, _units

ONE, _ = Design.of(np.array([["a"], ["b"], ["c"]]), ("condition",), 1)
LINE = [[0.0], [1.0], [5.0]]
ROOTS = Neighbours.of(np.array(LINE), np.ones((3, 1, 1)), np.full(3, 1 / 3)).roots
ACROSS = np.linalg.svd(np.ones((1, 3)))[2][1:].T
"""Directions in which not all log weights rise together ``(3, 2)``: of the other one cells tell nothing."""
NONE = np.zeros(3)
"""No component stands apart."""


def measured(seed: int = 0, *, scale: float = 1.0) -> tuple[Known, np.ndarray, np.ndarray]:
    """Three levels measured with errors of their own: what is known, and estimates and their covariances across."""
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((3, 2, 4))
    information = half @ half.swapaxes(1, 2)
    estimate = scale * rng.standard_normal((3, 2))
    (column,) = Column.all_of(ONE)
    pull = np.einsum("gkl,gl->gk", information, estimate)
    # a level belongs to all cells, which it is compared with
    variance = np.linalg.inv(information) - np.linalg.inv(information.sum(0))
    gradient, information = pull @ ACROSS.T, ACROSS @ information @ ACROSS.T
    known = Told.of(column, gradient, information, moved=np.zeros((3, 3)), n_cells=np.full(3, 100)).known(np.arange(3))
    return known, estimate, variance


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what keeps levels that nothing can be compared with from being known exactly."""
    monkeypatch.setattr(_weight_effects, "MIN_OTHERS", 0.0)
    monkeypatch.setattr(_weight_effects, "RIDGE", 0.0)


@pytest.mark.usefixtures("exact")
def test_expected_effects_are_those_of_normal_effects_with_normal_errors() -> None:
    known, estimate, variance = measured()
    root = np.random.default_rng(1).standard_normal((3, 3))
    prior = root @ root.T @ ACROSS
    expected = [prior @ np.linalg.solve(ACROSS.T @ prior + v, e) for v, e in zip(variance, estimate, strict=True)]
    np.testing.assert_allclose(known.expected(root), expected, rtol=1e-6)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0, 3.0])
def test_prior_is_that_of_most_likelihood(scale: float) -> None:
    known, estimate, variance = measured(scale=scale)
    roots = ROOTS

    def likelihood(root: np.ndarray) -> float:
        prior = ACROSS.T @ root @ root.T @ ACROSS
        return sum(multivariate_normal(cov=prior + v).logpdf(e) for v, e in zip(variance, estimate, strict=True))

    best = max((tau * root for root in roots for tau in SPREADS), key=likelihood)
    sizes = Sizes.alike(known.evidence(roots))
    for root in known.roots(EffectPrior(roots[sizes.kernel], sizes.share, NONE, np.arange(3))):
        np.testing.assert_allclose(root @ root.T, best @ best.T, atol=1e-12)


@pytest.mark.usefixtures("exact")
def test_levels_of_different_sizes_are_expected_to_do_what_all_sizes_say_on_average() -> None:
    """Each size as likely as the effects of the level say, among the shares of all levels."""
    known, *_ = measured(scale=2.0)
    roots = ROOTS
    share = np.random.default_rng(0).dirichlet(np.ones(len(SPREADS)))
    weight = softmax(known.evidence(roots)[:, 1] + np.log(share), axis=1)
    of_each = np.stack([known.expected(tau * roots[1]) for tau in SPREADS])
    found = known.expected(known.roots(EffectPrior(roots[1], share, NONE, np.arange(3))))
    np.testing.assert_allclose(found, np.einsum("lt,tlm->lm", weight, of_each))


def test_scale_of_levels_with_roots_of_their_own_is_that_of_all() -> None:
    known, *_ = measured(scale=2.0)
    roots = np.random.default_rng(1).standard_normal((3, 3, 3))
    near, weight = np.eye(3), np.full(3, 1 / 3)
    square = 0.0
    for level, root in enumerate(roots):
        one = Known(known.precision[[level]], known.pull[[level]], 1)
        along = root - weight @ root
        covariance = along @ np.linalg.inv(np.eye(3) + root.T @ known.precision[level] @ root) @ along.T
        mean = one.expected(root)[0]
        square = square + np.diag(covariance) + (mean - weight @ mean) ** 2
    found = known.scale(roots, near=near, weight=weight)
    np.testing.assert_allclose(found**2, square / (weight @ square))


@pytest.mark.usefixtures("exact")
def test_scale_is_the_size_of_effects_about_their_mean() -> None:
    """Expected squares under the posterior, here of a million draws."""
    known, estimate, variance = measured(scale=2.0)
    rng = np.random.default_rng(1)
    root, weight = rng.standard_normal((3, 3)), np.array([0.5, 0.3, 0.2])
    near = np.array([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0], [0.0, 0.1, 0.9]])
    prior, square = root @ root.T, np.zeros(3)
    for e, v in zip(estimate, variance, strict=True):
        gain = prior @ ACROSS @ np.linalg.inv(ACROSS.T @ prior @ ACROSS + v)
        effect = rng.multivariate_normal(gain @ e, prior - gain @ ACROSS.T @ prior, size=1_000_000)
        square += ((effect - effect @ weight[:, None]) ** 2).mean(0) / 3
    expected = near @ square
    found = known.scale(root, near=near, weight=weight)
    np.testing.assert_allclose(found**2, expected / (weight @ expected), rtol=0.01)


def evidence(covariance: np.ndarray, estimate: np.ndarray, variance: np.ndarray) -> float:
    """Log marginal likelihood of estimates under normal effects of a covariance."""
    prior = ACROSS.T @ covariance @ ACROSS
    return sum(multivariate_normal(cov=prior + v).logpdf(e) for v, e in zip(variance, estimate, strict=True))


@pytest.mark.usefixtures("exact")
def test_component_that_stands_apart_is_expected_to_do_what_its_variance_says() -> None:
    known, estimate, variance = measured(scale=2.0)
    prior = EffectPrior(
        np.random.default_rng(1).standard_normal((3, 3)), np.eye(len(SPREADS))[7], np.array([0, 4.0, 0]), np.arange(3)
    )
    covariance = SPREADS[7] ** 2 * prior.root @ prior.root.T + np.diag(prior.apart)
    into = covariance @ ACROSS
    expected = [into @ np.linalg.solve(ACROSS.T @ into + v, e) for v, e in zip(variance, estimate, strict=True)]
    np.testing.assert_allclose(known.expected(known.roots(prior)), expected, rtol=1e-6)


@pytest.mark.usefixtures("exact")
def test_gains_are_what_a_variance_of_its_own_adds_to_the_evidence() -> None:
    known, estimate, variance = measured(scale=2.0)
    root = np.random.default_rng(1).standard_normal((3, 3))
    known = replace(known, n_free=3)
    _, gains = known._gains(root)
    for t, k, v in ((0, 1, 9), (7, 0, 3), (12, 2, 15)):
        alike = SPREADS[t] ** 2 * root @ root.T
        own = alike + SPREADS[v] ** 2 * np.outer(np.eye(3)[k], np.eye(3)[k])
        added = evidence(own, estimate, variance) - evidence(alike, estimate, variance)
        assert gains[t, k, v] == pytest.approx(added, rel=1e-6)


def test_level_moved_by_another_column_has_that_much_less_to_explain() -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((3, 2, 4))
    information, moved = half @ half.swapaxes(1, 2), rng.standard_normal((3, 2))
    gradient = np.einsum("gkl,gl->gk", information, moved)
    (column,) = Column.all_of(ONE)
    np.testing.assert_allclose(
        Told.of(column, gradient, information, moved=moved, n_cells=np.ones(3)).pull, 0, atol=1e-9
    )


# --- levels of unequal size


def test_levels_of_equal_size_are_the_unit_of_their_effects() -> None:
    np.testing.assert_allclose(_units(np.full(5, 70.0), 5), 1)


def test_units_are_the_spread_of_effects_about_all_cells() -> None:
    """Of levels whose effects about what they have in common are alike, here a million times."""
    n_cells = np.array([4000.0, 500, 60])
    share = n_cells / n_cells.sum()
    effects = np.random.default_rng(0).standard_normal((1_000_000, 3))
    about_all = effects - effects @ share[:, None]
    np.testing.assert_allclose(_units(n_cells, 3), about_all.std(0) / np.sqrt(2 / 3), rtol=5e-3)


def test_one_level_alone_has_a_unit_of_one() -> None:
    np.testing.assert_array_equal(_units(np.array([100.0]), 1), 1)


@pytest.mark.usefixtures("exact")
def test_effects_are_expected_by_the_units_of_their_levels() -> None:
    known, estimate, variance = measured()
    unit, root = np.array([0.1, 1.0, 2.0]), np.random.default_rng(1).standard_normal((3, 3))
    known = Known(known.precision * unit[:, None, None] ** 2, known.pull * unit[:, None], known.n_free, unit)
    expected = []
    for e, v, size in zip(estimate, variance, unit, strict=True):
        prior = size**2 * root @ root.T @ ACROSS
        expected.append(prior @ np.linalg.solve(ACROSS.T @ prior + v, e))
    np.testing.assert_allclose(known.expected(root), expected, rtol=1e-6)
