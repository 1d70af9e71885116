"""Permuted labels: what is shuffled, and that it comes out small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from scratio_sc import tl
from scratio_sc.tl._null_check import permuted

if TYPE_CHECKING:
    from anndata import AnnData

SIDES = {"target": "stim", "reference": "ctrl"}


def shuffle(text: np.ndarray, unit: np.ndarray | None = None, *, n_condition_columns: int = 1) -> np.ndarray:
    unit = np.arange(len(text)) if unit is None else unit
    return permuted(text, unit, n_condition_columns, rng=np.random.default_rng(0))


LABELS = np.column_stack([np.tile(["a", "b"], 50), np.repeat(["x", "y"], 50)])


def test_conditions_are_permuted() -> None:
    shuffled = shuffle(LABELS[:, :1])
    assert (shuffled != LABELS[:, :1]).any()
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(LABELS[:, :1], axis=0))


def test_covariates_stay_where_they_are() -> None:
    np.testing.assert_array_equal(shuffle(LABELS)[:, 1], LABELS[:, 1])


def test_conditions_are_permuted_within_covariates() -> None:
    only_a_in_x = LABELS.copy()
    only_a_in_x[:50, 0] = "a"
    assert (shuffle(only_a_in_x)[:50, 0] == "a").all()


def test_samples_are_permuted_as_a_whole() -> None:
    sample = np.repeat(np.arange(10), 10)
    text = np.where(sample % 2 == 0, "a", "b")[:, None]
    shuffled = shuffle(text, sample)[:, 0]
    assert all(len(set(shuffled[sample == s])) == 1 for s in range(10))


def test_sample_of_several_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="Sample '0' has cells of several conditions"):
        shuffle(LABELS[:, :1], np.zeros(100, int))


def test_real_ratio_is_larger_than_that_of_permuted_labels(fresh_fit: AnnData) -> None:
    tl.null_check(fresh_fit, **SIDES, n_permutations=2, progress=False)
    result = fresh_fit.uns["null_check"]
    assert result["null"].shape == result["q95_null"].shape == (2,)
    assert result["observed"] > result["null"].max()


def test_same_seed_gives_the_same_null(fresh_fit: AnnData) -> None:
    found = [tl.null_check(fresh_fit, **SIDES, n_permutations=1, progress=False, copy=True) for _ in range(2)]
    assert found[0].uns["null_check"]["null"] == found[1].uns["null_check"]["null"]


def test_copy_leaves_the_cells_alone(fresh_fit: AnnData) -> None:
    tl.null_check(fresh_fit, **SIDES, n_permutations=1, progress=False, copy=True)
    assert "null_check" not in fresh_fit.uns


def test_no_permutations_are_refused(fresh_fit: AnnData) -> None:
    with pytest.raises(ValueError, match="n_permutations=0, expected an integer of 1 or more"):
        tl.null_check(fresh_fit, **SIDES, n_permutations=0)
