"""Columns of a design as levels of groups, and the order in which they are fitted."""

from __future__ import annotations

import numpy as np

from scratio_sc.flow._columns import Column, turns
from scratio_sc.flow._design import Design

ONE, _ = Design.of(np.array([["a"], ["b"], ["c"]]), ("condition",), 1)
PAIRS = np.array([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")])
TWO, _ = Design.of(PAIRS, ("condition", "donor"), 1)


def test_one_column_has_its_levels() -> None:
    (column,) = Column.all_of(ONE)
    assert (column.start, column.n_levels, column.level.tolist()) == (0, 3, [0, 1, 2])


def test_several_columns_have_the_groups_too() -> None:
    *columns, groups = Column.all_of(TWO)
    assert [(column.start, column.n_levels) for column in columns] == [(0, 2), (2, 2)]
    assert (groups.start, groups.level.tolist()) == (4, [0, 1, 2, 3])


def test_totals_are_sums_over_the_groups_of_a_level() -> None:
    first, *_ = Column.all_of(TWO)
    np.testing.assert_array_equal(first.total(np.array([[1.0], [2], [4], [8]])), [[3], [12]])


def test_effects_spread_to_the_groups_of_their_level() -> None:
    _, donor, _ = Column.all_of(TWO)
    np.testing.assert_array_equal(donor.spread(np.array([[1.0], [2]])), [[1], [2], [1], [2]])


def test_single_column_is_fitted_once() -> None:
    assert [*turns(Column.all_of(ONE), np.zeros((3, 1)), n_sweeps=9)] == [0]


def test_what_is_left_comes_last_once_the_others_stay() -> None:
    assert [*turns(Column.all_of(TWO), np.zeros((8, 1)), n_sweeps=9)] == [0, 1, 2]


def test_columns_are_fitted_again_while_they_change() -> None:
    effects, order = np.zeros((8, 1)), []
    for j in turns(Column.all_of(TWO), effects, n_sweeps=9):
        order.append(j)
        effects[0] = min(effects[0] + 1, 3)
    assert order == [0, 1, 0, 1, 0, 1, 2]


def test_sweeps_are_bounded() -> None:
    effects, order = np.zeros((8, 1)), []
    for j in turns(Column.all_of(TWO), effects, n_sweeps=3):
        order.append(j)
        effects += 1
    assert order == [0, 1, 0, 1, 0, 1, 2]
