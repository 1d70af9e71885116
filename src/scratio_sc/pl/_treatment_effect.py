"""Dot plot of treatment effects."""

from __future__ import annotations

import re
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scratio_sc._effects import ALL
from scratio_sc._keys import ALL_CELLS
from scratio_sc._numbers import rounded
from scratio_sc.flow._gain import CLEARLY
from scratio_sc.pl._entry import entry_of
from scratio_sc.pl._figure import LEGEND_STYLE, LETTER, finish, ink, panels, plot, shortened

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    Axis = Literal["group", "sample", "target"]

AXES = ("target", "group", "sample")
LABELS = {
    "js": "JS divergence\nfrom {}  [nats]",
    "kl_target": "KL(target || {})  [nats]",
    "kl_reference": "KL({} || target)  [nats]",
}
CUTS = (CLEARLY, 5.0)
SIZES = {f"under {CUTS[0]}": 20.0, f"{CUTS[0]} to 5": 75.0, "over 5": 170.0}
CELL = 0.34
LEAST, ERRORS = 0.05, 2.0
"""Effect that the colours reach to at least: nats, and standard errors, the median one."""
LONGEST_NAME = 40
SMALL_LETTER = 0.057
BAR = (1.5, 2.4)
LEGEND = 1.3
"""Inches: a row or column, a letter beside the colour bar, the shortest and longest bar, and the legend below it."""
WITHOUT = {"few cells": "too few cells", "one side only": "one side only", "confounded": "confounded"}
"""What a cross stands for, by the flag of its row."""


@plot()
def treatment_effect(
    adata: AnnData,
    key: str = "treatment_effect",
    *,
    rows: Literal["group", "sample", "target"] | None = None,
    columns: Literal["group", "sample", "target"] | None = None,
    effect: Literal["js", "kl_target", "kl_reference"] = "js",
    cmap: str | Colormap = "viridis",
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw a dot for each treatment and cell type, or donor.

    The colour is the effect, the size says by how many of its standard errors it exceeds 0; where that is 1.645 for the
    JS divergence, the treatment ``responds``. A rim marks effects that rest on extrapolation, a cross an effect that
    could not be measured (column ``flag``, or no row, where there are no cells at all). Treatments, types and donors
    with large effects come first; treatments that are numbers, such as doses, are in their own order. The colours reach
    to the largest effect, and to twice the median standard error at least; KL divergences that rest on extrapolation do
    not stretch them unless all do.

    Parameters
    ----------
    adata
        Reads `adata.uns[key]['table']` and the reference in `adata.uns[key]['params']`.
    key
        Name of the treatment effects.
    rows, columns
        What the rows and columns are: "group" (cell types), "sample" (donors) or "target" (treatments). By default
        groups stand beside treatments, samples where there are samples alone; treatments are the columns, and the rows
        where there is nothing beside them. Of groups and samples that are neither, all together are drawn.
    effect
        "js", "kl_target" or "kl_reference", in nats.
    cmap
        Sequential colour map.
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
        If there are no treatment effects of that name.
    TypeError
        If an argument is of another type than documented, or one of scanpy's that this plot does not have, such as
        `save`.
    ValueError
        If rows and columns are the same or unknown, the effect is unknown, or there are several treatments and neither
        rows nor columns show them.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.cell_mixture(1_500, n_dims=5, n_types=3)
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.treatment_effect(adata, reference="ctrl", groupby="cell_type", progress=False)
    >>> axes = scratio.pl.treatment_effect(adata, show=False)
    """
    call = "`scratio.tl.treatment_effect(adata, reference=...)`"
    entry = entry_of(adata, key, "treatment effects", of=["treatment_effect"], call=call)
    if effect not in LABELS:
        msg = f"effect={effect!r} is unknown. Use one of {', '.join(map(repr, LABELS))}."
        raise ValueError(msg)
    rows, columns = _usual_axes(entry["table"], rows, columns)
    table = _drawn(entry["table"], rows, columns)
    names = {axis: _sorted(table, axis, effect) for axis in (rows, columns)}
    labels = {axis: _called(own) for axis, own in names.items()}
    longest = [LETTER * max(map(len, labels[axis])) for axis in (columns, rows)]
    height = max(CELL * len(names[rows]), BAR[0] + LEGEND)
    size = (CELL * len(names[columns]) + longest[1] + 2.2, height + longest[0] + 0.4)
    with panels(1, ax=ax, panel_size=size) as axes:
        panel = axes[0]
        x, y = (table[axis].map(names[axis].index).to_numpy() for axis in (columns, rows))
        points = _draw(panel, table, np.column_stack([x, y]), effect=effect, cmap=cmap)
        _decorate(panel, labels[rows], labels[columns])
        length = float(np.clip(height - LEGEND, *BAR))
        bar = panel.figure.colorbar(
            points,
            ax=panel,
            shrink=length / height,
            aspect=length / 0.13,
            pad=0.03,
            anchor=(0.0, 1.0),
            extend="max" if (points.get_array() > points.norm.vmax).any() else "neither",
        )
        label = _label(effect, rounded(str(entry["params"]["reference"])), width=int(length / SMALL_LETTER))
        bar.set_label(label, parse_math=False, fontsize="small")
        _draw_legend(bar.ax, table, effect)
    return finish(axes, show=show, return_fig=return_fig)


def _label(effect: str, reference: str, *, width: int) -> str:
    """Label of the colour bar in lines of so many letters; a long name of the reference is shortened."""
    (name,) = shortened([reference], width - len("KL( ||"))
    label = LABELS[effect].format(name)
    return "\n".join(fill(line, width) for line in label.split("\n"))


def _usual_axes(table: pd.DataFrame, rows: Axis | None, columns: Axis | None) -> tuple[Axis, Axis]:
    """What rows and columns are where nobody says."""
    groups, samples = ((table[axis] != ALL).any() for axis in ("group", "sample"))
    beside: Axis = "sample" if samples and not groups else "group"
    if columns is None:
        columns = beside if rows == "target" or not (rows or groups or samples) else "target"
    if rows is None:
        of_one = columns == "sample" and groups and len(set(table["target"])) == 1
        rows = beside if columns == "target" or of_one else "target"
    return rows, columns


def _drawn(table: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """Rows of the table to draw."""
    if rows not in AXES or columns not in AXES or rows == columns:
        msg = f"rows={rows!r}, columns={columns!r}: expected two different ones of {', '.join(map(repr, AXES))}."
        raise ValueError(msg)
    targets = sorted(set(table["target"]))
    if "target" not in (rows, columns) and len(targets) > 1:
        msg = (
            f"There are {len(targets)} treatments ({', '.join(map(repr, targets[:5]))} ...): make them the rows or the "
            "columns, with rows='target' or columns='target'."
        )
        raise ValueError(msg)
    kept = np.ones(len(table), bool)
    for axis in ("group", "sample"):
        of_all = (table[axis] == ALL).to_numpy()
        if axis not in (rows, columns):
            kept &= of_all
        elif not of_all.all():
            kept &= ~of_all
    return _completed(table[kept], rows, columns)


def _completed(table: pd.DataFrame, rows: str, columns: str) -> pd.DataFrame:
    """The table with a row for each combination; those that lack one have no cells at all, and thus too few."""
    every = pd.MultiIndex.from_product([table[axis].unique() for axis in (rows, columns)], names=[rows, columns])
    return table.set_index([rows, columns]).reindex(every).reset_index().fillna({"flag": "few cells"})


def _sorted(table: pd.DataFrame, axis: str, effect: str) -> list[str]:
    """Names on an axis, largest mean effect first, those without any last, by the numbers in their names.

    Treatments that are numbers, such as doses, in their own order.
    """
    mean = table.groupby(axis, observed=True)[effect].mean()
    if axis == "target" and (numbers := pd.to_numeric(mean.index.to_series(), errors="coerce")).notna().all():
        return list(numbers.sort_values().index)
    mean = mean.loc[sorted(mean.index, key=_parts)]
    return list(mean.sort_values(ascending=False, kind="stable", na_position="last").index)


def _parts(name: str) -> list[tuple[str, int]]:
    """Text and numbers that follow each other in a name, as a key that sorts 2 before 11."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def _called(names: list[str]) -> list[str]:
    """Labels of rows or columns."""
    whole = [ALL_CELLS if name == ALL else name for name in names]
    short = [rounded(name) for name in whole]
    return shortened(short if len({*short}) == len({*whole}) else whole, LONGEST_NAME)


def _draw(panel: Axes, table: pd.DataFrame, xy: np.ndarray, *, effect: str, cmap: Any) -> Any:
    value = table[effect].to_numpy(np.float64)
    known = np.isfinite(value)
    error = table[effect + "_se"].to_numpy(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        certainty = np.nan_to_num(value / error, posinf=np.inf)
    size = np.array([*SIZES.values()])[np.digitize(certainty, CUTS)]
    edges = [ink() if flag == "extrapolated" else "none" for flag in table["flag"][known]]
    # of an extrapolated effect only the JS divergence, a bound, says how large it is
    sized = known & (table["flag"] != "extrapolated").to_numpy() if effect != "js" else known
    sized = sized if sized.any() else known
    noise = float(np.nan_to_num(np.median(error[sized]))) if sized.any() else 0.0
    top = max(float(value[sized].max(initial=0)), LEAST, ERRORS * noise)
    x, y = xy.T
    panel.scatter(x[~known], y[~known], marker="x", s=25, color="0.6", linewidths=1)
    return panel.scatter(
        x[known],
        y[known],
        c=np.maximum(value[known], 0),
        s=size[known],
        cmap=cmap,
        vmin=0,
        vmax=top,
        edgecolors=edges,
        linewidths=1.2,
    )


def _decorate(panel: Axes, rows: list[str], columns: list[str]) -> None:
    panel.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
    panel.set_yticks(range(len(rows)), rows, parse_math=False)
    panel.set_xlim(-0.6, len(columns) - 0.4)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.tick_params(length=0)
    panel.set_axisbelow(True)
    panel.grid(color="0.5", alpha=0.15)
    panel.spines[:].set_color("0.7")


def _draw_legend(bar: Axes, table: pd.DataFrame, effect: str) -> None:
    """Explain the points, below the colour bar."""
    from matplotlib.lines import Line2D

    def handle(label: str, size: float, **style: Any) -> Any:
        return Line2D([], [], label=label, linestyle="", markersize=np.sqrt(size), **{"marker": "o", **style})

    handles = [handle(name, size, color="0.5", markeredgewidth=0) for name, size in SIZES.items()]
    if (table["flag"] == "extrapolated").any():
        handles.append(handle("extrapolated", 75, markerfacecolor="none", markeredgecolor=ink(), markeredgewidth=1.2))
    without = [name for flag, name in WITHOUT.items() if flag in set(table["flag"][table[effect].isna()])]
    if without:
        handles.append(handle(" or\n".join(without), 25, color="0.6", marker="x", markeredgewidth=1))
    bar.legend(
        handles=handles,
        title="effect / standard error",
        loc="upper left",
        bbox_to_anchor=(0, 0),
        borderaxespad=1.2,
        borderpad=0,
        title_fontsize="small",
        alignment="left",
        **LEGEND_STYLE,
    )
