"""Labels as numbers and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratio_sc.flow._design import Design

LABELS = np.array([("stim", "d1"), ("ctrl", "d1"), ("ctrl", "d2"), ("ctrl", "d1")])
DESIGN, GROUP = Design.of(LABELS, ("treatment", "donor"), 1)
NEVER_OBSERVED = np.array([1, 1])


def test_levels_are_sorted_labels() -> None:
    assert DESIGN.levels == (("ctrl", "stim"), ("d1", "d2"))


def test_groups_are_the_observed_combinations() -> None:
    assert DESIGN.groups.tolist() == [[0, 0], [0, 1], [1, 0]]


def test_every_cell_has_the_group_of_its_labels() -> None:
    assert GROUP.tolist() == [2, 0, 1, 0]


def test_sizes_count_the_cells_of_groups() -> None:
    assert DESIGN.sizes.tolist() == [2, 1, 1]


def test_features_of_one_column_are_one_hot() -> None:
    design, _ = Design.of(np.array([["b"], ["a"], ["c"]]), ("condition",), 1)
    np.testing.assert_array_equal(design.features(design.groups), np.eye(3))


def test_features_of_several_columns_are_one_hot_in_each_and_in_the_group() -> None:
    expected = [[1, 0, 1, 0, 1, 0, 0], [1, 0, 0, 1, 0, 1, 0], [0, 1, 1, 0, 0, 0, 1]]
    np.testing.assert_array_equal(DESIGN.features(DESIGN.groups), expected)


@pytest.mark.parametrize("donors", [["d1"] * 4, ["d1", "d2", "d1", "d3"]])
def test_combinations_that_a_column_tells_apart_already_have_no_features(donors: list[str]) -> None:
    """They would have the same effects twice."""
    design, _ = Design.of(np.column_stack([["a", "b", "a", "a"], donors]), ("condition", "donor"), 1)
    assert design.n_features == 2 + len(set(donors))


def test_combination_never_observed_has_the_features_of_its_columns_alone() -> None:
    np.testing.assert_array_equal(DESIGN.features(NEVER_OBSERVED), [[0, 1, 0, 1, 0, 0, 0]])


def test_combination_never_observed_has_no_group() -> None:
    assert DESIGN.group_of(np.array([[0, 1], NEVER_OBSERVED])).tolist() == [1, -1]


def test_conditions_are_combinations_of_the_condition_columns_alone() -> None:
    assert DESIGN.conditions.tolist() == [[0], [1]]


def test_condition_of_a_combination_ignores_covariates() -> None:
    assert DESIGN.condition_of(np.array([[0, 1], [1, 0], NEVER_OBSERVED])).tolist() == [0, 1, 1]


def test_conditions_compete_within_a_stratum_of_equal_covariates() -> None:
    stratum = DESIGN.stratum
    covariates = DESIGN.groups[:, 1:]
    same = (covariates[:, None] == covariates).all(2)
    np.testing.assert_array_equal(stratum[:, None] == stratum, same)


def test_without_covariates_all_conditions_compete() -> None:
    design, _ = Design.of(np.array([["a"], ["b"], ["c"]]), ("condition",), 1)
    assert design.stratum.tolist() == [0, 0, 0]


def test_condition_never_observed_has_no_index() -> None:
    design, _ = Design.of(LABELS, ("treatment", "donor"), 2)
    assert design.condition_of(NEVER_OBSERVED).tolist() == [-1]


def test_level_is_the_position_of_a_label() -> None:
    assert DESIGN.level("treatment", "stim") == 1


def test_unknown_level_lists_the_known_ones_and_suggests_the_closest() -> None:
    with pytest.raises(KeyError, match=r"'stym' is not a level of 'treatment'.*'ctrl', 'stim'.*mean 'stim'\?"):
        DESIGN.level("treatment", "stym")


def test_of_many_levels_a_message_lists_some() -> None:
    labels = np.array([f"gene{i:03}" for i in range(300)])[:, None]
    design, _ = Design.of(labels, ("perturbation",), 1)
    with pytest.raises(KeyError, match=r"'gene019' and 280 more\.") as caught:
        design.level("perturbation", "none")
    assert "gene020" not in str(caught.value)


def test_unknown_level_like_no_other_suggests_nothing() -> None:
    with pytest.raises(KeyError) as error:
        DESIGN.level("donor", "zzz")
    assert "mean" not in str(error.value)


def test_labels_need_not_be_text() -> None:
    design, _ = Design.of(np.array([["0"], ["1"], ["10"]]), ["cluster"], 1)
    assert design.encode(np.array([[10], [0], [2]])).ravel().tolist() == [2, 0, -1]


def test_labels_the_fit_has_not_seen_are_encoded_as_minus_one() -> None:
    assert DESIGN.encode(np.array([["stim", "d9"], ["new", "d2"]])).tolist() == [[1, -1], [-1, 1]]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_any_labels_are_found_again(rows: list[tuple[str, str]]) -> None:
    labels = np.array(rows, object)
    design, group = Design.of(labels, ("a", "b"), 1)
    codes = design.encode(labels)
    np.testing.assert_array_equal(design.groups[group], codes)
    assert [(design.levels[0][i], design.levels[1][j]) for i, j in codes] == rows
    np.testing.assert_array_equal(design.group_of(codes), group)
