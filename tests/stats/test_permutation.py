"""Relabellings, and the tests on them: exact counts, exact levels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from scratio_sc.stats._permutation import PermutationTest, Relabelling

FOUR_OF_EIGHT = np.arange(8) < 4


def two_groups(n_target: int, n_reference: int, n_draws: int = 2000) -> Relabelling:
    is_target = np.arange(n_target + n_reference) < n_target
    return Relabelling.of_groups(is_target, n_draws, rng=np.random.default_rng(0))


def two_batches(n_draws: int = 2000) -> Relabelling:
    """Two of three samples are the target in one batch, one of four in the other."""
    is_target, stratum = np.array([1, 1, 0, 1, 0, 0, 0], bool), np.array(list("aaabbbb"))
    return Relabelling.of_groups(is_target, n_draws, rng=np.random.default_rng(0), stratum=stratum)


def pairs(n: int, n_draws: int = 2000) -> Relabelling:
    return Relabelling.of_pairs(n, n_draws, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("relabelling", "n", "smallest"),
    [
        (two_groups(3, 3), 20, 0.1),
        (two_groups(4, 4), 70, 2 / 70),
        (two_groups(2, 4), 15, 1 / 15),
        (pairs(5), 32, 2 / 32),
        (two_batches(), 12, 1 / 12),
    ],
)
def test_all_relabellings_once(relabelling: Relabelling, n: int, smallest: float) -> None:
    assert relabelling.exact
    assert len(relabelling.contrasts) == len(np.unique(relabelling.contrasts, axis=0)) == n
    assert relabelling.smallest_p == pytest.approx(smallest)


@pytest.mark.parametrize(
    ("relabelling", "n_draws"), [(two_groups(8, 8, 100), 100), (two_batches(10), 10), (pairs(12, 100), 100)]
)
def test_random_draws_come_beside_the_observed(relabelling: Relabelling, n_draws: int) -> None:
    assert not relabelling.exact
    assert len(relabelling.contrasts) == n_draws + 1


@pytest.mark.parametrize("n_draws", [5, 2000])
def test_batches_keep_the_numbers_of_their_targets(n_draws: int) -> None:
    contrasts = two_batches(n_draws).contrasts
    np.testing.assert_array_equal((contrasts > 0)[:, :3].sum(1), 2)
    np.testing.assert_array_equal((contrasts > 0)[:, 3:].sum(1), 1)


def test_contrast_of_batches_is_the_coefficient_of_least_squares() -> None:
    side, batch = np.array([1, 1, 0, 1, 0, 0, 0.0]), np.array([0, 0, 0, 1, 1, 1, 1.0])
    values = np.random.default_rng(0).standard_normal(7)
    fitted = np.linalg.lstsq(np.column_stack([side, batch, 1 - batch]), values, rcond=None)[0]
    assert values @ two_batches().contrasts[0] == pytest.approx(fitted[0])


def test_observed_is_first() -> None:
    np.testing.assert_allclose(two_groups(2, 3).contrasts[0], [1 / 2, 1 / 2, -1 / 3, -1 / 3, -1 / 3])


def test_pvalue_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).standard_normal((5, 8))
    test = PermutationTest.of(values, two_groups(4, 4), variance=values.var(1))
    for row, p in zip(values, test.pvalue, strict=True):
        expected = stats.permutation_test((row[:4], row[4:]), lambda a, b: a.mean() - b.mean(), n_resamples=np.inf)
        assert p == pytest.approx(expected.pvalue)


def test_statistic_orders_as_students_t() -> None:
    """Of any two sets, a family takes the one whose t is larger."""
    values, relabelling = np.random.default_rng(0).standard_normal((20, 8)), two_groups(4, 4)
    both = np.array(list(itertools.combinations(range(20), 2)))
    families = (both[..., None] == np.arange(20)).any(1)
    test = PermutationTest.of(values, relabelling, variance=values.var(1, ddof=1), families=families)
    t = np.abs(stats.ttest_ind(values[:, :4], values[:, 4:], axis=1).statistic)
    larger = np.where(t[both[:, 0]] > t[both[:, 1]], both[:, 0], both[:, 1])
    np.testing.assert_array_equal(test.effect, (values @ relabelling.contrasts[0])[larger])


def test_any_discovery_has_the_nominal_rate_whatever_the_dependence() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 6)) + 0.3 * rng.standard_normal((30, 6))
    found = []
    for chosen in itertools.combinations(range(6), 3):
        is_target = np.isin(np.arange(6), chosen)
        relabelling = Relabelling.of_groups(is_target, 2000, rng=rng)
        found.append((PermutationTest.of(values, relabelling, variance=values.var(1)).adjusted <= 0.1).any())
    assert np.mean(found) == pytest.approx(0.1)  # of all 20 labellings, the one pair with the largest maximum


def test_adjusted_is_never_below_the_pvalue() -> None:
    values = np.random.default_rng(0).standard_normal((40, 7))
    test = PermutationTest.of(values, two_groups(3, 4), variance=values.var(1))
    assert (test.adjusted >= test.pvalue).all()


def test_first_step_down_is_the_maximum() -> None:
    values = np.random.default_rng(0).standard_normal((12, 8))
    relabelling = two_groups(4, 4)
    test = PermutationTest.of(values, relabelling, variance=np.ones(12))
    largest = np.abs(values @ relabelling.contrasts.T).max(0)
    assert test.adjusted.min() == pytest.approx((largest >= largest[0] * (1 - 1e-9)).mean())


def test_last_step_down_stands_alone() -> None:
    values = np.random.default_rng(0).standard_normal((2, 8))
    test = PermutationTest.of(values, two_groups(4, 4), variance=np.ones(2))
    last = np.abs(test.effect).argmin()
    assert test.adjusted[last] == pytest.approx(max(test.pvalue[last], test.adjusted[1 - last]))


def test_family_takes_its_largest_member() -> None:
    values = np.vstack([np.where(FOUR_OF_EIGHT, -2.0, 0.0), np.where(FOUR_OF_EIGHT, 1.0, 0.0)])
    families = np.array([[True, True], [False, True]])
    test = PermutationTest.of(values, two_groups(4, 4), variance=np.ones(2), families=families)
    np.testing.assert_allclose(test.effect, [-2, 1])
    np.testing.assert_allclose(test.pvalue, 2 / 70)


@pytest.mark.parametrize("variance", [0.0, 0.1])
@pytest.mark.parametrize("value", [1e-16, np.log(1.1), -1.3])
@pytest.mark.parametrize("relabelling", [two_groups(4, 4), two_groups(3, 4), two_groups(6, 7), two_batches()])
def test_nothing_differs(relabelling: Relabelling, value: float, variance: float) -> None:
    values = np.full((1, relabelling.contrasts.shape[1]), value)
    test = PermutationTest.of(values, relabelling, variance=np.array([variance]))
    np.testing.assert_array_equal([test.pvalue, test.adjusted], 1)


def test_what_does_not_differ_leaves_the_others_as_they_are() -> None:
    values = np.random.default_rng(2).normal(size=(2, 8)) + 2 * FOUR_OF_EIGHT
    alone = PermutationTest.of(values, two_groups(4, 4), variance=values.var(1))
    beside = np.vstack([values, np.full(8, np.log(1.1))])
    test = PermutationTest.of(beside, two_groups(4, 4), variance=np.append(values.var(1), 0))
    np.testing.assert_array_equal(test.pvalue[:2], alone.pvalue)
    np.testing.assert_array_equal(test.adjusted[:2], alone.adjusted)
