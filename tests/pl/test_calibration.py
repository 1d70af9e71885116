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
    losses = {"log_loss": 0.5, "log_loss_prior": 0.69, "log_loss_lda": 0.61, "log_loss_qda": 0.62}
    numbers = {"n_cells": 30, "slope": 0.75, "slope_se": 0.05, **losses}
    params = {"function": "log_ratio", "target": "stim$1", "reference": "ctrl"}
    adata = AnnData(np.zeros((3, 1), np.float32))
    adata.uns["log_ratio"] = {"params": params, "calibration": {**numbers, "curve": curve}}
    return adata


def test_curve_goes_through_the_bins(checked: AnnData) -> None:
    axes = pl.calibration(checked, show=False)
    assert isinstance(axes, Axes)
    drawn = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert [[0.1, 0.2], [0.5, 0.5], [0.9, 0.8]] in drawn


def test_axes_name_both_sides(checked: AnnData) -> None:
    axes = pl.calibration(checked, show=False)
    assert isinstance(axes, Axes)
    assert axes.get_xlabel() == "predicted share of stim$1 among\nstim$1 and ctrl"


@pytest.mark.parametrize("scale", [1, 0.1])
def test_axes_go_from_none_to_all(checked: AnnData, scale: float) -> None:
    curve = checked.uns["log_ratio"]["calibration"]["curve"]
    curve |= {name: scale * curve[name] for name in ("predicted", "observed", "lower", "upper")}
    axes = pl.calibration(checked, show=False)
    assert isinstance(axes, Axes)
    assert axes.get_xlim() == axes.get_ylim() == (-0.02, 1.02)


def test_log_losses_of_baselines_are_written(checked: AnnData) -> None:
    axes = pl.calibration(checked, show=False)
    assert isinstance(axes, Axes)
    assert "LDA 0.610, QDA 0.620\nfrequencies alone 0.690" in axes.texts[0].get_text()


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
