"""Folds of the cells: balanced, and the same for copies of a cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratio_sc.flow._folds import copies_of, draw_folds, folds_of


def test_copies_are_known_by_the_first_of_them() -> None:
    x = np.array([[3.0, 0], [1, 0], [3, 0], [2, 0], [1, 1e-9]])
    np.testing.assert_array_equal(copies_of(x), [0, 1, 0, 3, 1])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=5), n_folds=st.integers(1, 4), seed=st.integers(0, 99))
def test_folds_are_balanced_within_groups(sizes: list[int], n_folds: int, seed: int) -> None:
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    fold = draw_folds(group, n_folds, rng=np.random.default_rng(seed))
    for c in range(len(sizes)):
        counts = np.bincount(fold[group == c], minlength=n_folds)
        assert len(counts) == n_folds
        assert counts.max() - counts.min() <= 1


@settings(max_examples=30, deadline=None, derandomize=True)
@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=40), n_folds=st.integers(1, 16), seed=st.integers(0, 99))
def test_folds_are_balanced_over_all_cells(sizes: list[int], n_folds: int, seed: int) -> None:
    group = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    counts = np.bincount(draw_folds(group, n_folds, rng=np.random.default_rng(seed)), minlength=n_folds)
    assert counts.max() - counts.min() <= 1


def test_folds_do_not_depend_on_the_names_of_groups() -> None:
    group = np.random.default_rng(0).integers(5, size=123)
    one, other = (draw_folds(g, 4, rng=np.random.default_rng(0)) for g in (group, 4 - group))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("others", [1, 2], ids=["a single cell", "a cell and its copy"])
def test_copies_are_in_one_fold_though_another_group_has_a_single_cell(others: int) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    cells = np.concatenate([x, x, np.full((others, 2), 9.0)])
    group = np.repeat([0, 1, 2], [60, 60, others])
    fold = folds_of(copies_of(cells), group, 4, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(fold[:60], fold[60:120])
    assert np.bincount(fold[:60], minlength=4).min() >= 14


@pytest.mark.parametrize("seed", range(8))
def test_copies_of_another_group_are_in_several_folds(seed: int) -> None:
    """Else the member that leaves their fold out would see none of the group."""
    x = np.random.default_rng(0).normal(size=(60, 2))
    fold = folds_of(
        copies_of(np.concatenate([x, x[:2]])), np.repeat([0, 1], [60, 2]), 2, rng=np.random.default_rng(seed)
    )
    assert sorted(fold[60:]) == [0, 1]


def test_folds_of_cells_without_copies_are_as_if_nobody_had_looked() -> None:
    x, group = np.random.default_rng(0).normal(size=(60, 2)), np.repeat([0, 1], 30)
    of_cells = folds_of(copies_of(x), group, 4, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(of_cells, draw_folds(group, 4, rng=np.random.default_rng(0)))


def test_folds_do_not_follow_the_order_of_cells() -> None:
    fold = draw_folds(np.zeros(100, int), 2, rng=np.random.default_rng(0))
    assert 20 < np.abs(np.diff(fold)).sum() < 80
