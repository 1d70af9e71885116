"""Divergences from log ratios, against their exact values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.stats import norm

from scratio_sc.stats._divergence import Ratios, Share, divergence_of, divergences, normalisation

FOLDS = np.array([0, 1])
EVEN = Share(0.0, 0.01)
some_ratios = arrays(np.float64, st.integers(2, 30), elements=st.floats(-20, 20))


def exact_ratios(shift: float, n: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Log ratios of N(shift, 1) against N(0, 1) in cells of both."""
    rng = np.random.default_rng(0)
    return tuple(shift * (rng.standard_normal(n) + mean) - shift**2 / 2 for mean in (shift, 0.0))


def exact_divergences(shift: float) -> np.ndarray:
    target, reference = norm(shift), norm(0)

    def integrand(x: float) -> float:
        log_mean = np.logaddexp(target.logpdf(x), reference.logpdf(x)) - np.log(2)
        own = target.pdf(x) * (target.logpdf(x) - log_mean)
        return 0.5 * (own + reference.pdf(x) * (reference.logpdf(x) - log_mean))

    return np.array([shift**2 / 2, shift**2 / 2, quad(integrand, -12, 12)[0]])


def alike(value: np.ndarray) -> Ratios:
    """Ratios that all members agree on."""
    return Ratios(value, np.stack([value, value]), value[None])


@pytest.mark.parametrize("shift", [0.2, 1.0, 2.5])
def test_exact_ratios_give_the_exact_divergences(shift: float) -> None:
    value, se = divergence_of(*map(alike, exact_ratios(shift)), left_out=FOLDS)
    assert (np.abs(value - exact_divergences(shift)) < 4 * se).all()
    assert (se < 0.1 * max(shift, 1)).all()


def test_standard_error_over_cells_is_the_spread_of_the_estimate() -> None:
    rng = np.random.default_rng(1)
    draws = [
        divergence_of(*(alike(rng.standard_normal(100) + mean - 0.5) for mean in (1.0, 0.0)), left_out=FOLDS)
        for _ in range(300)
    ]
    value, se = (np.array(part) for part in zip(*draws, strict=True))
    np.testing.assert_allclose(se.mean(0), value.std(0), rtol=0.15)


@pytest.mark.parametrize("n", [(841, 868), (97, 113), (20, 33)])
def test_ratios_of_zero_have_no_divergence_and_no_error(n: tuple[int, int]) -> None:
    value, se = divergence_of(*(alike(np.zeros(size)) for size in n), left_out=FOLDS)
    assert not value.any()
    assert not se.any()


def test_standard_error_within_a_type_is_that_of_its_counts_where_the_sides_never_touch() -> None:
    rng = np.random.default_rng(0)
    draws = []
    for n_target, n_reference in rng.binomial(1_000, [0.05, 0.1], size=(300, 2)):
        target, reference = 30 + rng.normal(0, 0.1, n_target), -30 + rng.normal(0, 0.1, n_reference)
        share = Share.of((n_target, 1_000), (n_reference, 1_000))
        draws.append(divergence_of(alike(target), alike(reference), left_out=FOLDS, share=share))
    value, se = (np.array(part)[:, :2] for part in zip(*draws, strict=True))
    np.testing.assert_allclose(se.mean(0), value.std(0), rtol=0.15)


@pytest.mark.parametrize("n", [(40, 100, 30, 90), (100, 100, 90, 90)])
def test_variance_of_a_share_is_that_of_drawing_cells(n: tuple[int, int, int, int]) -> None:
    a, n_a, b, n_b = n
    share = Share.of((a, n_a), (b, n_b))
    assert share.log_ratio == pytest.approx(np.log(a / n_a) - np.log(b / n_b))
    assert share.variance == pytest.approx(1 / a - 1 / n_a + 1 / b - 1 / n_b)


def test_share_within_strata_is_that_of_their_drawing() -> None:
    rng, n = np.random.default_rng(0), np.array([[400, 100, 30], [100, 300, 20]])
    target, reference = (rng.binomial(each, p, size=(4_000, 3)) for each, p in zip(n, [0.3, 0.2], strict=True))
    shares = [Share.of((a, n[0]), (b, n[1])) for a, b in zip(target, reference, strict=True)]
    ratio = np.array([share.log_ratio for share in shares])
    assert ratio.mean() == pytest.approx(np.log(0.3 / 0.2), abs=0.02)
    assert np.mean([share.variance for share in shares]) == pytest.approx(ratio.var(), rel=0.1)


def test_share_of_a_type_that_no_stratum_has_on_both_sides_is_unknown() -> None:
    share = Share.of((np.array([5, 0]), np.array([9, 9])), (np.array([0, 5]), np.array([0, 9])))
    assert share.variance == np.inf
    assert normalisation(*exact_ratios(1.0), share)[0] == pytest.approx(0, abs=0.05)


def members_apart() -> list[Ratios]:
    """Both sides, of which members think another size of the ratio."""
    return [Ratios(part, np.stack([part * 0.8, part * 1.2]), part[None]) for part in exact_ratios(1.0)]


def test_share_that_is_known_to_be_the_same_changes_nothing() -> None:
    known = divergence_of(*members_apart(), left_out=FOLDS, share=Share(0.0, 1e-12))
    np.testing.assert_allclose(known, divergence_of(*members_apart(), left_out=FOLDS), rtol=1e-6)


def test_constant_that_members_or_partitions_disagree_on_is_no_error_within_a_type() -> None:
    sides, unknown, constant = exact_ratios(1.0, 400), Share(0.0, 1e9), np.array([[-0.5], [0.5]])
    apart = [Ratios(part, part + constant, part + constant) for part in sides]
    _, expected = divergence_of(*map(alike, sides), left_out=FOLDS, share=unknown)
    np.testing.assert_allclose(divergence_of(*apart, left_out=FOLDS, share=unknown)[1], expected, rtol=1e-6)


def test_members_that_differ_widen_the_standard_error() -> None:
    target, reference = exact_ratios(1.0)
    together = divergence_of(alike(target), alike(reference), left_out=FOLDS)[1]
    assert (divergence_of(*members_apart(), left_out=FOLDS)[1][:2] > 2 * together[:2]).all()


def test_partitions_that_differ_widen_the_standard_error() -> None:
    target, reference = exact_ratios(1.0)
    both = np.stack([target, target]), np.stack([reference, reference])
    apart = [Ratios(part[0], part, part * [[0.8], [1.2]]) for part in both]
    together = divergence_of(alike(target), alike(reference), left_out=FOLDS)
    expected = np.hypot(together[1][:2], 0.2 * np.sqrt(2) * together[0][:2])
    np.testing.assert_allclose(divergence_of(*apart, left_out=FOLDS)[1][:2], expected)


@given(some_ratios, some_ratios)
def test_swapping_the_sides_swaps_the_kullback_leibler_divergences(target: np.ndarray, reference: np.ndarray) -> None:
    there, back = divergences(target, reference), divergences(-reference, -target)
    np.testing.assert_allclose(back, there[[1, 0, 2]], atol=1e-12)


@given(some_ratios, some_ratios)
def test_jensen_shannon_is_at_most_log_2(target: np.ndarray, reference: np.ndarray) -> None:
    assert divergences(target, reference)[2] <= np.log(2) + 1e-12


def test_large_ratios_do_not_overflow() -> None:
    assert divergences(np.full(5, 2_000.0), np.full(5, -2_000.0)) == pytest.approx([2_000, 2_000, np.log(2)])


@given(some_ratios, some_ratios, st.floats(-5, 5))
def test_normalisation_follows_a_constant(target: np.ndarray, reference: np.ndarray, constant: float) -> None:
    before = normalisation(target, reference, EVEN)[0]
    moved = normalisation(target + constant, reference + constant, Share(constant, EVEN.variance))[0]
    assert moved == pytest.approx(before + constant, abs=1e-6)


def test_normalisation_of_exact_ratios_is_none() -> None:
    offset, variance = normalisation(*exact_ratios(1.0), Share(1.0, 1.0))
    assert abs(offset) < 4 * np.sqrt(variance)


def test_chance_in_the_counts_is_no_response() -> None:
    """A ratio that says that nothing changed is believed more than counts that differ by chance."""
    nothing = np.zeros(50)
    assert abs(normalisation(nothing, nothing, Share(0.3, 0.04))[0]) < 0.02


def test_counts_normalise_sides_that_never_touch() -> None:
    offset, variance = normalisation(np.full(50, 30.0), np.full(50, -10.0), Share(0.3, 0.04))
    assert offset == pytest.approx(0.3)
    assert variance == pytest.approx(0.04)


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0, 7.0])
def test_error_of_the_normalisation_is_known_however_little_the_sides_touch(shift: float) -> None:
    """Of exact ratios it is 0: at 1.645 standard errors 90 % are to hold it, or more."""
    rng, unknown, held = np.random.default_rng(0), Share(0.0, np.inf), []
    for _ in range(200):
        sides = (shift * (rng.standard_normal(50) + mean) - shift**2 / 2 for mean in (shift, 0.0))
        offset, variance = normalisation(*sides, unknown)
        held.append(abs(offset) < 1.645 * np.sqrt(variance))
    assert np.mean(held) > 0.85


def test_share_and_its_variance() -> None:
    rng = np.random.default_rng(0)
    counts = rng.binomial([400, 1_000], [0.3, 0.1], size=(4_000, 2))
    drawn = np.log(counts[:, 0] / 400) - np.log(counts[:, 1] / 1_000)
    share = Share.of((120, 400), (100, 1_000))
    assert share.log_ratio == pytest.approx(np.log(3))
    assert share.variance == pytest.approx(drawn.var(), rel=0.1)
