"""What is compared with what."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow._contrast import fitted_groups, named_levels, side_of
from scratio_sc.flow._design import Design

PAIRS = np.repeat(np.array([("ctrl", "d1"), ("stim", "d1"), ("ctrl", "d2"), ("drug", "d2")]), [30, 10, 50, 10], axis=0)
DESIGN, _ = Design.of(PAIRS, ("treatment", "donor"), 1)
CTRL, DRUG, STIM = range(3)
D1, D2 = range(2)


@pytest.mark.parametrize("spec", ["stim", ["stim"], ("stim",), np.array(["stim"]), {"treatment": "stim"}])
def test_level_is_named_in_every_way(spec: object) -> None:
    assert named_levels(DESIGN, spec) == {"treatment": [STIM]}


def test_levels_of_a_mixture_are_sorted_and_named_once() -> None:
    assert named_levels(DESIGN, ["stim", "ctrl", "stim"]) == {"treatment": [CTRL, STIM]}


def test_covariates_are_named_by_column() -> None:
    assert named_levels(DESIGN, {"donor": ["d2", "d1"], "treatment": "drug"}) == {
        "donor": [D1, D2],
        "treatment": [DRUG],
    }


def test_labels_that_are_no_text_are_named_as_they_are() -> None:
    design, _ = Design.of(np.array([["1"], ["2"]]), ("dose",), 1)
    assert named_levels(design, {"dose": [2, 1]}) == {"dose": [0, 1]}


def test_unknown_level_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(KeyError, match=r"'stimm' is not a level of 'treatment'.*mean 'stim'"):
        named_levels(DESIGN, ["ctrl", "stimm"])


def test_unknown_column_is_an_error_that_lists_the_columns() -> None:
    with pytest.raises(KeyError, match=r"no column 'batch'.*'treatment', 'donor'"):
        named_levels(DESIGN, {"batch": "d1"})


def test_level_alone_is_not_enough_for_a_condition_of_several_columns() -> None:
    design, _ = Design.of(PAIRS, ("treatment", "donor"), 2)
    with pytest.raises(TypeError, match=r"several columns: name the levels as \{'treatment': ..., 'donor': ...\}"):
        named_levels(design, "stim")


@pytest.mark.parametrize("spec", [[], {"donor": []}], ids=str)
def test_empty_side_is_an_error(spec: object) -> None:
    with pytest.raises(ValueError, match="level"):
        named_levels(DESIGN, spec)


def test_no_levels_of_a_covariate_is_an_error_that_lists_the_levels_of_that_column() -> None:
    with pytest.raises(ValueError, match=r"No level given for 'donor'. Known levels: 'd1', 'd2'"):
        named_levels(DESIGN, {"donor": []})


def test_columns_not_named_keep_the_own_levels() -> None:
    side = side_of(DESIGN, {"treatment": [CTRL]}, np.array([STIM, D2]))
    assert side.rows.tolist() == [[CTRL, D2]]


def test_side_of_one_combination_has_weight_one() -> None:
    np.testing.assert_allclose(side_of(DESIGN, {"treatment": [STIM]}, np.array([CTRL, D1])).log_weights, [0.0])


def test_mixture_weighs_its_combinations_by_their_cells() -> None:
    side = side_of(DESIGN, {"treatment": [CTRL, STIM]}, np.array([DRUG, D1]))
    assert side.rows.tolist() == [[CTRL, D1], [STIM, D1]]
    np.testing.assert_allclose(np.exp(side.log_weights), [0.75, 0.25])


def test_mixture_leaves_out_combinations_never_observed() -> None:
    side = side_of(DESIGN, {"treatment": [CTRL, STIM], "donor": [D1, D2]}, np.array([DRUG, D1]))
    assert side.rows.tolist() == [[CTRL, D1], [CTRL, D2], [STIM, D1]]
    np.testing.assert_allclose(np.exp(side.log_weights), [30 / 90, 50 / 90, 10 / 90])


def test_side_with_an_observed_combination_is_observed() -> None:
    assert side_of(DESIGN, {"treatment": [CTRL, STIM]}, np.array([DRUG, D2])).observed


def test_side_without_observed_combinations_is_not_observed() -> None:
    assert not side_of(DESIGN, {"treatment": [STIM]}, np.array([DRUG, D2])).observed


def test_combinations_never_observed_weigh_the_same() -> None:
    design, _ = Design.of(np.array([("a", "x"), ("b", "x"), ("c", "y")]), ("first", "second"), 1)
    side = side_of(design, {"first": [0, 1]}, np.array([2, 1]))
    np.testing.assert_allclose(np.exp(side.log_weights), [0.5, 0.5])


# --- groups that tell of a side


def counted(*sides: object, own: tuple[int, int] = (CTRL, D1)) -> list[list[str]]:
    found = [side_of(DESIGN, named_levels(DESIGN, side), np.array(own)) for side in sides]
    names = np.array([f"{DESIGN.levels[0][c]} {DESIGN.levels[1][d]}" for c, d in DESIGN.groups.tolist()])
    return [names[which].tolist() for which in fitted_groups(DESIGN, found)]


def test_groups_of_a_condition_count_whatever_their_covariates() -> None:
    assert counted("stim", "ctrl") == [["stim d1"], ["ctrl d1", "ctrl d2"]]


def test_groups_of_covariates_that_are_named_count_by_themselves() -> None:
    assert counted({"donor": "d1"}, {"donor": "d2"}) == [["ctrl d1"], ["ctrl d2"]]
    sides = ({"treatment": "stim", "donor": "d1"}, {"treatment": "ctrl", "donor": "d1"})
    assert counted(*sides) == [["stim d1"], ["ctrl d1"]]


def test_groups_of_a_mixture_count_together() -> None:
    assert counted(["ctrl", "stim"], "drug") == [["ctrl d1", "ctrl d2", "stim d1"], ["drug d2"]]


def test_groups_that_differ_in_numbers_alone_have_their_cells_at_the_first() -> None:
    labels = np.array([["a", "0"], ["a", "1"], ["a", "2"], ["b", "0"], ["b", "1"]]).repeat(40, 0)
    design, _ = Design.of(labels, ("arm", "dose"), 1, numeric=("dose",))
    found = [side_of(design, named_levels(design, side), design.groups[0]) for side in ("a", "b")]
    first = [int(np.flatnonzero(design.groups[:, 0] == level)[0]) for level in (0, 1)]
    assert [np.flatnonzero(which).tolist() for which in fitted_groups(design, found)] == [[i] for i in first]


def test_cells_of_a_side_are_those_of_its_labels_whatever_the_numbers() -> None:
    labels = np.array([["a", "x", "0"], ["b", "x", "0"], ["b", "x", "1"], ["a", "y", "0"]]).repeat([30, 3, 2, 30], 0)
    design, _ = Design.of(labels, ("arm", "donor", "dose"), 1, numeric=("dose",))
    sides = [side_of(design, named_levels(design, "b"), np.array([0, donor, 0.0])) for donor in (0, 1)]
    assert [(side.observed, side.n_cells) for side in sides] == [(True, 5), (False, 0)]


def test_mixture_of_many_columns_has_the_observed_combinations_alone() -> None:
    codes = np.arange(400)[:, None] + 100 * np.arange(4)  # all combinations of labels would be 400 ** 4
    design, _ = Design.of(codes.astype(str), ("a", "b", "c", "d"), 1)
    side = side_of(design, {column: design.all_levels(column) for column in design.columns}, np.zeros(4, int))
    np.testing.assert_array_equal(side.rows, design.groups)
    np.testing.assert_allclose(np.exp(side.log_weights), 1 / 400)


def test_numbers_that_lie_in_one_bin_share_its_cells() -> None:
    dose = np.repeat(np.arange(10.0), [60, *[20] * 8, 40])
    design, _ = Design.of(dose.astype(str)[:, None], ("dose",), 1, numeric=("dose",))
    low, high = design.numbers[0].value[[0, -1]].tolist()
    sizes = design.sizes[[0, -1]] / design.sizes[[0, -1]].sum()
    side = side_of(design, {"dose": [low, low + 1e-3, high]}, np.zeros(1))
    np.testing.assert_allclose(np.exp(side.log_weights), [sizes[0] / 2, sizes[0] / 2, sizes[1]])
