"""Differential abundance by cell type."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from scratio_sc._keys import AbundanceKeys
from scratio_sc._labels import check_groups, read_labels

from ._figure import EXTRAPOLATED, finish, ink, panels, plot, ring

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"none": "0.75", "down": "#2166AC", "up": "#B2182B"}
_BINS = 60
_WIDEST = 0.42
_LINE = 1.2
"""Height of a line, in units of the font size."""
_SIDES = [
    ("center", "bottom", (0, 1)),
    ("center", "top", (0, -1)),
    ("left", "center", (1, 0)),
    ("right", "center", (-1, 0)),
    ("left", "bottom", (0.7, 0.7)),
    ("right", "bottom", (-0.7, 0.7)),
    ("left", "top", (0.7, -0.7)),
    ("right", "top", (-0.7, -0.7)),
    ("left", "bottom", (0, 1)),
    ("right", "bottom", (0, 1)),
    ("left", "top", (0, -1)),
    ("right", "top", (0, -1)),
]
"""On which side of its point a name may stand, the best first: alignment, and direction."""
_DISTANCES = (5, 14, 24, 36, 50, 66, 84)
"""How far from it, in points, the best first; from the second on, a line leads there."""
_CLEAR = 6
"""Half the side of the square about a point, in points, that no other name may enter."""
_SHARES = {"left": 0, "bottom": 0, "center": 0.5, "right": 1, "top": 1}
_RASTERISE_ABOVE = 5_000
_LINE_WIDTH = 44
"""Letters of a label below a panel."""


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
        keys, groups, known = AbundanceKeys(key), np.full(adata.n_obs, "all cells"), np.ones(adata.n_obs, bool)
        if groupby is not None:
            labels = read_labels(adata, (groupby,), instead=" Name another with `groupby`.")
            check_groups(labels)
            groups, known = labels.text[:, 0], labels.complete
        ratio = adata.obs[keys.obs].to_numpy(float)
        there = adata.obs[keys.side].notna().to_numpy() & np.isfinite(ratio) & known
        columns = adata.obs[keys.change], groups, adata.obs[keys.ratio.extrapolated]
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

    Left, the cells of both sides by their log ratio, and its median: cells in significantly changed neighbourhoods are
    coloured, extrapolated ones are rings, of which the sign alone is evidence. Right, where there are p-values by
    sample, the groups: change of their share against its adjusted p-value.

    Parameters
    ----------
    adata
        Reads what :func:`scratio_sc.tl.differential_abundance` wrote.
    key
        Name of its slots.
    groupby
        Column of `adata.obs` with the groups, by default that of the analysis; all cells in one row if there is none.
        Of another column the groups have no p-values, and the cells alone are drawn.
    ax
        Axes for the cells; the groups are left out then.
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
        If there is no such analysis, or no such column.
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
    entry = adata.uns.get(key, {})
    keys = AbundanceKeys(key)
    if not {keys.obs, keys.change, keys.side, keys.ratio.extrapolated} <= {*adata.obs} or "params" not in entry:
        msg = (
            f"No differential abundance {key!r} in `adata.obs` and `adata.uns`. "
            "Run `scratio.tl.differential_abundance(adata, target=..., reference=...)` first."
        )
        raise KeyError(msg)
    table = entry.get("groups")
    tested = table is not None and table["pvalue"].notna().any()
    tested = tested and groupby in (None, entry["params"]["groupby"]) and ax is None
    cells = _Cells.of(adata, key, groupby or entry["params"].get("groupby") or None)
    n_rows = len(set(cells.groups))
    with panels(2 if tested else 1, ax=ax, panel_size=(4.6, max(2.6, 1.2 + 0.36 * n_rows)), ncols=2) as axes:
        _draw_cells(axes[0], cells)
        _name_ratio(axes[0], entry["params"])
        if tested:
            _draw_groups(axes[1], table, float(entry["params"]["alpha"]))
    return finish(axes, show=show, return_fig=return_fig)


def _draw_cells(ax: Axes, cells: _Cells) -> None:
    """A row of cells for each group, ordered by median, each as wide as there are cells of that ratio."""
    ratio, change, groups = cells.ratio, cells.change, cells.groups
    names = sorted(set(groups), key=lambda name: float(np.median(ratio[groups == name])))
    edges = np.linspace(ratio.min(initial=0), ratio.max(initial=0), _BINS + 1)
    size = float(np.clip(20_000 / max(len(ratio), 1), 1.5, 16))
    for row, name in enumerate(names):
        mine = np.flatnonzero(groups == name)
        y = row + _spread(ratio[mine], edges)
        for what, colour in _COLOURS.items():
            for far, style in ((False, _point(colour, size)), (True, _ring(colour, size))):
                which = (change[mine] == what) & (cells.far[mine] == far)
                ax.scatter(ratio[mine][which], y[which], rasterized=len(ratio) > _RASTERISE_ABOVE, **style)
        ax.plot(2 * [np.median(ratio[mine])], [row - _WIDEST, row + _WIDEST], color=ink(), linewidth=1)
    ax.axvline(0, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    ax.set_yticks(range(len(names)))
    ax.set_yticklabels(names, parse_math=False)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.spines[["top", "right"]].set_visible(False)
    _explain(ax, cells)


def _point(colour: str, size: float) -> dict[str, Any]:
    return {"s": size, "color": colour, "linewidths": 0}


def _ring(colour: str, size: float) -> dict[str, Any]:
    return {**ring(size), "facecolors": "white", "edgecolors": colour}


def _explain(ax: Axes, cells: _Cells) -> None:
    """Colours and rings, above the panel."""
    for what in ("down", "up"):
        if (cells.change == what).any():
            ax.scatter([], [], label=f"significantly {what}", **_point(_COLOURS[what], 16))
    if cells.far.any():
        ax.scatter([], [], label=EXTRAPOLATED, **_ring("0.5", 16))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            fontsize="small",
            frameon=False,
            handletextpad=0,
            borderpad=0,
        )


def _spread(ratio: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Offsets within +-`_WIDEST`, evenly over the cells of a bin, in proportion to their number."""
    bin_of = np.clip(np.searchsorted(edges, ratio, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(bin_of, minlength=len(edges) - 1)
    # neighbours in the bin get places far apart, so that a row has no pattern
    place = np.empty(len(ratio))
    for b in np.flatnonzero(count):
        cells = np.flatnonzero(bin_of == b)
        place[cells] = (np.arange(len(cells)) * 0.6180339887 + 0.5) % 1
    offsets: np.ndarray = (2 * place - 1) * _WIDEST * (count / max(count.max(initial=1), 1))[bin_of]
    return offsets


def _name_ratio(ax: Axes, params: Mapping[str, Any]) -> None:
    label = f"log p({params['target']}) / p({params['reference']})  [nats]"
    ax.set_xlabel(fill(label, _LINE_WIDTH), parse_math=False)


def _draw_groups(ax: Axes, table: pd.DataFrame, alpha: float) -> None:
    """Change of each group's share against its adjusted p-value."""
    effect, fdr = table["log_fold_change"].to_numpy(float), table["fdr"].to_numpy(float)
    height = -np.log10(fdr)
    significant = fdr <= alpha
    colour = np.select([significant & (effect > 0), significant], [_COLOURS["up"], _COLOURS["down"]], "0.6")
    ax.scatter(effect, height, s=36, c=colour, linewidths=0)
    ax.axhline(-np.log10(alpha), color="0.4", linewidth=0.8, linestyle="--")
    ax.axvline(0, color="0.4", linewidth=0.8, linestyle="--", zorder=0)
    ax.annotate(f"FDR {alpha:g}", (1, -np.log10(alpha)), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    ax.margins(0.25, 0.12)
    top = max(height.max(initial=0), -np.log10(alpha))
    ax.set_ylim(-0.12 * top, 1.15 * top)
    ax.set_xlabel("log fold change of the share of cells  [nats]")
    ax.set_ylabel("-log10 adjusted p-value\nby sample", parse_math=False)
    ax.locator_params(axis="x", nbins=5)
    ax.spines[["top", "right"]].set_visible(False)
    _name_points(ax, np.column_stack([effect, height]), table["group"].astype(str).tolist())


def _name_points(ax: Axes, xy: np.ndarray, names: list[str]) -> None:
    """Names beside points, the most significant and largest first, where they cover no name and keep off other points.

    Nor does the line that leads to a name pass another point.
    """
    from matplotlib.font_manager import FontProperties

    ax.figure.figure.draw_without_rendering()  # before that, the axes do not have their size
    size = FontProperties(size="small").get_size_in_points()
    to_points = 72 / ax.figure.dpi
    at = ax.transData.transform(xy) * to_points
    panel = np.array(ax.bbox.extents) * to_points
    points = [np.concatenate([point - _CLEAR, point + _CLEAR]) for point in at]
    taken: list[np.ndarray] = []
    for i in np.lexsort((-np.abs(xy[:, 0]), -xy[:, 1])):
        extent = np.array([_width(names[i], size), _LINE * size])
        others = [*taken, *points[:i], *points[i + 1 :]]
        for distance, (across, along, direction) in product(_DISTANCES, _SIDES):
            offset = distance * np.array(direction)
            low = at[i] + offset - np.array([_SHARES[across], _SHARES[along]]) * extent
            box = np.concatenate([low, low + extent])
            if (low < panel[:2]).any() or (box[2:] > panel[2:]).any() or any(_overlap(box, other) for other in others):
                continue
            if any(_passes(at[i], at[i] + offset, other) for other in np.delete(at, i, axis=0)):
                continue
            taken.append(box)
            line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            line["relpos"] = _SHARES[across], _SHARES[along]
            ax.annotate(
                names[i],
                tuple(xy[i]),
                xytext=tuple(offset),
                textcoords="offset points",
                ha=across,
                va=along,
                arrowprops=line if distance > _DISTANCES[0] else None,
                fontsize="small",
                parse_math=False,
            )
            break


def _width(name: str, size: float) -> float:
    """Width of a name in points."""
    from matplotlib.textpath import TextPath

    if not name.strip():
        return 0.0
    return float(TextPath((0, 0), name.replace("$", r"\$"), size=size).get_extents().width)


def _passes(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> bool:
    """Whether a line comes closer to a point than `_CLEAR`, and than it starts."""
    along = end - start
    share = np.clip((point - start) @ along / (along @ along), 0, 1)
    least = min(_CLEAR, float(np.linalg.norm(start - point)))
    return bool(np.linalg.norm(start + share * along - point) < least)


def _overlap(box: np.ndarray, other: np.ndarray) -> bool:
    """Whether two boxes (left, bottom, right, top) share area."""
    return bool((box[:2] < other[2:]).all() and (other[:2] < box[2:]).all())
