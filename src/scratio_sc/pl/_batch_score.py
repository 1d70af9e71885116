"""Batch scores by cell type, in several representations."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from scratio_sc._keys import BatchScoreKeys
from scratio_sc._labels import read_labels
from scratio_sc.pl._entry import check_columns, entry_of
from scratio_sc.pl._figure import LEGEND_STYLE, finish, ink, panels, plot, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SHOWN = (0.025, 0.975)
N_BINS = 300
SMOOTHING = 4.0
REACH = 3.0
"""Width of the kernel of violins, in bins, and how far it reaches, in such widths."""
ROW_SHARE = 0.84
INCHES_PER_VIOLIN = 0.26
LONGEST_NAME = 30


@plot()
def batch_score(
    adata: AnnData,
    key: str = "batch_score",
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw batch scores before and after a correction, by cell type. Lower is better.

    A row for all cells and one for each type, those that the first representation separates most on top, and at the
    bottom types that were not scored, for they have too few batches to compare. In a row, one violin for each
    representation, of 95 % of the cells, without the outermost ones on either side. At 0 the batches are mixed; the
    short line is the maximum of the mean, where they are apart: a cell's score is then that of the size of its batch
    alone, so that the violin has a bump for each batch. A line is drawn where all scores are the same. Points are the
    ``information`` with intervals of 95 %: the mean, corrected for what it lacks.

    Parameters
    ----------
    adata
        Reads `adata.uns[key]` and, in `adata.obs`, the scores (nats) in `key + '_' + use_rep` for each representation
        and the column with the types.
    key
        Name of the batch score.
    ax
        Axes to draw on; `layout="constrained"` of its figure makes room for legends and labels.
    show
        Whether to show the figure; by default as `scanpy.settings.autoshow` says.
    return_fig
        Whether to return the figure, on which `savefig` saves it.

    Returns
    -------
    The figure if `return_fig`; else `None` if it is shown; else the axes. `adata` is not changed.

    Raises
    ------
    KeyError
        If there is no batch score of that name, or the columns it needs are gone from `adata.obs`.
    TypeError
        If an argument is of another type than documented, or one of scanpy's that this plot does not have, such as
        `save`.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.batch_shift(600, n_dims=2, n_types=2, n_batches=2)
    >>> names = {"batch": "batch", "groupby": "cell_type", "use_rep": ["X_pca", "X_corrected"]}
    >>> scratio.tl.batch_score(adata, **names, n_members=2, max_steps=0, progress=False)
    >>> axes = scratio.pl.batch_score(adata, show=False)
    """
    call = "`scratio.tl.batch_score(adata, batch=..., groupby=..., use_rep=[...])`"
    entry = entry_of(adata, key, "batch score", of=["batch_score"], call=call)
    table, groupby = entry["table"], entry["params"]["groupby"]
    reps = [str(rep) for rep in np.atleast_1d(entry["params"]["use_rep"])]
    columns = [BatchScoreKeys(key).score(rep) for rep in reps]
    check_columns(adata, columns, key=key, function="batch_score")
    scores = {rep: adata.obs[column].to_numpy(np.float64) for rep, column in zip(reps, columns, strict=True)}
    labels = read_labels(adata, (groupby,)).text[:, 0]
    scored, unscored = _rows(table, reps[0])
    rows = [*scored, *unscored]
    height = ROW_SHARE / len(reps)
    inches = 1.6 + INCHES_PER_VIOLIN * len(reps) * len(rows)
    with panels(1, ax=ax, panel_size=(6.4, inches)) as axes:
        panel = axes[0]
        panel.axvline(0, color="0.4", linewidth=1, zorder=1)
        of_group = {group: labels == group for group in scored} | {scored[0]: np.ones(adata.n_obs, bool)}
        shown = {(group, rep): _shown(scores[rep][of_group[group]]) for group in scored for rep in reps}
        edges = _edges(np.concatenate([*shown.values()]))
        for (y, group), (j, rep) in product(enumerate(scored), enumerate(reps)):
            place = y + (j - (len(reps) - 1) / 2) * height
            found = table[(table["representation"] == rep) & (table["group"] == group)].iloc[0]
            colour = COLOURS[j % len(COLOURS)]
            _draw_violin(panel, shown[group, rep], edges, place=place, half=0.46 * height, colour=colour)
            _draw_information(panel, found, place, height=height)
        for y in range(len(scored), len(rows)):
            _say_not_scored(panel, y)
        for y in range(1, len(rows), 2):
            panel.axhspan(y - 0.5, y + 0.5, color="0.5", alpha=0.08, linewidth=0, zorder=0)
        _decorate(panel, shortened(rows, LONGEST_NAME), groupby=groupby)
        _draw_legend(panel, reps)
    return finish(axes, show=show, return_fig=return_fig)


def _rows(table: pd.DataFrame, rep: str) -> tuple[list[str], list[str]]:
    """All cells and the types that were scored, by their information in one representation, and the other types."""
    of_rep = table[table["representation"] == rep]
    overall, types = of_rep.iloc[:1], of_rep.iloc[1:].sort_values("information", ascending=False, kind="stable")
    known = types["mean"].notna()
    return [*overall["group"], *types["group"][known]], [*types["group"][~known]]


def _shown(scores: np.ndarray) -> np.ndarray:
    """Scores that are drawn of those of some cells ``(n_cells,)``: known, and not among the outermost."""
    known = scores[np.isfinite(scores)]
    low, high = np.quantile(known, SHOWN) if len(known) else (0, 0)
    shown: np.ndarray = known[(low <= known) & (known <= high)]
    return shown


def _edges(scores: np.ndarray) -> np.ndarray:
    """Edges of bins that all violins share, for scores and what smoothing adds at both ends."""
    low, high = scores.min(initial=0), scores.max(initial=0)
    # in two representations that are alike all scores can be 0
    margin = REACH * SMOOTHING * max(high - low, 1e-3) / N_BINS
    return np.linspace(low - margin, high + margin, N_BINS + 1)


def _draw_violin(ax: Axes, scores: np.ndarray, edges: np.ndarray, *, place: float, half: float, colour: str) -> None:
    if len(scores) and np.ptp(scores) < edges[1] - edges[0]:  # smoothing would feign a spread
        ax.vlines(scores.mean(), place - half, place + half, color=colour, alpha=0.55, linewidth=4, zorder=2)
        return
    count, _ = np.histogram(scores, bins=edges)
    density = gaussian_filter1d(count.astype(float), SMOOTHING, mode="constant", truncate=REACH)
    width = half * density / max(density.max(), 1e-9)
    middle = (edges[:-1] + edges[1:]) / 2
    within = np.flatnonzero(density)
    part = slice(within[0], within[-1] + 1) if len(within) else slice(0)
    ends = (place - width)[part], (place + width)[part]
    ax.fill_between(middle[part], *ends, color=colour, alpha=0.55, linewidth=0.8, zorder=2)


def _say_not_scored(ax: Axes, y: int) -> None:
    ax.annotate(
        "not scored: too few batches",
        (1, y),
        xytext=(-4, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center",
        color="0.4",
        fontsize="small",
    )


def _draw_information(ax: Axes, found: pd.Series, place: float, *, height: float) -> None:
    ends = [place - height / 2, place + height / 2]
    ax.plot([found["maximum"]] * 2, ends, color=ink(), alpha=0.8, linewidth=2, solid_capstyle="butt", zorder=3)
    ax.errorbar(
        found["information"],
        place,
        xerr=1.96 * found["information_se"],
        color=ink(),
        marker="o",
        markersize=4,
        markerfacecolor=ax.get_facecolor(),
        elinewidth=1.4,
        zorder=4,
    )


def _decorate(ax: Axes, names: Sequence[str], *, groupby: str) -> None:
    ax.set_yticks(range(len(names)))
    for label, name in zip(ax.set_yticklabels(names), names, strict=True):
        label.set(text=name, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("log p(x | type, own batch) / p(x | type)  [nats]\nlower is better: 0 where batches are mixed")
    ax.set_ylabel(groupby, parse_math=False)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _draw_legend(ax: Axes, reps: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(color=COLOURS[j % len(COLOURS)], alpha=0.55, label=f"{rep}, 95 % of the cells")
        for j, rep in enumerate(reps)
    ]
    information = Line2D(
        [],
        [],
        color=ink(),
        marker="o",
        markersize=4,
        markerfacecolor=ax.get_facecolor(),
        label="information, 95 % interval",
    )
    apart = Line2D(
        [],
        [],
        color=ink(),
        alpha=0.8,
        marker="|",
        markersize=9,
        markeredgewidth=2,
        linestyle="",
        label="maximum of the mean",
    )
    legend = ax.legend(
        handles=[*handles, information, apart],
        # to the left there are names to stand above, to the right a long legend would leave the figure
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        **LEGEND_STYLE,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
