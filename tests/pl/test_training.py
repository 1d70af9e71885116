"""Training curves show every member, their mean and what one Gaussian a condition says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from scratio_sc import pl

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes


@pytest.fixture
def fitted(adata: AnnData) -> AnnData:
    step = np.array([0, 10, 20, 30])
    loss = np.array([[1.0, 1.1], [0.9, 0.7], [0.8, 0.6], [0.7, 0.6]], dtype=np.float32)
    held_out = np.array([[1.0, 1.0], [np.nan, np.nan], [0.9, np.nan], [0.8, 0.6]], dtype=np.float32)
    history = {"step": step, "loss": loss, "held_out_loss": held_out}
    adata.uns["scratio"] = {"format_version": 1, "history": history, "members": {"0": {"silent": False}}}
    return adata


def _labels(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_curves(fitted: AnnData) -> None:
    ax = pl.training(fitted, show=False)
    assert _labels(ax) == ["training cells", "held-out cells", "one Gaussian a condition"]
    named = {str(line.get_label()): line for line in ax.get_lines()}
    np.testing.assert_allclose(named["training cells"].get_ydata(), [1.05, 0.8, 0.7, 0.65])
    np.testing.assert_allclose(named["held-out cells"].get_xydata(), [[0, 1], [20, 0.9], [30, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(named["one Gaussian a condition"].get_ydata(), 1)
    thin = [line for line in ax.get_lines() if line.get_linewidth() < 1]
    assert [len(line.get_xdata()) for line in thin] == [4, 4, 3, 2]


@pytest.mark.parametrize(("silent", "text"), [(True, "network not used: ratios are those of the mixture"), (False, "")])
def test_a_network_that_is_not_used_is_said_so(fitted: AnnData, *, silent: bool, text: str) -> None:
    fitted.uns["scratio"]["members"]["0"]["silent"] = np.bool_(silent)
    assert pl.training(fitted, show=False).get_legend().get_title().get_text() == text


def test_one_member_without_held_out_cells(fitted: AnnData) -> None:
    history = fitted.uns["scratio"]["history"]
    history["loss"], history["held_out_loss"] = history["loss"][:, 0], np.full(4, np.nan)
    ax = pl.training(fitted, show=False)
    assert _labels(ax) == ["training cells", "one Gaussian a condition"]


def test_return_types(fitted: AnnData) -> None:
    figure, ax = plt.subplots()
    assert pl.training(fitted, ax=ax, show=False) is ax
    assert pl.training(fitted, ax=ax, return_fig=True) is figure
    assert isinstance(pl.training(fitted, return_fig=True), Figure)


@pytest.mark.parametrize("key", ["scratio", "other", "log_ratio"])
def test_not_fitted(adata: AnnData, key: str) -> None:
    with pytest.raises(KeyError, match=rf"No fitted flow in `adata.uns\['{key}'\]`. Run `scratio.tl.fit"):
        pl.training(adata, key=key, show=False)
    assert not plt.get_fignums()


def test_figure_is_closed_when_drawing_fails(fitted: AnnData) -> None:
    fitted.uns["scratio"]["history"]["loss"] = np.ones(3)
    with pytest.raises(ValueError, match="reshape"):
        pl.training(fitted, show=False)
    assert not plt.get_fignums()


def test_other_key_and_no_change(fitted: AnnData) -> None:
    fitted.uns["mine"] = fitted.uns.pop("scratio")
    before = {name: values.copy() for name, values in fitted.uns["mine"]["history"].items()}
    pl.training(fitted, key="mine", show=False)
    for name, values in before.items():
        np.testing.assert_array_equal(fitted.uns["mine"]["history"][name], values)


def test_flow_without_networks_has_no_curves(fitted: AnnData) -> None:
    none = np.empty((0, 2), np.float32)
    fitted.uns["scratio"]["history"] = {"step": np.empty(0, np.int64), "loss": none, "held_out_loss": none}
    panel = pl.training(fitted, show=False)
    assert [text.get_text() for text in panel.texts] == ["no network was trained"]
    assert not len(panel.get_xticks())
    assert not len(panel.get_yticks())
    assert not panel.lines


def test_legend_hides_no_line(fitted: AnnData) -> None:
    panel = pl.training(fitted, show=False)
    panel.figure.draw_without_rendering()
    assert not panel.get_legend().get_window_extent().overlaps(panel.bbox)
