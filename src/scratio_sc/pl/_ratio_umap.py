"""Log ratios on an embedding."""

from __future__ import annotations

import re
from inspect import signature
from math import ceil
from numbers import Real
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from scratio_sc._embedding import dense
from scratio_sc._keys import RatioKeys
from scratio_sc.flow._arguments import check_integer, named, refuse
from scratio_sc.pl._contrast import LINE_WIDTH, LONGEST_NAME, contrast_of, density_ratio, of_no_side
from scratio_sc.pl._entry import names_of, refuse_unsigned
from scratio_sc.pl._figure import EXTRAPOLATED, RING, finish, panels, plot, ring, shortened
from scratio_sc.pl._panel_titles import titles_of, wrap_titles
from scratio_sc.pl._scatter_style import scatter_style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from scratio_sc.pl._contrast import Contrast

AXIS_NAMES = {"umap": "UMAP", "tsne": "tSNE", "pca": "PC"}
MAKE_BASIS = {"umap": "sc.tl.umap(adata)", "tsne": "sc.tl.tsne(adata)", "pca": "sc.pp.pca(adata)"}
NO_SIGN = "0.65"
"""Colour of rings that say nothing."""
OTHERS = "extrapolated, of other conditions"
RASTERISE_ABOVE = 50_000
LARGEST_POINT = 30.0
LEAST = 0.25
"""Absolute ratio, in nats, that the colours reach to at least where nobody says how far."""
PANEL = (4.2, 3.8)
LINE = 1.4
"""Height of a line, in font sizes."""
LIMITS = "give the largest absolute ratio as `vmax`: the colours are centred at 0, with the same limit on both sides"
KEYS = "name the columns of `adata.obs` to draw with `keys`"
INSTEAD = {
    **dict.fromkeys(["vmin", "vcenter", "norm"], LIMITS),
    **dict.fromkeys(["c", "color"], KEYS),
    **dict.fromkeys(["color_map", "palette"], "name the colour map with `cmap`"),
    **dict.fromkeys(["wspace", "hspace"], "the panels are laid out by themselves, and `ncols` says how many in a row"),
}
"""Arguments of scatter plots that have another name here, or none."""


@plot(**INSTEAD)
def ratio_umap(
    adata: AnnData,
    keys: str | Sequence[str] = "log_ratio",
    *,
    basis: str = "umap",
    vmax: float | str | None = None,
    cmap: str | Colormap = "RdBu_r",
    size: float | None = None,
    na_color: str = "lightgray",
    frameon: bool = True,
    title: str | Sequence[str] | None = None,
    ncols: int = 4,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool | None = None,
    **kwargs: Any,
) -> Axes | list[Axes] | Figure | None:
    """Draw log ratios on a UMAP or another embedding.

    The colours are centred at 0, with limits that are the same on both sides and in all panels. Cells with large
    absolute ratios are above others. Rings, on top, are cells whose ratio is extrapolated: their colour, that of the
    end of the scale, says which side has such cells and which one has (nearly) none; how large the ratio is, the data
    cannot say. Grey rings, beneath, are extrapolated cells of conditions on neither side, which may be like neither, so
    that not even the sign means anything. Cells without a ratio are grey, and beneath all.

    Parameters
    ----------
    adata
        Reads `adata.obs[key]` (nats) and two columns of `adata.obsm['X_umap']`, and where there are any, the flags in
        `adata.obs[key + '_extrapolated']`, the sides of the ratio in `adata.uns[key]['params']`, and the columns with
        the conditions of the fit that these name.
    keys
        Columns of `adata.obs` with log ratios, one for each panel. The colour bar names the sides of those that this
        package wrote, and columns of your own by their names.
    basis
        Embedding to draw on: "umap", "tsne", "pca" or any other; "X_umap" is understood as well.
    vmax
        Largest absolute ratio that the colours tell apart, in nats; or a percentile of the absolute ratios in all
        panels, such as "p95". By default "p99", and 0.25 at least: where nothing differs, that shows.
    cmap
        Diverging colour map.
    size
        Area of the points, in square points; by default 120000 / number of cells, and at most 30; in smaller `ax`, as
        much smaller as these are.
    na_color
        Colour of cells without a ratio.
    frameon
        Whether to draw the frame and the names of the axes.
    title
        Titles of the panels, in lines as wide as these. By default several panels are named by their contrast, or by
        their key if all have the same contrast.
    ncols
        Panels in a row.
    ax
        Axes to draw on, for a single panel; `layout="constrained"` of its figure makes room for legends and labels.
    show
        Whether to show the figure; by default as `scanpy.settings.autoshow` says.
    return_fig
        Whether to return the figure, on which `savefig` saves it.
    kwargs
        Passed to :meth:`matplotlib.axes.Axes.scatter`.

    Returns
    -------
    The figure if `return_fig`; else `None` if it is shown; else the axes, as a list if there are several panels.
    `adata` is not changed.

    Raises
    ------
    KeyError
        If a key is not in `adata.obs`, or the basis is not in `adata.obsm`.
    TypeError
        If the column of a key is not numeric, or an argument is of another type than documented or one that neither
        this plot nor scatter has, such as scanpy's `vmin` or `legend_loc`.
    ValueError
        If `keys` is empty or names a log density, `vmax` neither positive nor a percentile, the embedding one-
        dimensional, `ax` given for several panels, the number of titles not the number of panels, `size` not positive,
        or `ncols` below 1.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(1_000)
    >>> axes = scratio.pl.ratio_umap(adata, "exact_log_ratio", basis="pca", show=False)
    """
    from matplotlib.colors import CenteredNorm

    keys = names_of(keys, "log ratio in `adata.obs`")
    check_integer(1, ncols=ncols)
    if size is not None and (isinstance(size, bool) or not isinstance(size, Real) or not size > 0):
        refuse("size", size, "the area of a point, in square points", types=Real)
    if not isinstance(basis, str):
        refuse("basis", basis, "the name of an embedding in `adata.obsm`, such as 'umap'", types=())
    for key in keys:
        refuse_unsigned(adata, key, instead=_scanpy_call(basis, key))
    ratios, signs = zip(*(_ratio(adata, key) for key in keys), strict=True)
    contrasts = [contrast_of(adata, key) for key in keys]
    titles = titles_of(title, keys, contrasts)
    xy, axis_name = _coordinates(adata, basis)
    limit = _limit(np.concatenate(ratios), vmax)
    style = {
        "s": _size(adata.n_obs, ax) if size is None else size,
        "linewidth": 0,
        "rasterized": adata.n_obs > RASTERISE_ABOVE,
        **scatter_style(
            kwargs,
            name="scratio.pl.ratio_umap",
            others=[*signature(ratio_umap).parameters],
            instead=_scanpy_call(basis, keys[0]),
        ),
    }
    with panels(len(keys), ax=ax, panel_size=PANEL, ncols=ncols) as axes:
        colours = {"norm": CenteredNorm(0, halfrange=limit), "cmap": cmap}
        for panel, ratio, sign, name in zip(axes, ratios, signs, titles, strict=True):
            _draw_cells(panel, xy, ratio, sign=sign, na_color=na_color, colours=colours, style=style)
            _decorate(panel, axis_name, frameon=frameon)
            # the name of a condition may contain dollar signs; a title from the user may contain mathematics
            panel.set_title(name, parse_math=title is not None)
        bar = _draw_colour_bar(axes, np.concatenate(ratios), colours=colours, ncols=ncols)
        bar.set_label(_label(keys, contrasts), parse_math=False)
        wrap_titles(axes)
        _lower_legends(axes, always=ax is not None)
    return finish(axes, show=show, return_fig=return_fig)


def _scanpy_call(basis: str, key: str) -> str:
    """The call that draws any column."""
    return f"sc.pl.embedding(adata, {basis!r}, color={key!r})"


def _label(keys: list[str], contrasts: list[Contrast | None]) -> str:
    """Name the ratios; columns of which nothing says that they are some, by their own names."""
    if None in contrasts:
        return fill(", ".join(shortened([*dict.fromkeys(keys)], LONGEST_NAME)), LINE_WIDTH)
    return density_ratio(contrasts)


def _ratio(adata: AnnData, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Log ratios, and the signs of those that are extrapolated, ``(n_obs,)`` each; NaN where there is none.

    The sign is 0 where it means nothing, in cells of other conditions.
    """
    if key not in adata.obs:
        known = [column for column in adata.obs if contrast_of(adata, str(column)) is not None]
        msg = (
            f"No log ratio {key!r} in `adata.obs`; the log ratios there: {named(known)}. "
            f"Run `scratio.tl.log_ratio(adata, target=..., reference=...)` first."
        )
        raise KeyError(msg)
    column = adata.obs[key]
    if not is_numeric_dtype(column) or is_bool_dtype(column):
        msg = f"`adata.obs[{key!r}]` is not a log ratio: its dtype is {column.dtype}, not a number."
        raise TypeError(msg)
    ratio = column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    ratio[~np.isfinite(ratio)] = np.nan
    sign = np.full_like(ratio, np.nan)
    flag = RatioKeys(key).extrapolated
    if flag in adata.obs:
        far = np.asarray(adata.obs[flag].isin([True])) & (ratio != 0)  # 0 has no sign
        sign[far], ratio[far] = np.where(of_no_side(adata, key), 0, np.sign(ratio))[far], np.nan
    return ratio, sign


def _coordinates(adata: AnnData, basis: str) -> tuple[np.ndarray, str]:
    """First two coordinates ``(n_obs, 2)`` of the embedding, and the name of its axes."""
    name = basis.removeprefix("X_")
    slot = next((slot for slot in (basis, f"X_{name}") if slot in adata.obsm), None)
    if slot is None:
        make = f" Run `{MAKE_BASIS[name]}` first." if name in MAKE_BASIS else ""
        msg = f"No 'X_{name}' in `adata.obsm`; the bases there are {list(adata.obsm)}.{make}"
        raise KeyError(msg)
    coordinates = dense(adata.obsm[slot]).astype(np.float64)
    if coordinates.ndim != 2 or coordinates.shape[1] < 2:
        msg = f"`adata.obsm[{slot!r}]` has the shape {coordinates.shape}; two dimensions are needed to draw on it."
        raise ValueError(msg)
    return coordinates[:, :2], AXIS_NAMES.get(name, name)


def _size(n_cells: int, ax: Axes | None) -> float:
    """Area of a point, in square points, in a panel of the usual size or in smaller axes."""
    size = min(120_000 / max(n_cells, 1), LARGEST_POINT)
    if ax is None:
        return size
    there = ax.get_window_extent()
    return size * min(1.0, there.width * there.height / ax.figure.dpi**2 / (PANEL[0] * PANEL[1]))


def _limit(ratios: np.ndarray, vmax: float | str | None) -> float:
    """Absolute ratio at which the colours end, in nats."""
    least, vmax = (LEAST, "p99") if vmax is None else (0.0, vmax)
    percentile = re.fullmatch(r"p(\d+\.?\d*)", vmax) if isinstance(vmax, str) else None
    number = float(percentile[1]) if percentile else vmax
    if isinstance(number, str) or not 0 < number <= (100 if percentile else np.finfo(float).max):
        msg = f"`vmax` must be a positive number of nats, or a percentile such as 'p95'; found {vmax!r}."
        raise ValueError(msg)
    if not percentile:
        return float(number)
    known = np.abs(ratios[~np.isnan(ratios)])
    # where no ratio differs from 0 any limit will do, but it must not be 0
    return max(float(np.percentile(known, number) or known.max()) if len(known) else 0.0, least) or 1.0


def _draw_cells(
    ax: Axes,
    xy: np.ndarray,
    ratio: np.ndarray,
    *,
    sign: np.ndarray,
    na_color: str,
    colours: dict[str, Any],
    style: dict[str, Any],
) -> None:
    """Draw the cells without a ratio first, those with one by its size, and on top those of which the sign is known."""
    order = np.argsort(np.abs(ratio), kind="stable")
    known = order[: np.count_nonzero(~np.isnan(ratio))]
    missing = np.isnan(ratio) & np.isnan(sign)
    x, y = xy.T
    if missing.any():
        ax.scatter(x[missing], y[missing], color=na_color, **style)
    rings = {end: _ring_colour(end, colours) for end in (-1, 1, 0) if (sign == end).any()}
    if 0 in rings:
        _draw_rings(ax, xy[sign == 0], [rings[0]], style=style)
    # a rim around the clouds of points, for the middle of a diverging map can hardly be told from the paper
    ax.scatter(x[known], y[known], color="0.5", **{**style, "s": 1.5 * style["s"]})
    ax.scatter(x[known], y[known], c=ratio[known], **colours, **style)
    # shuffled, for one sign would cover the other where cells lie in the order of their conditions
    ends = np.random.default_rng(0).permutation(np.flatnonzero(np.abs(sign) == 1))
    if len(ends):
        _draw_rings(ax, xy[ends], [rings[end] for end in sign[ends]], style=style)
    _draw_legend(ax, rings, na_color if missing.any() else None)


def _ring_colour(sign: int, colours: dict[str, Any]) -> Any:
    """Colour of the end of the scale, or of no sign."""
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(**colours).to_rgba(sign * colours["norm"].halfrange) if sign else NO_SIGN


def _draw_rings(ax: Axes, xy: np.ndarray, edges: list[Any], *, style: dict[str, Any]) -> None:
    ax.scatter(*xy.T, **{**style, **ring(style["s"]), "marker": "o", "c": "white", "edgecolor": edges})


def _draw_legend(ax: Axes, rings: dict[int, Any], na_color: str | None) -> None:
    """Explain rings and grey cells in the corner below the panel, where no cells are."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D

    def point(**style: Any) -> Line2D:
        return Line2D([], [], marker="o", markersize=5, linestyle="", **style)

    entries: dict[str, Any] = {}
    for name, signs in ((EXTRAPOLATED, (-1, 1)), (OTHERS, (0,))):
        found = [rings[sign] for sign in signs if sign in rings]
        if found:
            entries[name] = tuple(
                point(markerfacecolor="white", markeredgecolor=colour, markeredgewidth=5 * RING) for colour in found
            )
    if na_color:
        entries["missing"] = point(color=na_color)
    if not entries:
        return
    ax.legend(
        [*entries.values()],
        [*entries],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.2)},
        loc="upper right",
        bbox_to_anchor=(1, 0),
        borderaxespad=0.2,
        handletextpad=0.3,
        handlelength=1.0,
        frameon=False,
    )


def _lower_legends(axes: list[Axes], *, always: bool) -> None:
    """Put legends a line lower where they would cover the name of the horizontal axis.

    Always in a figure that may still change.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.transforms import ScaledTranslation

    figure = axes[0].figure
    legends = [(ax, legend) for ax in axes if ax.axison and (legend := ax.get_legend()) is not None]
    if not legends:
        return
    if not always:
        figure.figure.draw_without_rendering()  # before that, the axes do not have their size
    line = LINE * FontProperties().get_size_in_points() / 72
    for ax, legend in legends:
        if always or legend.get_window_extent().overlaps(ax.xaxis.label.get_window_extent()):
            lower = ax.transAxes + ScaledTranslation(0, -line, figure.dpi_scale_trans)
            legend.set_bbox_to_anchor((1, 0), transform=lower)


def _draw_colour_bar(axes: list[Axes], ratios: np.ndarray, *, colours: dict[str, Any], ncols: int) -> Colorbar:
    """Draw one colour bar for all panels, pointed where colours stand for ratios beyond the limits."""
    from matplotlib.cm import ScalarMappable

    limit = colours["norm"].halfrange
    below, above = np.nanmin(ratios, initial=0) < -limit, np.nanmax(ratios, initial=0) > limit
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
    nrows, ncols = ceil(len(axes) / ncols), min(len(axes), ncols)
    bar = axes[0].figure.colorbar(
        ScalarMappable(**colours),
        ax=axes if len(axes) > 1 else axes[0],  # of one, `tight_layout` knows where the bar belongs
        extend=extend,
        extendfrac=0.03 / nrows,
        aspect=30 * nrows,
        fraction=0.15 / ncols,
        pad=0.03 / ncols,
    )
    bar.outline.set_visible(False)
    if np.isnan(ratios).all():  # then colours are those of signs
        bar.set_ticks([])
    return bar


def _decorate(ax: Axes, axis_name: str, *, frameon: bool) -> None:
    """Name the axes, whose numbers mean nothing."""
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(f"{axis_name}1", loc="left")
    ax.set_ylabel(f"{axis_name}2", loc="bottom")
    if not frameon:
        ax.set_axis_off()
