"""When a ratio comes with a warning, and what it says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from scratio_sc._warn import all_zero, warn_of

FINE = {
    "n_cells": 1000,
    "slope": 1.0,
    "slope_se": 0.1,
    "log_loss": 0.5,
    "log_loss_prior": 0.69,
    "log_loss_lda": 0.52,
    "log_loss_qda": 0.55,
}
FINE |= dict.fromkeys(("log_loss_prior_se", "log_loss_lda_se", "log_loss_qda_se"), 0.01)
COVERED = {"overlap": 0.5, "extrapolated": 0.0}


def test_good_ratio_comes_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of(FINE, COVERED)


@pytest.mark.parametrize("poor", [{"overlap": 0.001, "extrapolated": 0.1}, {"overlap": 0.5, "extrapolated": 0.6}])
def test_poor_overlap_is_said_in_plain_words(poor: dict[str, float]) -> None:
    with pytest.warns(UserWarning, match="hardly overlap: [16]0% of their cells have hardly any cells of one"):
        warn_of(FINE, poor)


@pytest.mark.parametrize(
    ("baseline", "name"),
    [("prior", "the class frequencies alone"), ("lda", "LDA"), ("qda", "QDA")],
)
def test_better_baseline_is_named(baseline: str, name: str) -> None:
    with pytest.warns(UserWarning, match=f"(?s){name}.*predicts? the condition better"):
        warn_of({**FINE, f"log_loss_{baseline}": 0.3}, COVERED)


def test_poor_overlap_is_said_beside_a_better_baseline() -> None:
    with pytest.warns(UserWarning, match="hardly overlap"), pytest.warns(UserWarning, match="LDA"):
        warn_of({**FINE, "log_loss_lda": 0.3}, {"overlap": 0.001, "extrapolated": 0.6})


def test_ratio_worse_than_none_says_not_which_side_a_cell_belongs_to() -> None:
    with pytest.warns(UserWarning, match="Do not build on these ratios") as caught:
        warn_of({**FINE, "log_loss": 2.0}, {"overlap": 0.001, "extrapolated": 0.6})
    assert len(caught) == 1


def test_baseline_that_is_better_by_chance_is_not_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of({**FINE, "log_loss_lda": 0.485}, COVERED)


def test_ratios_that_are_too_large_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"they bear out 0\.60 ± 0\.05 times of them.*`n_comps`"):
        warn_of({**FINE, "slope": 0.6, "slope_se": 0.05}, COVERED)


@pytest.mark.parametrize(("slope", "error"), [(0.6, 0.1), (np.nan, np.nan), (2.0, 0.1)])
def test_slope_that_may_be_near_one_or_is_unknown_or_above_is_not_warned_of(slope: float, error: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of({**FINE, "slope": slope, "slope_se": error}, COVERED)


def test_few_cells_do_not_judge() -> None:
    few: dict[str, Any] = {**FINE, "n_cells": 79, "slope": 0.1, "log_loss_lda": 0.1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of(few, COVERED)


def test_warning_points_at_the_line_that_called_the_package() -> None:
    with pytest.warns(UserWarning, match="hardly overlap") as caught:
        warn_of(FINE, {"overlap": 0.001, "extrapolated": 0.1})
    assert caught[0].filename == __file__


def test_confounding_is_told_apart_from_poor_overlap() -> None:
    with pytest.warns(UserWarning, match="60% of the cells have covariates") as caught:
        warn_of(FINE, {"overlap": 0.5, "extrapolated": 0.6}, confounded=0.6)
    assert len(caught) == 1


def test_zeros_are_no_proof_of_equality() -> None:
    with pytest.warns(UserWarning, match="cannot be told apart.*standard error covers it in part, mostly where"):
        warn_of(FINE, COVERED, nothing=True)


@pytest.mark.parametrize(
    ("ratio", "zero"), [([0.0, np.nan, 1e-9], True), ([], False), ([np.nan], False), ([0.0, 0.01], False)], ids=str
)
def test_all_known_ratios_have_to_be_zero(ratio: list[float], zero: bool) -> None:
    assert all_zero(np.array(ratio)) == zero
