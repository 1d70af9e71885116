"""Differential abundance by cell type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scratio_sc._keys import ALL_CELLS, AbundanceKeys
from scratio_sc._labels import MIN_CELLS, check_groups, read_labels
from scratio_sc.pl._contrast import contrast_of, density_ratio
from scratio_sc.pl._entry import check_columns, entry_of
from scratio_sc.pl._figure import EXTRAPOLATED, LEGEND_STYLE, LETTER, finish, ink, panels, plot, ring, shortened
from scratio_sc.pl._point_names import name_points

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNTESTED = "untested"
COLOURS = {UNTESTED: "0.75", "none": "0.75", "down": "#2166AC", "up": "#B2182B"}
BINS = 60
WIDEST = 0.42
RASTERISE_ABOVE = 5_000
LINE_WIDTH = 44
"""Letters of a label below a panel."""
LONGEST_NAME = 30
WIDTH = 3.9
"""Inches: a panel, without the names of groups."""


@dataclass(frozen=True)
class _Cells:
    """Log ratio, change and group of cells, and whether the ratio is extrapolated, ``(n_cells,)`` each."""

    ratio: np.ndarray
    change: np.ndarray
    groups: np.ndarray
    far: np.ndarray

    @classmethod
    def of(cls, adata: AnnData, key: str, groupby: str | None) -> _Cells:
        """Cells of both sides that have a ratio and a group; all are of one where there is no column of groups."""
        keys, groups, known = AbundanceKeys(key), np.full(adata.n_obs, ALL_CELLS), np.ones(adata.n_obs, bool)
        if groupby is not None:
            labels = read_labels(adata, (groupby,), instead=" Name another with `groupby`.")
            check_groups(labels)
            groups, known = labels.text[:, 0], labels.complete
        ratio = adata.obs[keys.obs].to_numpy(float)
        there = adata.obs[keys.side].notna().to_numpy() & np.isfinite(ratio) & known
        columns = adata.obs[keys.change].astype(object).fillna(UNTESTED), groups, adata.obs[keys.ratio.extrapolated]
        return cls(ratio[there], *(np.asarray(column)[there] for column in columns))


@plot()
def differential_abundance(
    adata: AnnData,
    key: str = "differential_abundance",
    *,
    groupby: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw the log ratios of the cells of each group, and beside them how sure the groups' changes are.

    Left, the cells of both sides by their log ratio, and its median, groups of fewer than 20 cells at the bottom. Cells
    are coloured by what their neighbourhoods say, which hold cells of other groups, too, so that a group may have such
    cells and not be significant itself. Extrapolated cells are rings, of which the sign alone is evidence. Right, where
    there are p-values by sample, the same groups: change of their share against its adjusted p-value. Where points are
    too close, some are not named.

    Parameters
    ----------
    adata
        Reads `adata.uns[key]` and, in `adata.obs`, the log ratios (nats) in `key`, what
        :func:`scratio_sc.tl.differential_abundance` says of the cells in `key + '_change'`, `key + '_side'` and
        `key + '_extrapolated'`, and the column with the groups.
    key
        Name of the analysis.
    groupby
        Column of `adata.obs` with the groups, by default that of the analysis; all cells in one row if there is none.
        Of another column the groups have no p-values, and the cells alone are drawn.
    ax
        Axes for the cells; the groups are left out then. `layout="constrained"` of its figure makes room for legends
        and labels.
    show
        Whether to show the figure; by default as `scanpy.settings.autoshow` says.
    return_fig
        Whether to return the figure, on which `savefig` saves it.

    Returns
    -------
    The figure if `return_fig`; else `None` if it is shown; else the axes, as a list if there are two panels.
    `adata` is not changed.

    Raises
    ------
    KeyError
        If there is no analysis of that name, or a column of it or that with the groups is not in `adata.obs`.
    TypeError
        If an argument is of another type than documented, or one of scanpy's that this plot does not have, such as
        `save`.
    ValueError
        If the column has too many groups, an empty name of one, or no labels at all.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.differential_abundance(adata, target="target", reference="reference", progress=False)
    >>> axes = scratio.pl.differential_abundance(adata, show=False)
    """
    call = "`scratio.tl.differential_abundance(adata, target=..., reference=...)`"
    entry = entry_of(adata, key, "differential abundance", of=["differential_abundance"], call=call)
    keys = AbundanceKeys(key)
    columns = [keys.obs, keys.change, keys.side, keys.ratio.extrapolated]
    check_columns(adata, columns, key=key, function="differential_abundance")
    table = entry.get("groups")
    cells = _Cells.of(adata, key, groupby or entry["params"].get("groupby") or None)
    names = {*cells.groups}
    if table is not None:  # of which a view may hold but some groups
        table = table[table["group"].isin(names) & table["pvalue"].notna()]
    tested = table is not None and len(table) and groupby in (None, entry["params"]["groupby"]) and ax is None
    n_panels = 2 if tested else 1
    beside = LETTER * min(max(map(len, names), default=0), LONGEST_NAME)
    size = WIDTH + beside / n_panels, max(2.6, 1.2 + 0.36 * len(names))
    with panels(n_panels, ax=ax, panel_size=size, ncols=2) as axes:
        _draw_cells(axes[0], cells)
        _explain(axes[0], cells, entry["params"])
        axes[0].set_xlabel(density_ratio([contrast_of(adata, key)], width=LINE_WIDTH), parse_math=False)
        if tested:
            _draw_groups(axes[1], table, float(entry["params"]["alpha"]))
    return finish(axes, show=show, return_fig=return_fig)


def _draw_cells(ax: Axes, cells: _Cells) -> None:
    """A row of cells for each group, ordered by median, each as wide as there are cells of that ratio."""
    ratio, change, groups = cells.ratio, cells.change, cells.groups
    names = _sorted(cells)
    edges = np.linspace(ratio.min(initial=0), ratio.max(initial=0), BINS + 1)
    size = float(np.clip(20_000 / max(len(ratio), 1), 1.5, 16))
    for row, name in enumerate(names):
        mine = np.flatnonzero(groups == name)
        y = row + _spread(ratio[mine], edges)
        for what, colour in COLOURS.items():
            for far, style in ((False, _point(colour, size)), (True, _ring(colour, size))):
                which = (change[mine] == what) & (cells.far[mine] == far)
                ax.scatter(ratio[mine][which], y[which], rasterized=len(ratio) > RASTERISE_ABOVE, **style)
        ax.plot(2 * [np.median(ratio[mine])], [row - WIDEST, row + WIDEST], color=ink(), linewidth=1)
    ax.axvline(0, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    ax.set_yticks(range(len(names)))
    ax.set_yticklabels(shortened(names, LONGEST_NAME), parse_math=False)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.locator_params(axis="x", nbins=6)
    ax.spines[["top", "right"]].set_visible(False)


def _sorted(cells: _Cells) -> list[str]:
    """Names of groups by their median, from below; those of few cells, whose median says little, first."""
    of_group = {name: cells.ratio[cells.groups == name] for name in sorted({*cells.groups})}
    return sorted(of_group, key=lambda name: (len(of_group[name]) >= MIN_CELLS, float(np.median(of_group[name]))))


def _point(colour: str, size: float) -> dict[str, Any]:
    return {"s": size, "color": colour, "linewidths": 0}


def _ring(colour: str, size: float) -> dict[str, Any]:
    return {**ring(size), "facecolors": "white", "edgecolors": colour}


def _explain(ax: Axes, cells: _Cells, params: Mapping[str, Any]) -> None:
    """Colours, all of them where cells were tested, and rings, above the panel."""
    labels = {"down": "its neighbourhood is down", "up": "its neighbourhood is up"}
    labels["none"] = f"no clear change, FDR {params['alpha']:g}"
    if (cells.change != UNTESTED).any():
        for what, label in labels.items():
            ax.scatter([], [], label=label, **_point(COLOURS[what], 16))
    if cells.far.any():
        ax.scatter([], [], label=EXTRAPOLATED, **_ring("0.5", 16))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            # to the left there are names to stand above, to the right it would push the other panel away
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            borderpad=0,
            **{**LEGEND_STYLE, "handletextpad": 0},
        )


def _spread(ratio: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Offsets within +-`WIDEST`, evenly over the cells of a bin, in proportion to their number."""
    bin_of = np.clip(np.searchsorted(edges, ratio, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(bin_of, minlength=len(edges) - 1)
    # neighbours in the bin get places far apart, so that a row has no pattern
    place = np.empty(len(ratio))
    for b in np.flatnonzero(count):
        cells = np.flatnonzero(bin_of == b)
        place[cells] = (np.arange(len(cells)) * 0.6180339887 + 0.5) % 1
    offsets: np.ndarray = (2 * place - 1) * WIDEST * (count / max(count.max(initial=1), 1))[bin_of]
    return offsets


def _draw_groups(ax: Axes, table: pd.DataFrame, alpha: float) -> None:
    """Change of each group's share against its adjusted p-value."""
    effect, fdr = table["log_fold_change"].to_numpy(float), table["fdr"].to_numpy(float)
    height = -np.log10(fdr)
    significant = fdr <= alpha
    colour = np.select([significant & (effect > 0), significant], [COLOURS["up"], COLOURS["down"]], "0.6")
    ax.scatter(effect, height, s=36, c=colour, linewidths=0)
    ax.axhline(-np.log10(alpha), color="0.4", linewidth=0.8, linestyle="--")
    ax.axvline(0, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    ax.annotate(f"FDR {alpha:g}", (1, -np.log10(alpha)), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    ax.margins(0.25, 0.12)
    top = max(height.max(initial=0), -np.log10(alpha))
    _, high = ax.set_ylim(-0.2 * top, 1.15 * top)
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= high])
    ax.set_xlabel("log fold change of the share  [nats]")
    ax.set_ylabel("-log10 adjusted p-value\nby sample", parse_math=False)
    ax.locator_params(axis="x", nbins=5)
    ax.spines[["top", "right"]].set_visible(False)
    name_points(ax, np.column_stack([effect, height]), table["group"].astype(str).tolist(), first=significant)
