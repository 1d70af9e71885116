"""Held-out labels against ratios: what is right scores as right, and what is wrong by how much."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import sem

from scratio_sc.flow._calibration import (
    Judged,
    calibration,
    log_loss,
    log_losses,
    overlap,
    recalibration,
    reliability,
)
from scratio_sc.flow._held_out import HeldOut


def judged(*, stretch: float = 1.0, shift: float = 0.0, n: int = 20_000) -> Judged:
    """Labels drawn from an exact ratio, of which ``stretch * ratio + shift`` is judged; a third are of the target."""
    rng = np.random.default_rng(0)
    ratio, odds = rng.normal(0, 1.5, n), np.full(n, np.log(0.5))
    is_target = rng.random(n) < expit(ratio + odds)
    return Judged(stretch * ratio + shift, is_target, odds)


def held_out() -> HeldOut:
    rng = np.random.default_rng(1)
    log_prior = np.tile(np.log([0.5, 0.3, 0.2]), (6, 1))
    parts, baselines = rng.normal(size=(6, 3, 4)), rng.normal(size=(6, 3, 2))
    return HeldOut(
        parts, np.array([0, 1, 2, 2, 1, 0]), log_prior, baselines=baselines, kept=np.ones(3), group=np.zeros(6, int)
    )


def test_log_loss_of_the_truth_is_less_than_that_of_a_stretched_ratio() -> None:
    assert judged().log_loss < judged(stretch=1.5).log_loss


def test_log_loss_without_ratio_is_that_of_the_prior() -> None:
    flat = judged(stretch=0.0)
    assert flat.log_loss == pytest.approx(flat.prior_log_loss)


def test_log_loss_without_cells_is_unknown() -> None:
    assert np.isnan(log_loss(np.empty(0), np.empty(0, bool)))


@pytest.mark.parametrize(("stretch", "slope"), [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0)])
def test_slope_undoes_the_stretch(stretch: float, slope: float) -> None:
    found, error, intercept = recalibration(judged(stretch=stretch))
    assert abs(found - slope) < 4 * error
    assert abs(intercept) < 0.1


def test_intercept_undoes_the_shift() -> None:
    _, _, intercept = recalibration(judged(shift=0.7))
    assert intercept == pytest.approx(-0.7, abs=0.1)


def test_standard_error_of_the_slope_falls_with_the_root_of_the_cells() -> None:
    few, many = (recalibration(judged(n=n))[1] for n in (2_000, 8_000))
    assert few / many == pytest.approx(2.0, rel=0.1)


def test_slope_of_small_ratios_may_be_large() -> None:
    assert recalibration(judged(stretch=0.01))[0] == pytest.approx(100 * recalibration(judged())[0])


def test_slope_of_large_ratios_and_rare_targets_is_found() -> None:
    """Newton's steps, each cut off by itself, would go back and forth between two places here."""
    rng = np.random.default_rng(9)
    target = rng.random(20_000) < 0.01
    ratio = 5 * (4 * (rng.standard_normal(20_000) + 4 * target) - 8)
    slope, error, _ = recalibration(Judged(ratio, target, np.full(20_000, np.log(0.01 / 0.99))))
    assert abs(slope - 0.2) < 4 * error < 0.4


def test_slope_is_unknown_where_the_ratio_tells_all_labels() -> None:
    apart = Judged(np.array([-2.0, -1.0, 1.0, 3.0]), np.array([False, False, True, True]), np.zeros(4))
    assert np.isnan(recalibration(apart)).all()


def test_slope_is_unknown_with_one_label() -> None:
    one = Judged(np.arange(5.0), np.ones(5, bool), np.zeros(5))
    assert np.isnan(recalibration(one)).all()


def test_slope_is_unknown_where_all_ratios_are_the_same() -> None:
    same = Judged(np.zeros(4), np.array([True, False, True, False]), np.zeros(4))
    assert np.isnan(recalibration(same)).all()


def test_slope_is_unknown_where_ratios_differ_by_rounding() -> None:
    rounded = Judged(np.array([0.0, 1e-15, -1e-15, 0.0]), np.array([True, False, True, False]), np.zeros(4))
    assert np.isnan(recalibration(rounded)).all()


@pytest.mark.parametrize("rounding", [0.0, 1e-9])
def test_reliability_of_equal_ratios_is_one_point_whatever_the_order(rounding: float) -> None:
    is_target = np.arange(1_000) < 150
    ratio = rounding * np.linspace(1, -1, 1_000)
    curve = reliability(Judged(ratio, is_target, np.full(1_000, np.log(0.15 / 0.85))))
    assert curve["n_cells"].tolist() == [1_000]
    assert curve["observed"] == pytest.approx(curve["predicted"])


def test_reliability_has_bins_of_like_size() -> None:
    assert np.ptp(reliability(judged(n=1_003))["n_cells"]) <= 1


def test_reliability_of_the_truth_lies_within_its_bars() -> None:
    curve = reliability(judged())
    inside = (curve["lower"] <= curve["predicted"]) & (curve["predicted"] <= curve["upper"])
    assert inside.mean() >= 0.8


def test_bins_hold_every_cell_once() -> None:
    assert reliability(judged(n=1_003))["n_cells"].sum() == 1_003


def test_calibration_error_of_a_stretched_ratio_is_larger() -> None:
    right, wrong = (calibration(judged(stretch=s), {})["expected_calibration_error"] for s in (1.0, 3.0))
    assert right < 0.02 < wrong


def test_baselines_are_judged_by_the_same_cells() -> None:
    exact = judged()
    stored = calibration(judged(stretch=2.0), {"lda": exact.ratio})
    assert stored["log_loss_lda"] == pytest.approx(exact.log_loss)


@pytest.mark.parametrize("name", ["prior", "lda"])
def test_error_of_a_baseline_is_that_of_its_difference(name: str) -> None:
    exact, flat = judged(n=500), judged(stretch=0.0, n=500)
    rival = {"prior": flat, "lda": judged(stretch=1.1, n=500)}[name]
    stored = calibration(exact, {"lda": rival.ratio})
    losses = [log_losses(each.ratio + each.log_prior_odds, each.is_target) for each in (rival, exact)]
    assert stored[f"log_loss_{name}_se"] == pytest.approx(sem(losses[0] - losses[1]))


def test_equal_sides_overlap_in_full() -> None:
    same = Judged(np.zeros(10), np.arange(10) % 2 == 0, np.zeros(10))
    found = overlap(same)
    assert found["overlap"] == 1.0
    assert found["effective_target"] == found["effective_reference"] == 1.0


def test_effective_sizes_are_those_of_cells_that_stand_for_the_other_side() -> None:
    """Of shares p and q of the sides in each of two places, 1 / sum(q^2 / p) and 1 / sum(p^2 / q)."""
    p, q = np.array([3 / 4, 1 / 4]), np.array([2 / 5, 3 / 5])
    place, is_target = np.repeat([0, 1, 0, 1], [3, 1, 2, 3]), np.arange(9) < 4
    found = overlap(Judged(np.log(p / q)[place], is_target, np.zeros(9)))
    assert found["effective_target"] == pytest.approx(1 / (q**2 / p).sum())
    assert found["effective_reference"] == pytest.approx(1 / (p**2 / q).sum())


def test_sides_apart_do_not_overlap() -> None:
    is_target = np.arange(10) % 2 == 0
    assert overlap(Judged(np.where(is_target, 50.0, -50.0), is_target, np.zeros(10)))["overlap"] < 1e-20


def test_exact_ratio_is_balanced() -> None:
    """E_a[sigmoid(-r)] = E_b[sigmoid(r)] for any two densities."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(1, 1, 20_000), rng.normal(0, 1, 20_000)])
    exact = Judged(x - 0.5, np.repeat([True, False], 20_000), np.zeros(40_000))
    assert abs(overlap(exact)["imbalance"]) < 0.01
    assert abs(overlap(Judged(x + 0.5, exact.is_target, exact.log_prior_odds))["imbalance"]) > 0.1


def test_exact_ratio_is_balanced_where_the_sides_have_other_covariates() -> None:
    """Ratios are within two strata, in which nine in ten cells, and one in ten, are of the target."""
    rng, n = np.random.default_rng(0), 40_000
    stratum = np.arange(n) % 2
    odds = np.log(9.0) * (1 - 2.0 * stratum)
    is_target = rng.random(n) < expit(odds)
    shift = np.array([0.5, 2.0])[stratum]
    x = rng.normal(shift * is_target, 1)
    exact = Judged(shift * x - shift**2 / 2, is_target, odds)
    found = overlap(exact)
    assert abs(found["imbalance"]) < 0.02
    alone = [overlap(Judged(exact.ratio[own], is_target[own], odds[own])) for own in (stratum == 0, stratum == 1)]
    assert found["overlap"] == pytest.approx(np.mean([each["overlap"] for each in alone]), abs=0.01)


def test_overlap_of_one_side_is_unknown() -> None:
    assert np.isnan([*overlap(Judged(np.zeros(3), np.ones(3, bool), np.zeros(3))).values()]).all()


def test_cells_of_both_sides_are_judged() -> None:
    held = held_out()
    found = Judged.of(held, (np.array([2]), np.array([0])), held.parts.sum(2))
    np.testing.assert_array_equal(found.is_target, [False, True, True, False])
    total = held.parts.sum(2)[[0, 2, 3, 5]]
    np.testing.assert_allclose(found.ratio, total[:, 2] - total[:, 0])
    np.testing.assert_allclose(found.log_prior_odds, np.log(0.2 / 0.5))


def test_mixture_of_conditions_is_weighted_by_their_frequencies() -> None:
    held = held_out()
    found = Judged.of(held, (np.array([0]), np.array([1, 2])), held.parts.sum(2))
    density = np.exp(held.parts.sum(2))
    expected = np.log(density[:, 0]) - np.log((0.3 * density[:, 1] + 0.2 * density[:, 2]) / 0.5)
    np.testing.assert_allclose(found.ratio, expected)


def test_cells_whose_covariates_lack_a_side_are_not_judged() -> None:
    held = held_out()
    held.log_prior[0, 2] = -np.inf
    found = Judged.of(held, (np.array([2]), np.array([0])), held.parts.sum(2))
    assert len(found.ratio) == 3
