"""What the picture of batch scores shows, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb

from scratio_sc import pl

if TYPE_CHECKING:
    from matplotlib.path import Path

REPS = ["X_pca", "X_new"]
MEANS = {"all cells": (0.4, 0.1), "T": (0.2, 0.05), "$B_1$": (0.6, 0.2), "alone": (np.nan, np.nan)}
MAXIMUM = 0.7


@pytest.fixture
def adata() -> AnnData:
    """Sixty cells of three types, of which one is not scored."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"kind": np.repeat(["T", "$B_1$", "alone"], 20)}, index=[f"cell_{i}" for i in range(60)])
    for rep in REPS:
        obs[f"batch_score_{rep}"] = np.where(obs["kind"] == "alone", np.nan, rng.uniform(-1, MAXIMUM, 60))
    rows = [
        {
            "representation": rep,
            "group": group,
            "mean": mean[j],
            "information": mean[j],
            "information_se": 0.01,
            "maximum": MAXIMUM,
        }
        for j, rep in enumerate(REPS)
        for group, mean in MEANS.items()
    ]
    adata = AnnData(np.zeros((60, 1), np.float32), obs=obs)
    params = {"function": "batch_score", "groupby": "kind", "use_rep": np.array(REPS, object)}
    adata.uns["batch_score"] = {"table": pd.DataFrame(rows), "params": params}
    return adata


def draw(adata: AnnData) -> plt.Axes:
    ax = pl.batch_score(adata, show=False)
    ax.figure.draw_without_rendering()
    return ax


def means(ax: plt.Axes) -> np.ndarray:
    """Places and values of the points, ``(n, 2)``."""
    points = [line for line in ax.lines if line.get_marker() == "o"]
    return np.array([[line.get_ydata()[0], line.get_xdata()[0]] for line in points])


def violins(ax: plt.Axes) -> list[Path]:
    """Outlines, row by row."""
    return [part.get_paths()[0] for part in ax.collections if isinstance(part, PolyCollection)]


def test_all_cells_come_first_and_the_worst_type_next(adata: AnnData) -> None:
    assert [label.get_text() for label in draw(adata).get_yticklabels()][:3] == ["all cells", "$B_1$", "T"]


def test_types_without_a_score_are_last_and_said_to_have_none(adata: AnnData) -> None:
    ax = draw(adata)
    assert [label.get_text() for label in ax.get_yticklabels()][3:] == ["alone"]
    assert [(text.get_text(), text.xy) for text in ax.texts] == [("not scored: too few batches", (1, 3))]


def test_means_stand_beside_each_other(adata: AnnData) -> None:
    found = means(draw(adata))
    np.testing.assert_array_equal(np.round(found[:, 0]), [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(found[:, 1], [0.4, 0.1, 0.6, 0.2, 0.2, 0.05])


def test_scores_that_are_all_the_same_are_a_line(adata: AnnData) -> None:
    adata.obs.loc[adata.obs["kind"] == "T", "batch_score_X_new"] = 0.3
    ax = draw(adata)
    lines = [part.get_segments()[0] for part in ax.collections if isinstance(part, LineCollection)]
    (line,) = [line for line in lines if line[0, 0] == line[1, 0]]  # others are intervals
    np.testing.assert_allclose(line[:, 0], 0.3, rtol=1e-6)
    assert round(line[:, 1].mean()) == 2
    assert len(violins(ax)) == 5


def test_scores_of_two_values_are_bumps_that_are_not_cut(adata: AnnData) -> None:
    """Where batches are apart, cells have the score of their batch."""
    adata.obs.loc[adata.obs["kind"] == "T", "batch_score_X_new"] = np.repeat([-0.9, 0.6], 10)
    violin = violins(draw(adata))[-1].vertices
    y = np.abs(violin[:, 1] - np.median(violin[:, 1]))
    np.testing.assert_allclose(y[[violin[:, 0].argmin(), violin[:, 0].argmax()]], 0, atol=0.01)
    widest = violin[y > 0.95 * y.max(), 0]
    np.testing.assert_allclose([widest.min(), widest.max()], [-0.9, 0.6], atol=0.03)


def test_maximum_is_marked_in_every_row(adata: AnnData) -> None:
    ticks = [line for line in draw(adata).lines if np.array_equal(line.get_xdata(), [MAXIMUM] * 2)]
    assert len(ticks) == 6


def test_axis_names_the_unit_and_the_good_side(adata: AnnData) -> None:
    label = draw(adata).get_xlabel()
    assert "[nats]" in label
    assert "lower is better" in label


def test_representations_have_their_colours_in_the_legend(adata: AnnData) -> None:
    legend = draw(adata).get_legend()
    assert [text.get_text() for text in legend.get_texts()][:2] == [f"{rep}, 95 % of the cells" for rep in REPS]
    colours = {to_rgb(patch.get_facecolor()) for patch in legend.get_patches()}
    assert len(colours) == 2


def test_legend_is_in_the_figure_beside_long_names(adata: AnnData) -> None:
    long = "effector memory CD4-positive, alpha-beta T cell"
    entry = adata.uns["batch_score"]
    entry["params"]["use_rep"] = np.array(REPS[:1], object)
    entry["table"]["group"] = entry["table"]["group"].replace("T", long)
    ax = draw(adata)
    box, figure = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert figure.x0 <= box.x0
    assert box.x1 <= figure.x1


def test_names_are_not_read_as_mathematics(adata: AnnData) -> None:
    assert not any(label.get_parse_math() for label in draw(adata).get_yticklabels())


def test_many_types_grow_the_figure(adata: AnnData) -> None:
    small = draw(adata).figure.get_size_inches()[1]
    table = adata.uns["batch_score"]["table"]
    more = pd.concat([table, *(table[table["group"] == "T"].assign(group=f"t{i}") for i in range(12))])
    adata.uns["batch_score"]["table"] = more.sort_values("representation", ascending=False, kind="stable")
    assert draw(adata).figure.get_size_inches()[1] > 2 * small


def test_draws_on_given_axes(adata: AnnData) -> None:
    _, ax = plt.subplots()
    assert pl.batch_score(adata, ax=ax, show=False) is ax


def test_returns_the_figure(adata: AnnData) -> None:
    assert isinstance(pl.batch_score(adata, return_fig=True), plt.Figure)


def test_cells_are_not_changed(adata: AnnData) -> None:
    before = adata.copy()
    draw(adata)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    pd.testing.assert_frame_equal(adata.uns["batch_score"]["table"], before.uns["batch_score"]["table"])


def test_without_a_score(adata: AnnData) -> None:
    del adata.uns["batch_score"]
    with pytest.raises(KeyError, match=r"No batch score .*Run `scratio.tl.batch_score\(adata"):
        pl.batch_score(adata)


def test_without_the_column(adata: AnnData) -> None:
    del adata.obs["batch_score_X_new"]
    with pytest.raises(KeyError, match=r"No 'batch_score_X_new'.*again"):
        pl.batch_score(adata)
