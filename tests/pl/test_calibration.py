"""The reliability curve: what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scratio_sc import pl


@pytest.fixture
def checked() -> AnnData:
    curve = {
        "predicted": np.array([0.1, 0.5, 0.9]),
        "observed": np.array([0.2, 0.5, 0.8]),
        "lower": np.array([0.1, 0.4, 0.7]),
        "upper": np.array([0.3, 0.6, 0.9]),
        "n_cells": np.array([10, 10, 10]),
    }
    numbers = {"n_cells": 30, "slope": 0.75, "slope_se": 0.05, "log_loss": 0.5, "log_loss_prior": 0.69}
    params = {"target": "stim$1", "reference": "ctrl"}
    adata = AnnData(np.zeros((3, 1), np.float32))
    adata.uns["log_ratio"] = {"params": params, "calibration": {**numbers, "curve": curve}}
    return adata


def test_curve_goes_through_the_bins(checked: AnnData) -> None:
    axes = pl.calibration(checked, show=False)
    assert isinstance(axes, Axes)
    drawn = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert [[0.1, 0.2], [0.5, 0.5], [0.9, 0.8]] in drawn


def test_axes_name_the_target(checked: AnnData) -> None:
    axes = pl.calibration(checked, show=False)
    assert isinstance(axes, Axes)
    assert "stim$1" in axes.get_xlabel()


def test_slope_is_written_with_its_interval(checked: AnnData) -> None:
    axes = pl.calibration(checked, show=False)
    assert isinstance(axes, Axes)
    assert "slope 0.75 ± 0.10" in axes.texts[0].get_text()


def test_figure_is_returned_on_request(checked: AnnData) -> None:
    assert isinstance(pl.calibration(checked, return_fig=True), Figure)


def test_missing_calibration_names_the_call() -> None:
    with pytest.raises(KeyError, match=r"No calibration in `adata\.uns\['r'\]`.*tl\.log_ratio"):
        pl.calibration(AnnData(np.zeros((3, 1), np.float32)), "r")


@pytest.mark.parametrize(("slope", "error"), [(np.nan, np.nan), (9.77, 8823.0)])
def test_slope_that_nobody_knows_is_not_written(checked: AnnData, slope: float, error: float) -> None:
    checked.uns["log_ratio"]["calibration"] |= {"slope": slope, "slope_se": error}
    axes = pl.calibration(checked, show=False)
    assert "slope cannot be told" in axes.texts[0].get_text()
