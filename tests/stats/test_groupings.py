"""Groupings of units: which labellings are the same, how many others there are, and that these are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.stats._groupings import Units


def units(*strata: str, ordered: bool = False) -> Units:
    """One letter a unit, its condition; one word a stratum."""
    _, condition = np.unique(list("".join(strata)), return_inverse=True)
    return Units(condition, np.repeat(np.arange(len(strata)), [len(s) for s in strata]), ordered)


def drawn(of: Units, n: int = 1000) -> list[np.ndarray]:
    return [of.condition[order] for order in of.other_groupings(n, rng=np.random.default_rng(0))]


@pytest.mark.parametrize(
    ("of", "n_others"),
    [
        pytest.param(units("ab"), 0, id="one unit a condition"),
        pytest.param(units("abcd"), 0, id="one unit of each of four"),
        pytest.param(units("aabb"), 2, id="6 labellings in pairs of mirror images"),
        pytest.param(units("abb"), 2, id="no mirror image where sizes differ"),
        pytest.param(units("aabbcc"), 14, id="90 labellings under 6 namings"),
        pytest.param(units("ab", "ab"), 1, id="names exchanged in one stratum only"),
        pytest.param(units("ab", "aabb"), 5, id="12 labellings in pairs"),
        pytest.param(units("aa", "bb"), 0, id="nested"),
        pytest.param(units("ab", "aa"), 0, id="a stratum of one condition compares nothing"),
        pytest.param(units("ab", "cd"), 0, id="strata of different conditions"),
        pytest.param(units("abc", ordered=True), 2, id="6 orders and their reverse"),
        pytest.param(units("aab", ordered=True), 2, id="an order that cannot be reversed"),
        pytest.param(units("abc", "cc", ordered=True), 2, id="ordered, beside a stratum of one condition"),
    ],
)
def test_all_other_groupings_are_drawn_once(of: Units, n_others: int) -> None:
    labels = drawn(of)
    assert of.n_others == len(labels) == n_others
    assert len(np.unique([of.condition, *labels], axis=0)) == n_others + 1


def test_neither_the_observed_grouping_nor_its_mirror_image_is_drawn() -> None:
    assert all(len(set(labels[:2])) == 2 for labels in drawn(units("aabb")))


def test_conditions_stay_within_strata() -> None:
    of = units("aab", "abbb")
    assert all(sorted(labels[:3]) == [0, 0, 1] for labels in drawn(of))


def test_only_strata_of_one_condition_are_nested() -> None:
    assert units("aa", "bb").nested
    assert not units("ab").nested


def test_first_draw_of_many_units_is_a_plain_permutation() -> None:
    of = units("ab" * 50)
    (order,) = of.other_groupings(1, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(order, np.random.default_rng(0).permutation(np.arange(100)))


def test_millions_of_cells_have_many() -> None:
    n = 10**6
    assert Units(np.arange(n) % 2, np.zeros(n, np.int64)).n_others > 10**9
