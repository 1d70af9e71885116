"""What the picture of interactions shows, and what it refuses."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from scratio_sc import pl
from scratio_sc.pl._interaction import LESS, MORE, UNCLEAR

KEYS = ["more", "less", "unclear"]


def entry(mean: float, se: float, combination: str, flag: str = "") -> dict[str, Any]:
    quantiles = mean + np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    summary = {"interaction": mean, "interaction_se": se, "quantiles": quantiles, "flag": flag}
    params = {"function": "interaction", "combination": combination, "a": "A", "b": combination[-1]}
    return {"summary": summary, "params": params}


@pytest.fixture
def combined() -> AnnData:
    adata = AnnData(np.zeros((1, 1)))
    adata.uns["more"] = entry(1.0, 0.1, "A+B")
    adata.uns["less"] = entry(-1.0, 0.1, "A+C")
    adata.uns["unclear"] = entry(0.1, 0.1, "A+D")
    adata.uns["missing"] = entry(np.nan, np.nan, "A+E", "few cells")
    return adata


def names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def means(ax: Axes) -> list[Any]:
    """Points at the means, from below."""
    return [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]


def test_combinations_are_sorted_by_their_mean(combined: AnnData) -> None:
    ax = pl.interaction(combined, KEYS, show=False)
    assert names(ax) == ["A+C", "A+D", "A+B"]
    assert [line.get_xdata()[0] for line in means(ax)] == [-1, 0.1, 1]


def test_colour_says_which_side_of_0_the_interval_is_on(combined: AnnData) -> None:
    colours = [to_rgba(line.get_color()) for line in means(pl.interaction(combined, KEYS, show=False))]
    assert colours == [to_rgba(LESS), to_rgba(UNCLEAR), to_rgba(MORE)]


def test_interaction_without_a_summary_says_why(combined: AnnData) -> None:
    ax = pl.interaction(combined, "missing", show=False)
    assert [text.get_text() for text in ax.texts] == ["few cells"]
    assert not means(ax)


def test_extrapolated_interaction_is_hollow_and_says_so(combined: AnnData) -> None:
    combined.uns["far"] = entry(2.0, 0.1, "A+F", "extrapolated")
    figure = pl.interaction(combined, ["more", "far"], return_fig=True)
    (ax,) = figure.axes
    assert [to_rgba(line.get_markerfacecolor()) == to_rgba(MORE) for line in means(ax)] == [True, False]
    assert "extrapolated: size unknown" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_each_of_several_axes_has_its_own_legend(combined: AnnData) -> None:
    figure, axes = plt.subplots(1, 2)
    for ax in axes:
        pl.interaction(combined, "more", ax=ax, show=False)
    figure.canvas.draw()
    left, right = (ax.get_legend().get_window_extent() for ax in axes)
    assert not figure.legends
    assert left.x0 < right.x0


def test_label_of_the_axis_is_not_cut(combined: AnnData) -> None:
    combined.uns["more"]["params"]["combination"] = "a long name of one drug + a long name of another"
    figure = pl.interaction(combined, KEYS, return_fig=True)
    figure.canvas.draw()
    label = figure.axes[0].xaxis.label.get_window_extent()
    assert label.x0 >= 0
    assert label.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("keys", "text"),
    [("more", "log ratio of A+B minus the sum of A and B"), (KEYS, "log ratio minus the sum of both treatments")],
)
def test_axis_says_what_is_subtracted(combined: AnnData, keys: list[str], text: str) -> None:
    assert pl.interaction(combined, keys, show=False).get_xlabel().split("\n")[1] == text


def test_combinations_of_one_name_are_told_apart(combined: AnnData) -> None:
    combined.uns["again"] = entry(0.5, 0.1, "A+B")
    combined.uns["again"]["params"]["b"] = "X"
    assert names(pl.interaction(combined, ["more", "again"], show=False)) == ["A+B (A, X)", "A+B (A, B)"]


def test_return_types(combined: AnnData) -> None:
    assert isinstance(pl.interaction(combined, "more", show=False), Axes)
    assert isinstance(pl.interaction(combined, KEYS, return_fig=True), Figure)


def test_refusals(combined: AnnData) -> None:
    with pytest.raises(KeyError, match=r"No interaction in .*'typo'.*tl\.interaction"):
        pl.interaction(combined, ["more", "typo"], show=False)
    assert not plt.get_fignums()
