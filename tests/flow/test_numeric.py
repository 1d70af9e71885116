"""Columns of numbers: bins, and the functions of a number that groups depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.flows import small
from hypothesis import given, settings
from hypothesis import strategies as st

from scratio_sc.flow._columns import Column
from scratio_sc.flow._contrast import conditions_of, named_levels, side_of
from scratio_sc.flow._design import Design
from scratio_sc.flow._numeric import MAX_BINS, MAX_SHAPES, Numeric

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import ConditionalFlow

DOSES = np.array([0.0, 1.0, 3.0, 10.0])


# --- bins and functions of one column


def test_few_numbers_are_their_own_bins() -> None:
    number = Numeric.of(np.repeat(DOSES, [5, 1, 2, 2]))
    np.testing.assert_array_equal(number.value, DOSES)
    assert number.bin_of(np.array([-1, 0, 0.4, 0.6, 2.1, 6, 7, 10, 99])).tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 3]


def test_many_numbers_are_cut_into_bins_of_as_many_cells() -> None:
    numbers = np.random.default_rng(0).lognormal(size=1000)
    number = Numeric.of(numbers)
    assert np.bincount(number.bin_of(numbers)).tolist() == [100] * MAX_BINS


def test_bin_has_the_median_of_its_cells() -> None:
    """A single number far away does not bend its bin."""
    numbers = np.r_[np.arange(99.0), 1e6]
    np.testing.assert_allclose(Numeric.of(numbers).value, np.arange(100.0).reshape(10, 10).mean(1))


def test_number_of_most_cells_is_a_bin_of_its_own() -> None:
    numbers = np.r_[np.zeros(500), np.random.default_rng(0).uniform(1, 2, 500)]
    number = Numeric.of(numbers)
    assert number.value[0] == 0
    assert np.bincount(number.bin_of(numbers))[0] == 500


@pytest.mark.parametrize("sign", [1, -1])
def test_number_of_nearly_all_cells_may_be_at_an_end(sign: int) -> None:
    numbers = sign * np.r_[np.full(940, 90.0), np.arange(20.0, 80.0)]
    number = Numeric.of(numbers)
    assert len(np.unique(number.bin_of(numbers))) == 2
    assert np.isfinite(number.at(numbers)).all()


@pytest.mark.parametrize("number", [0.1, 1.1, 6.7])
def test_rounding_moves_no_number_into_the_next_bin(number: float) -> None:
    """Whatever the value of its bin is made of."""
    numbers = np.r_[np.full(400, number), np.random.default_rng(0).uniform(number + 2, number + 5, 300)]
    found = Numeric.of(numbers)
    np.testing.assert_array_equal(found.bin_of(found.value), np.arange(len(found.value)))
    assert found.value[0] == number


NUMBERS = st.lists(st.floats(-1e3, 1e3).map(lambda v: round(v, 2)), min_size=2, max_size=60).filter(
    lambda v: max(v) - min(v) > 0.05
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(numbers=NUMBERS.map(np.array))
def test_shapes_are_standardised_and_uncorrelated(numbers: np.ndarray) -> None:
    number = Numeric.of(numbers)
    shapes = number.shapes[number.bin_of(numbers)]
    assert 1 <= shapes.shape[1] <= min(MAX_SHAPES, len(number.value) - 1)
    np.testing.assert_allclose(shapes.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(shapes.T @ shapes / len(numbers), np.eye(shapes.shape[1]), atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(numbers=NUMBERS.map(np.array))
def test_shapes_at_the_values_of_bins_are_those_of_the_bins(numbers: np.ndarray) -> None:
    number = Numeric.of(numbers)
    np.testing.assert_allclose(number.at(number.value), number.shapes, atol=1e-6)


def test_first_shape_is_a_straight_line_everywhere() -> None:
    at = np.linspace(-5, 20, 11)
    line = Numeric.of(np.repeat(DOSES, 5)).at(at)[:, 0]
    np.testing.assert_allclose(np.diff(line, 2), 0, atol=1e-12)


def test_other_shapes_are_straight_between_bins_and_level_beyond_the_fit() -> None:
    number = Numeric.of(np.repeat(DOSES, 5))
    middle = number.at(np.array([6.5]))[0]
    np.testing.assert_allclose(middle, number.shapes[2:].mean(0))
    np.testing.assert_allclose(number.at(np.array([50.0]))[0, 1:], number.shapes[-1, 1:])


@pytest.mark.parametrize(("number", "covered"), [(0, True), (10, True), (10.05, True), (11, False), (-1, False)])
def test_range_has_a_small_margin(number: float, covered: bool) -> None:
    assert Numeric.of(DOSES).covers(np.array([number])).tolist() == [covered]


# --- designs


LABELS = np.array([("stim", "0"), ("ctrl", "0"), ("stim", "2.5"), ("stim", "10"), ("ctrl", "0")])
DESIGN, GROUP = Design.of(LABELS, ("treatment", "dose"), 2, numeric=("dose",))


def test_groups_have_the_values_of_bins() -> None:
    assert DESIGN.groups.tolist() == [[0, 0], [1, 0], [1, 2.5], [1, 10]]
    assert GROUP.tolist() == [1, 0, 2, 3, 0]


def test_number_has_no_levels() -> None:
    assert DESIGN.levels == (("ctrl", "stim"), ())
    assert DESIGN.numeric == ("dose",)


def test_number_in_between_belongs_to_the_nearest_group() -> None:
    assert DESIGN.group_of(np.array([[1, 3.0], [1, 9.0]])).tolist() == [2, 3]


@pytest.mark.parametrize("row", [[1, 11.0], [1, -1.0], [0, 10.0]])
def test_number_beyond_the_fit_or_without_cells_has_no_group(row: list[float]) -> None:
    assert DESIGN.group_of(np.array([row])).tolist() == [-1]


def test_features_follow_the_exact_number() -> None:
    rows = np.array([[1, 5.0], [1, 5.1]])
    assert (DESIGN.features(rows)[0] != DESIGN.features(rows)[1]).any()


def test_features_are_as_many_as_announced() -> None:
    assert DESIGN.features(DESIGN.groups).shape == (4, DESIGN.n_features)


def test_numbers_beyond_the_fit_are_encoded_as_unknown() -> None:
    rows = DESIGN.encode(np.array([["stim", "3"], ["ctrl", "99"], ["new", "text"]]))
    np.testing.assert_array_equal(rows, [[1, 2.5], [0, np.nan], [-1, np.nan]])
    assert DESIGN.known(rows).tolist() == [[True, True], [True, False], [False, False]]


def test_cells_are_among_levels_by_label_and_by_bin() -> None:
    doses = np.array(["2.4", "9", "99", "text"])
    assert DESIGN.among("dose", doses, [2.0, 10.0]).tolist() == [True, True, False, False]
    assert DESIGN.among("treatment", np.array(["stim", "new"]), [0, 1]).tolist() == [True, False]


@pytest.mark.parametrize(("column", "level"), [("treatment", 1), ("dose", 2.5), ("dose", 10.0), ("dose", 1 / 3)])
def test_name_of_a_level_is_read_back(column: str, level: float) -> None:
    assert DESIGN.level(column, DESIGN.name(column, level)) == level


@pytest.mark.parametrize("text", ["high", "nan", "inf", ""])
def test_text_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=rf"{text!r} is no number, but 'dose' is a column of numbers.*from 0 to 10"):
        DESIGN.level("dose", text)


def test_fit_of_text_as_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="'high' is no number, but 'dose'"):
        Design.of(np.array([["1"], ["high"]]), ("dose",), 1, numeric=("dose",))


def test_constant_is_refused() -> None:
    with pytest.raises(ValueError, match="'dose' is 5 in all cells: leave it out"):
        Design.of(np.array([["5"], ["5.0"]]), ("dose",), 1, numeric=("dose",))


def test_unknown_column_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names no column 'age'. Columns: 'dose'"):
        Design.of(np.array([["1"], ["2"]]), ("dose",), 1, numeric=("age",))


def test_sides_name_numbers() -> None:
    assert named_levels(DESIGN, {"dose": [10, 2.25], "treatment": "stim"}) == {"dose": [2.25, 10.0], "treatment": [1]}


def test_ellipsis_names_all_labels_and_all_bins() -> None:
    assert named_levels(DESIGN, {"treatment": ..., "dose": ...}) == {"treatment": [0, 1], "dose": [0.0, 2.5, 10.0]}


def test_numbers_are_judged_by_the_condition_that_holds_them() -> None:
    sides = [named_levels(DESIGN, {"treatment": "stim", "dose": dose}) for dose in (9.0, 0.5)]
    target, reference = conditions_of(DESIGN, *sides)
    assert (target.tolist(), reference.tolist()) == ([3], [1])


def test_numbers_of_one_bin_are_judged_by_no_condition() -> None:
    sides = [named_levels(DESIGN, {"treatment": "stim", "dose": dose}) for dose in (9.0, 10)]
    assert [len(side) for side in conditions_of(DESIGN, *sides)] == [0, 0]


def test_mixture_over_all_numbers_weighs_bins_by_their_cells() -> None:
    side = side_of(DESIGN, named_levels(DESIGN, {"dose": ..., "treatment": ...}), np.array([0, 0.0]))
    assert side.rows.tolist() == DESIGN.groups.tolist()
    np.testing.assert_allclose(np.exp(side.log_weights), [0.4, 0.2, 0.2, 0.2])


def test_groups_of_the_same_labels_are_taken_together() -> None:
    assert DESIGN.over_numbers(np.array([1, 2, 4, 8])).tolist() == [1, 14, 14, 14]


@pytest.mark.parametrize(("row", "group"), [([0, 7.0], 0), ([1, 99.0], 1), ([2, 0.0], -1)])
def test_group_of_the_same_labels(row: list[float], group: int) -> None:
    assert DESIGN.alike(np.array([row])).tolist() == [group]


def test_numbers_alone_are_all_of_the_same_labels() -> None:
    design, _ = Design.of(np.array([["1"], ["2"], ["4"]]), ("dose",), 1, numeric=("dose",))
    assert design.n_label_combinations == 1
    assert design.alike(np.array([[3.0], [9.0]])).tolist() == [0, 0]


def test_terms_are_the_features_in_order() -> None:
    starts = [column.start for column in Column.all_of(DESIGN)]
    assert starts == sorted(starts)
    assert Column.all_of(DESIGN)[-1].features.stop == DESIGN.n_features


def test_one_column_of_numbers_needs_no_list(fit: Callable[..., tuple[ConditionalFlow, np.ndarray]]) -> None:
    x, _ = small()
    flow, _ = fit(x, np.tile(["1", "2", "5"], len(x) // 3), columns="dose", numeric="dose")
    assert flow.design.numeric == ("dose",)
