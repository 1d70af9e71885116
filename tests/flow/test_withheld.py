"""What shrinking effects on log weights may have withheld."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import multivariate_normal, norm

from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._sizes import SPREADS, Sizes
from scratio_sc.flow._weight_effects import Known
from scratio_sc.flow._withheld import hidden_from, padded, withheld_from

if TYPE_CHECKING:
    from collections.abc import Callable

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

# --- what the effects lack


def known(precision: float, estimate: float, *, n_free: float = 1) -> Known:
    """One level, one component."""
    return Known(np.full((1, 1, 1), float(precision)), np.full((1, 1), precision * estimate), n_free)


def lacking(known: Known, roots: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """What is withheld where levels have one size."""
    sizes = Sizes.alike(known.evidence(roots))
    return known.withheld(known.expected(chosen), known.chosen_by_cells(chosen), roots, sizes=sizes)


def expected_square(precision: float, estimate: float, tau: float) -> float:
    """The same by hand: posterior of an effect by Bayes' theorem, averaged over the prior's spreads."""
    variance = SPREADS**2 + 1 / precision
    weight = softmax(norm(0, np.sqrt(variance)).logpdf(estimate))
    kept = SPREADS**2 / variance
    shrunk = tau**2 / (tau**2 + 1 / precision)
    apart = kept / precision + (kept * estimate - shrunk * estimate) ** 2
    return float(weight @ apart - shrunk**2 / precision)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    precision=st.floats(1, 1e4), estimate=st.floats(-3, 3), tau=st.sampled_from([0.0, *SPREADS[[3, 7, 12]].tolist()])
)
def test_it_is_the_expected_square_less_the_variance_of_the_estimate(
    precision: float, estimate: float, tau: float
) -> None:
    found = lacking(known(precision, estimate), np.eye(1)[None], np.full((1, 1), tau))
    np.testing.assert_allclose(found, expected_square(precision, estimate, tau), rtol=1e-9, atol=1e-12)


def test_components_lack_what_bayes_theorem_says_of_all_of_them() -> None:
    """Two components that change alike, told apart by their cells; the sizes and reaches tried are averaged."""
    precision, estimate = np.array([[60.0, 10], [10, 20]]), np.array([0.3, -0.1])
    kernels = [np.array([[1.0, 0.8], [0.8, 1.0]]), np.eye(2)]
    roots = np.stack([np.linalg.cholesky(kernel) for kernel in kernels])
    chosen = SPREADS[6] * roots[0]
    found = lacking(Known(precision[None], (precision @ estimate)[None], 1), roots, chosen)[0]
    variance = np.linalg.inv(precision)
    keep = chosen @ chosen.T @ np.linalg.inv(chosen @ chosen.T + variance)
    tried = [(tau**2 * kernel, tau**2 * kernel + variance) for kernel in kernels for tau in SPREADS]
    weight = softmax([multivariate_normal(np.zeros(2), total).logpdf(estimate) for _, total in tried])
    expected = -keep @ variance @ keep.T
    for (prior, total), share in zip(tried, weight, strict=True):
        kept = prior @ np.linalg.inv(total)
        apart = (kept - keep) @ estimate
        expected = expected + share * (prior - kept @ prior + np.outer(apart, apart))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_many_cells_leave_nothing_to_withhold() -> None:
    assert abs(lacking(known(1e6, 0.5), np.eye(1)[None], np.full((1, 1), 0.5))).max() < 1e-9


def test_it_says_how_large_an_effect_may_be_that_was_shrunk_to_nothing() -> None:
    """Standard errors of .1: effects up to about that are not ruled out."""
    (found,) = lacking(known(100, 0.05), np.eye(1)[None], np.zeros((1, 1))).ravel()
    assert 0.03 < np.sqrt(found) < 0.1


@pytest.mark.parametrize(("n_levels", "factor"), [(2, 2.0), (5, 1.25)])
def test_levels_that_make_up_all_cells_err_against_each_other(n_levels: int, factor: float) -> None:
    """Of two, one lacks what the other has too much: the square of the difference is four times that of each."""
    each = known(100, 0.2, n_free=n_levels - 1)
    together = Known(each.precision.repeat(n_levels, 0), each.pull.repeat(n_levels, 0), n_levels - 1)
    root = np.full((1, 1), SPREADS[5])
    alone = lacking(Known(each.precision, each.pull, n_levels - 1), root[None] / SPREADS[5], root)
    np.testing.assert_allclose(lacking(together, root[None] / SPREADS[5], root), factor * alone.repeat(n_levels, 0))


def test_levels_of_different_sizes_lack_by_what_size_each_may_have() -> None:
    """One level of fifty does much; a single one of the others may."""
    estimate = np.append(0.1 * np.random.default_rng(0).standard_normal(49), 2.0)[:, None]
    levels = Known(np.full((50, 1, 1), 100.0), 100 * estimate, 49)
    roots, chosen = np.eye(1)[None], np.zeros((50, 1, 1))
    sizes, variance = Sizes.of(levels.evidence(roots)), SPREADS**2 + 1 / 100
    weight = softmax(49 / 50 * norm(0, np.sqrt(variance)).logpdf(estimate) + np.log(sizes.share), axis=1)
    kept = SPREADS**2 / variance
    expected = (weight * (kept / 100 + (kept * estimate) ** 2)).sum(1) * 50 / 49
    assert sizes.differ
    found = levels.withheld(levels.expected(chosen), levels.chosen_by_cells(chosen), roots, sizes=sizes)
    np.testing.assert_allclose(found[:, 0, 0], expected)


def test_what_cells_choose_is_counted_once_in_whatever_units() -> None:
    """Estimates of sets of levels, of which one is nearly all cells: squares are of moves about what levels share."""
    unit = np.array([0.1, 1.5])
    alike, apart = (Known(np.full((2, 1, 1), 80.0), np.zeros((2, 1)), 1, u) for u in (1.0, unit))
    seen, roots = np.full((2, 1, 1), 0.01), np.eye(1)[None]
    lacks = [
        each.withheld(np.zeros((2, 1)), part, roots, sizes=Sizes.alike(each.evidence(roots)))
        for each, part in ((alike, seen), (apart, seen * unit[:, None, None] ** 2))
    ]
    np.testing.assert_allclose(*lacks)


# --- what the ratios lack

PARTITION = np.array([0, 0, 1, 1, 1])
RNG = np.random.default_rng(0)
ROOTS = RNG.standard_normal((2, 3, 3))
PARTS = [(root @ root.swapaxes(1, 2))[:, :m, :m] for root, m in zip((ROOTS, ROOTS[::-1]), (2, 3), strict=True)]
CHANGE = RNG.standard_normal((2, 4, 5))
FEATURES = np.array([[1.0, 0.0], [0.0, 1.0]])


def withheld(features: np.ndarray = FEATURES) -> np.ndarray:
    return withheld_from(CHANGE, padded(PARTS), partition=PARTITION, features=features)


def test_a_ratio_lacks_what_both_sides_lack_on_the_average_of_the_partitions() -> None:
    expected = np.zeros(4)
    for p, part in enumerate(PARTS):
        sides = zip(CHANGE[..., p == PARTITION], part, strict=True)
        expected += sum(np.diag(change @ of_level @ change.T) for change, of_level in sides) / 2
    contrast = np.array([1, -1])
    np.testing.assert_allclose(withheld() @ contrast @ contrast, expected)


def test_sides_lack_by_their_own_effects() -> None:
    found = withheld()
    np.testing.assert_allclose(found[:, 0, 1], 0)
    assert (np.diagonal(found, axis1=1, axis2=2) > 0).all()


def test_what_sides_have_in_common_is_left_out() -> None:
    assert not withheld(np.ones((2, 2))).any()


def test_a_mixture_of_both_sides_lacks_half_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.CHANGE", CHANGE[[0, 0]])
    contrast = np.array([1, -1])
    mixed = withheld(np.array([[1.0, 0.0], [0.5, 0.5]])) @ contrast @ contrast
    np.testing.assert_allclose(mixed, withheld() @ contrast @ contrast / 4)


def test_what_a_side_hardly_has_matters_little_to_its_other_cells(fit: Fit) -> None:
    """A type of one condition only: how little of it the other may have says next to nothing of other types."""
    rng = np.random.default_rng(0)
    centre = np.repeat([(0, 0), (9, 0), (0, 9)], [400, 400, 200], axis=0)
    x, labels = rng.normal(centre, 1), np.repeat(["a", "b", "a", "b", "a"], 200)
    flow, _ = fit(x, labels)
    ratio = flow.log_ratio(x, "a", "b")
    assert ratio.sd[800:].min() > 1
    assert ratio.sd[:800].max() < 0.3


def test_hidden_moves_change_densities_in_whatever_direction() -> None:
    """One Gaussian in three dimensions, moved by 0.01 under one side, here in 100,000 directions."""
    rng = np.random.default_rng(0)
    moves = rng.standard_normal((100_000, 3))
    moves *= 0.01 / np.linalg.norm(moves, axis=1, keepdims=True)
    x = np.array([[2.0, -1, 0.5], [0, 0, 1]])
    density = -((x[:, None] - moves) ** 2).sum(2) / 2
    apart = np.ones((2, 2, 1)) * np.sqrt((x**2).sum(1) / 3)[:, None]
    found = hidden_from(apart, np.array([[0.0], [1e-4]]), n_parts=1, features=FEATURES)
    np.testing.assert_allclose(found[:, 1, 1], density.var(1), rtol=0.02)
    assert not found[:, 0].any()


def test_moves_too_small_to_see_are_in_the_standard_error(fit: Fit) -> None:
    """Twelve types, all of which move by .45 standard deviations, in five dimensions."""
    rng = np.random.default_rng(0)
    centre, move = 12 * rng.standard_normal((12, 5)), rng.standard_normal((12, 5))
    move *= 0.45 / np.linalg.norm(move, axis=1, keepdims=True)
    kind, moved = np.repeat(np.arange(12), 100), np.arange(1200) % 2
    x = rng.normal(centre[kind] + moved[:, None] * move[kind], 1)
    flow, _ = fit(x, np.array(["a", "b"])[moved])
    exact = ((x - centre[kind]) ** 2 - (x - centre[kind] - move[kind]) ** 2).sum(1) / 2
    ratio = flow.log_ratio(x, "b", "a")
    assert flow.hidden_moves.any()
    assert (np.abs(ratio.value - exact) < 1.645 * ratio.sd).mean() > 0.7
    seen = ConditionalFlow(**{**vars(flow), "hidden_moves": np.zeros_like(flow.hidden_moves)}).log_ratio(x, "b", "a")
    assert (np.abs(ratio.value - exact) < 1.645 * seen.sd).mean() < 0.6


def test_types_whose_labels_mean_nothing_have_ratios_within_their_errors(fit: Fit) -> None:
    """Nothing is found; the errors say how much there might be, no more than counts of 100 cells can tell."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(centre, 1, (200, 2)) for centre in ((0, 0), (9, 0), (0, 9))])
    flow, _ = fit(x, rng.permutation(np.repeat(["a", "b"], 300)))
    ratio = flow.log_ratio(x, "a", "b")
    assert (np.abs(ratio.value) < 2 * ratio.sd).all()
    assert ratio.sd.min() > 0.01
    assert ratio.sd.max() < 2 * np.sqrt(2 / 100)
