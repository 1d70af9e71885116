"""Differences between levels: kept where cells can tell them from chance, shrunk where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratio_sc.flow._design import Design
from scratio_sc.flow._same_means import GATE
from scratio_sc.flow._shrinkage import hidden_moves, mean_effects, shrink_means

ONE, _ = Design.of(np.array([["a"], ["b"], ["c"]]), ("condition",), 1)
PAIRS = np.array([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")])
TWO, _ = Design.of(PAIRS, ("condition", "donor"), 1)


def shrunken_means(mean: np.ndarray, size: np.ndarray, *, whiten: np.ndarray) -> tuple[np.ndarray, float]:
    """Of one component, levels ``(n_levels, d)``."""
    found, cost = shrink_means(mean[:, None], size[:, None], whiten=whiten[None], alike=np.eye(1))
    return found[:, 0], cost


def price(d: int) -> float:
    """What a set of levels with a mean of its own costs, in ``d`` dimensions."""
    return d + GATE * np.sqrt(2 * d)


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
    shrunken, _ = shrunken_means(mean, np.full(n_levels, 100), whiten=np.eye(d))
    np.testing.assert_allclose(shrunken, 0, atol=1e-12)


def test_real_difference_of_one_level_is_kept() -> None:
    truth = np.array([[3.0, 0.0], [0, 0], [0, 0], [0, 0]])
    shrunken, _ = shrunken_means(cell_means(truth, 200), np.full(4, 200), whiten=np.eye(2))
    np.testing.assert_allclose(shrunken - shrunken[1], truth, atol=0.3)


def test_levels_of_one_set_share_their_mean_exactly() -> None:
    truth = np.array([[3.0, 0.0], [0, 0], [3, 0], [0, 0]])
    shrunken, _ = shrunken_means(cell_means(truth, 200), np.full(4, 200), whiten=np.eye(2))
    np.testing.assert_array_equal(shrunken[[0, 1]], shrunken[[2, 3]])
    assert not np.isclose(shrunken[0], shrunken[1]).all()


def test_means_are_shrunk_and_never_turned_round() -> None:
    mean = np.array([[0.6, 0.0], [-0.6, 0.0]])
    shrunken, _ = shrunken_means(mean, np.full(2, 50), whiten=np.eye(2))
    np.testing.assert_array_equal(shrunken[:, 1], 0)
    assert 0 < shrunken[0, 0] < 0.6


def test_level_without_cells_goes_with_the_others() -> None:
    mean = np.array([[1.0, 0], [-1, 0], [50, 50]])
    shrunken, _ = shrunken_means(mean, np.array([100, 100, 0]), whiten=np.eye(2))
    assert np.isfinite(shrunken).all()
    assert min(np.abs(shrunken[2] - shrunken[level]).max() for level in (0, 1)) == 0


def test_distances_are_those_of_whitened_cells() -> None:
    """The same in units in which cells spread by 1."""
    rng = np.random.default_rng(0)
    mean, whiten = cell_means(np.array([[2.0, 0, 0], [0, 0, 0], [0, 1, 0]]), 100), rng.normal(size=(3, 3))
    found, cost = shrunken_means(mean @ np.linalg.inv(whiten), np.full(3, 100), whiten=whiten)
    expected, expected_cost = shrunken_means(mean, np.full(3, 100), whiten=np.eye(3))
    np.testing.assert_allclose(found @ whiten, expected, atol=1e-10)
    assert cost == pytest.approx(expected_cost)


def test_cost_of_one_set_is_all_that_is_left_unexplained() -> None:
    mean, size = np.array([[0.01, 0.0], [-0.01, 0.02]]), np.array([100, 100])
    _, cost = shrunken_means(mean, size, whiten=np.eye(2))
    assert cost == pytest.approx((size * (mean**2).sum(1)).sum())


def test_cost_of_sets_is_what_they_leave_and_the_price_of_each_but_one() -> None:
    mean, size = np.array([[3.0, 0], [-3, 0.5], [0, -4]]), np.array([100, 100, 100])
    shrunken, cost = shrunken_means(mean, size, whiten=np.eye(2))
    left = (size * ((mean - shrunken) ** 2).sum(1)).sum()
    choice = 2 * np.log(3 * 2 / 2**2)  # ways to order three, and each of two cuts may fall either way
    assert cost == pytest.approx(left + 2 * price(2) + choice)


def test_many_levels_are_no_reason_to_see_sets_in_chance() -> None:
    """Among 60 levels some two are far apart, and halves of them that are can be chosen, whatever the truth."""
    moved = [
        shrunken_means(cell_means(np.zeros((60, 10)), 30, seed=seed), np.full(60, 30), whiten=np.eye(10))[0]
        for seed in range(10)
    ]
    assert np.mean([(each != 0).any() for each in moved]) < 0.25
    assert 30 * np.square(moved).sum(2).mean() < 0.01 * 10


@pytest.mark.parametrize(("n", "moves"), [(2, False), (4, True)])
def test_one_or_two_cells_are_no_move_however_far_away(n: int, *, moves: bool) -> None:
    mean = np.array([[30.0, 0], [0.1, 0], [-0.1, 0]])
    shrunken, _ = shrunken_means(mean, np.array([n, 50, 50]), whiten=np.eye(2))
    assert (shrunken[0] != shrunken[1]).any() == moves


def test_one_of_many_levels_that_moves_is_found() -> None:
    truth = np.zeros((60, 10))
    truth[7, 0] = 1.5
    shrunken, _ = shrunken_means(cell_means(truth, 30), np.full(60, 30), whiten=np.eye(10))
    assert len(np.unique(np.delete(shrunken, 7, axis=0), axis=0)) == 1
    assert 0.75 < shrunken[7, 0] - shrunken[0, 0] < 2


@pytest.mark.parametrize(("place", "together"), [(0.32, True), (0.36, False)])
def test_set_is_as_far_from_another_level_as_its_mean(place: float, *, together: bool) -> None:
    """The mean of the first two is 1/30; 150 cells against 200 tell it from what is .306 away, or more."""
    mean, size = np.array([[0.0, 0], [0.1, 0], [place, 0], [2, 0]]), np.array([100, 50, 200, 80])
    shrunken, _ = shrunken_means(mean, size, whiten=np.eye(2))
    np.testing.assert_array_equal(shrunken[0], shrunken[1])
    assert (shrunken[0] == shrunken[2]).all() == together


# --- components that move alike


def moves(length: float, n: int, m: int, *, seed: int = 0) -> np.ndarray:
    """Means of ``n`` cells in ``m`` components, of which the first level moves in each in a direction of its own."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((2, m, 2))
    truth[0] = rng.standard_normal((m, 2))
    truth[0] *= length / np.linalg.norm(truth[0], axis=1, keepdims=True)
    mean = truth + rng.standard_normal(truth.shape) / np.sqrt(n)
    return mean - mean.mean(0)


@pytest.mark.parametrize(("alike", "found"), [(np.eye(12), False), (np.ones((12, 12)), True)])
def test_moves_too_small_for_a_component_alone_are_found_together(alike: np.ndarray, *, found: bool) -> None:
    mean = moves(0.5, 24, 12)
    shrunken, _ = shrink_means(mean, np.full((2, 12), 24), whiten=np.tile(np.eye(2), (12, 1, 1)), alike=alike)
    assert (shrunken != 0).any(axis=(0, 2)).all() == found


def test_components_that_move_alike_are_shrunk_by_the_same_factor() -> None:
    mean, size = moves(1.0, 50, 5), np.full((2, 5), 50)
    shrunken, _ = shrink_means(mean, size, whiten=np.tile(np.eye(2), (5, 1, 1)), alike=np.ones((5, 5)))
    factor = shrunken[0] / mean[0]
    np.testing.assert_allclose(factor, factor[0, 0])
    assert 0 < factor[0, 0] < 1


def test_levels_of_a_set_are_shrunk_alike_where_a_neighbour_tells_them_apart() -> None:
    mean = np.zeros((3, 2, 1))
    mean[:, 0, 0], mean[:, 1, 0] = [2, 2, -2], [4, 0, -4]
    size, alike = np.full((3, 2), 100), np.array([[1, 0.005], [0, 1]])
    mean -= mean.mean(0)
    shrunken, _ = shrink_means(mean, size, whiten=np.ones((2, 1, 1)), alike=alike)
    assert len(np.unique(shrunken[:, 1])) == 3
    np.testing.assert_array_equal(shrunken[0, 0], shrunken[1, 0])


# --- effects on means


def precisions(m: int, d: int) -> np.ndarray:
    return np.tile(np.eye(d), (m, 1, 1))


def test_means_of_one_component_move_by_themselves() -> None:
    shift, size = cell_means(np.array([[2.0, 0.0], [0, 0], [0, 0]]), 100), np.full((3, 1), 100.0)
    effects = mean_effects(shift[:, None], size, ONE, precision=precisions(1, 2), alike=np.eye(1))
    expected, _ = shrunken_means(shift, size[:, 0], whiten=np.eye(2))
    np.testing.assert_allclose(effects[:, 0], expected)


def test_shift_of_all_components_is_found_better_than_by_each_alone() -> None:
    """Twenty components of fifteen cells a level, moved by half a deviation."""
    m, n, common = 20, 15, np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.0]])
    rng = np.random.default_rng(0)
    shift = common[:, None] + rng.standard_normal((3, m, 2)) / np.sqrt(n)
    shift -= shift.mean(0)
    effects = mean_effects(shift, np.full((3, m), float(n)), ONE, precision=precisions(m, 2), alike=np.eye(m))
    alone = np.stack([shrunken_means(shift[:, k], np.full(3, n), whiten=np.eye(2))[0] for k in range(m)], axis=1)
    error, error_alone = (np.square(each - common[:, None]).mean() for each in (effects, alone))
    assert error < 0.1 * error_alone


def test_component_that_moves_alone_leaves_the_others_where_they_are() -> None:
    m, n = 6, 100
    truth = np.zeros((3, m, 2))
    truth[0, 2], truth[1, 2] = [2, 0], [-2, 0]
    shift = truth + np.random.default_rng(0).standard_normal(truth.shape) / np.sqrt(n)
    shift -= shift.mean(0)
    effects = mean_effects(shift, np.full((3, m), float(n)), ONE, precision=precisions(m, 2), alike=np.eye(m))
    np.testing.assert_allclose(effects[:, 2], truth[:, 2], atol=0.3)
    np.testing.assert_array_equal(np.delete(effects, 2, axis=1), 0)


def test_means_that_are_alike_have_no_effects() -> None:
    m, n = 5, 50
    shift = 0.5 * np.random.default_rng(0).standard_normal((3, m, 2)) / np.sqrt(n)
    effects = mean_effects(
        shift - shift.mean(0), np.full((3, m), float(n)), ONE, precision=precisions(m, 2), alike=np.eye(m)
    )
    np.testing.assert_allclose(effects, 0, atol=1e-12)


def test_effects_of_columns_add_up_to_the_means_of_the_groups() -> None:
    by_condition, by_donor = (
        np.array([[2.0, 0], [2, 0], [-2, 0], [-2, 0]]),
        np.array([[0, 1.0], [0, -1], [0, 1], [0, -1]]),
    )
    shift = (by_condition + by_donor)[:, None]
    effects = mean_effects(shift, np.full((4, 1), 1e4), TWO, precision=precisions(1, 2), alike=np.eye(1))
    np.testing.assert_allclose(np.einsum("gf,fmd->gmd", TWO.features(TWO.groups), effects), shift, atol=0.01)
    np.testing.assert_allclose(effects[:2, 0], [[2, 0], [-2, 0]], atol=0.01)


def test_components_without_cells_have_finite_effects() -> None:
    size = np.array([[100.0, 0.0], [100, 0], [100, 0]])
    shift = np.stack([np.array([[1.0, 0], [-1, 0], [0, 0]]), np.zeros((3, 2))], axis=1)
    assert np.isfinite(mean_effects(shift, size, ONE, precision=precisions(2, 2), alike=np.eye(2))).all()


# --- moves that are not kept


@pytest.mark.parametrize("n_cells", [(50, 50), (400, 20), (60, 60, 60)])
def test_hidden_moves_of_two_sides_are_their_distance(n_cells: tuple[int, ...]) -> None:
    """Many components, the levels of which lie half a deviation apart and are all taken to be at one place."""
    n, m, d = np.array(n_cells, float), 400, 6
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((len(n), m, d)) * 0.5 / np.sqrt(2 * d)
    shift = truth + rng.standard_normal(truth.shape) / np.sqrt(n)[:, None, None]
    shift -= np.einsum("l,lmd->md", n / n.sum(), shift)
    design, _ = Design.of(np.array([[name] for name in "abc"[: len(n)]]), ("condition",), 1)
    size = np.repeat(n[:, None], m, axis=1)
    hidden = hidden_moves(shift, np.zeros_like(shift), size=size, design=design, precision=precisions(m, d))
    np.testing.assert_allclose(hidden[0] + hidden[-1], 0.25, rtol=0.15)


def test_chance_hides_nothing() -> None:
    shift = cell_means(np.zeros((3, 40)), 50).reshape(3, 20, 2)
    size = np.full((3, 20), 50.0)
    assert not hidden_moves(shift, 0 * shift, size=size, design=ONE, precision=precisions(20, 2)).any()


def false_alarms(n_moving: int, n_levels: int) -> float:
    """How often a level hides moves, of those whose moves are all large but for two levels that do the same."""
    alarms, m, n, d = [], 6, 200.0, 10
    size, whiten = np.full((n_levels, m), n), precisions(m, d)
    design, _ = Design.of(np.array([[name] for name in "abcdef"[:n_levels]]), ("condition",), 1)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = 3 * rng.standard_normal((n_levels, m, d)) * (np.arange(m) < n_moving)[:, None]
        truth[1] = truth[0]
        shift = truth + rng.standard_normal(truth.shape) / np.sqrt(n)
        shift -= shift.mean(0)
        kept, _ = shrink_means(shift, size, whiten=whiten, alike=np.eye(m))
        hidden = hidden_moves(shift, kept, size=size, design=design, precision=whiten)
        alarms.append((hidden > 0.05 / n).any(1))
    return float(np.mean(alarms))


@pytest.mark.parametrize(("n_moving", "n_levels"), [(1, 3), (3, 3), (5, 3), (3, 5)])
def test_levels_that_share_means_hide_nothing_by_chance(n_moving: int, n_levels: int) -> None:
    assert false_alarms(n_moving, n_levels) < 0.12


def test_components_that_a_level_lacks_do_not_hide_the_moves_of_others() -> None:
    m, d, n = 40, 10, 200.0
    rng, size = np.random.default_rng(0), np.full((2, m), n)
    size[:, 3:] = 0
    shift = rng.standard_normal((2, m, d)) * 0.2 * (np.arange(m) < 3)[:, None]
    shift -= shift.mean(0)
    design, _ = Design.of(np.array([["a"], ["b"]]), ("condition",), 1)
    assert hidden_moves(shift, 0 * shift, size=size, design=design, precision=precisions(m, d))[:, :3].all()


@pytest.mark.parametrize("seed", range(5))
def test_hidden_squares_are_not_negative(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = rng.integers(0, 900, (3, 20)).astype(float)
    shift, kept = rng.standard_normal((2, 3, 20, 2)) / 10
    assert hidden_moves(shift, kept, size=size, design=ONE, precision=precisions(20, 2)).min() >= 0


def test_moves_that_are_kept_are_not_hidden() -> None:
    shift = np.random.default_rng(0).standard_normal((3, 20, 2))
    size = np.full((3, 20), 50.0)
    hidden = hidden_moves(shift, shift, size=size, design=ONE, precision=precisions(20, 2))
    np.testing.assert_allclose(hidden, 0, atol=1e-12)


def test_slopes_hide_moves_of_their_own() -> None:
    design, _ = Design.of(np.array([[f"{i}"] for i in range(4)]), ("dose",), 1, numeric=("dose",))
    shift, size = np.random.default_rng(0).standard_normal((4, 20, 2)), np.full((4, 20), 50.0)
    effects = np.zeros((design.n_features, 20, 2))
    hidden = hidden_moves(shift, effects, size=size, design=design, precision=precisions(20, 2))
    assert np.isfinite(hidden).all()
    assert hidden.any()
