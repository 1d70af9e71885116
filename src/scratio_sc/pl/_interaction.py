"""Combinations of treatments against the sum of both."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from scratio_sc.pl._entry import entry_of, names_of
from scratio_sc.pl._figure import EXTRAPOLATED, LEGEND_STYLE, LETTER, finish, panels, plot, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MORE, LESS, UNCLEAR = "#D55E00", "#0072B2", "0.5"
PALE = 0.4
ROW, WIDTH, HEIGHT = 0.42, 4.2, 1.5
"""Inches: a row, the panel without names, and what stands above and below it."""
LINE_WIDTH = 50
LONGEST_NAME = 40
CLEAR = 1.96
POINT: dict[str, Any] = {"marker": "o", "markersize": 5}


@plot()
def interaction(
    adata: AnnData,
    keys: str | Sequence[str] = "interaction",
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw interactions: their distribution over the cells of each combination, with mean and interval.

    Right of 0 the combination makes its cells more likely than the sum of both treatments says (orange), left of it
    less likely (blue); grey where the 95 % interval of the mean reaches 0. Hollow where the summary is flagged as
    extrapolated: its size is no evidence. Combinations are sorted by their mean.

    Parameters
    ----------
    adata
        Reads `adata.uns[key]['summary']` (nats) and the sides in `adata.uns[key]['params']`, for each of the keys.
    keys
        Names of interactions, one for each combination.
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
        If there is no interaction of that name.
    TypeError
        If an argument is of another type than documented, or one of scanpy's that this plot does not have, such as
        `save`.
    ValueError
        If `keys` is empty.

    Examples
    --------
    >>> import numpy as np, pandas as pd, scratio_sc as scratio
    >>> from anndata import AnnData
    >>> means = {"none": (0, 0), "A": (1, 0), "B": (0, 1), "A+B": (2, 1)}
    >>> condition = np.repeat(list(means), 200)
    >>> x = np.random.default_rng(0).normal([means[c] for c in condition])
    >>> adata = AnnData(obs=pd.DataFrame({"condition": condition}).rename(str), obsm={"X_pca": x})
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.interaction(adata, a="A", b="B", reference="none", progress=False)
    >>> axes = scratio.pl.interaction(adata, show=False)
    """
    keys = names_of(keys, "interaction in `adata.uns`")
    call = "`scratio.tl.interaction(adata, a=..., b=..., reference=...)`"
    entries = sorted((entry_of(adata, key, "interaction", of=["interaction"], call=call) for key in keys), key=_mean)
    names = [_name(entry, entries) for entry in entries]
    size = (WIDTH + LETTER * max(map(len, names)), ROW * len(entries) + HEIGHT)
    with panels(1, ax=ax, panel_size=size) as axes:
        panel = axes[0]
        panel.axvline(0, color="0.6", linestyle="--", linewidth=1, zorder=0)
        for y, entry in enumerate(entries):
            _draw(panel, y, entry["summary"])
        panel.set_yticks(range(len(entries)), names, parse_math=False)
        panel.set_ylim(-0.6, len(entries) - 0.4)
        panel.set_xlabel(_label(entries), parse_math=False)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
        _draw_legend(panel, extrapolated=any(_extrapolated(entry["summary"]) for entry in entries))
    return finish(axes, show=show, return_fig=return_fig)


def _label(entries: Sequence[Any]) -> str:
    """What is drawn, by its names where there is one combination."""
    what = "log ratio minus the sum of both treatments"
    if len(entries) == 1:
        names = [str(entries[0]["params"][side]) for side in ("combination", "a", "b")]
        what = "log ratio of {} minus the sum of {} and {}".format(*shortened(names, LONGEST_NAME))
    return f"interaction in cells of the combination  [nats]\n{fill(what, LINE_WIDTH)}"


def _mean(entry: Any) -> float:
    return float(np.nan_to_num(entry["summary"]["interaction"], nan=-np.inf))


def _name(entry: Any, entries: Sequence[Any]) -> str:
    """Name of the combination; with both treatments where that alone does not tell it apart."""
    params = entry["params"]
    names = [other["params"]["combination"] for other in entries]
    name = str(params["combination"])
    return name if names.count(name) == 1 else f"{name} ({params['a']}, {params['b']})"


def _extrapolated(summary: Any) -> bool:
    return bool(summary["flag"] == "extrapolated")


def _draw(panel: Axes, y: int, summary: Any) -> None:
    mean, half = summary["interaction"], CLEAR * summary["interaction_se"]
    if not np.isfinite(mean):
        panel.annotate(
            summary["flag"],
            (0, y),
            xytext=(4, 0),
            textcoords="offset points",
            color=UNCLEAR,
            va="center",
            fontsize="small",
        )
        return
    low, lower, _, upper, high = np.asarray(summary["quantiles"])
    colour = UNCLEAR if abs(mean) <= half or not np.isfinite(half) else MORE if mean > 0 else LESS
    panel.plot([low, high], [y, y], color=colour, alpha=PALE, linewidth=4, solid_capstyle="butt")
    panel.plot([lower, upper], [y, y], color=colour, alpha=PALE, linewidth=13, solid_capstyle="butt")
    face = panel.get_facecolor() if _extrapolated(summary) else colour
    interval = np.nan_to_num(half)
    panel.errorbar(mean, y, xerr=interval, color=colour, markerfacecolor=face, **POINT, capsize=3, linewidth=1.5)


def _draw_legend(panel: Axes, *, extrapolated: bool) -> None:
    panel.errorbar([], [], xerr=[], color=UNCLEAR, **POINT, capsize=3, label="mean, 95 % interval")
    panel.plot([], [], color=UNCLEAR, alpha=PALE, linewidth=8, solid_capstyle="butt", label="half of the cells")
    panel.plot([], [], color=UNCLEAR, alpha=PALE, linewidth=3, solid_capstyle="butt", label="90 % of the cells")
    if extrapolated:
        panel.plot([], [], color=UNCLEAR, linestyle="", markerfacecolor="none", label=EXTRAPOLATED, **POINT)
    panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, **LEGEND_STYLE)
