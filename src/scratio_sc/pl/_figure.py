"""The grammar that all plots share: `ax`, `show` and `return_fig`."""

from __future__ import annotations

import inspect
from collections import Counter
from contextlib import contextmanager, suppress
from functools import wraps
from math import ceil
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from scratio_sc._check import check_anndata
from scratio_sc.flow._arguments import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RING = 0.25
"""Width of the line of a ring, as a share of its diameter."""
EXTRAPOLATED = "extrapolated: size unknown"
"""What a ring says of its cell."""
FONT_SIZE = 10.0
"""Points that letters have unless somebody says otherwise, as `scanpy.set_figure_params` does."""
LETTER = 0.085
"""Inches that a letter of the name of a row or column takes."""
LEGEND_STYLE: dict[str, Any] = {"frameon": False, "fontsize": "small", "handlelength": 1.6, "handletextpad": 0.5}
"""How legends look, whatever the style: with that of `scanpy.set_figure_params` words would touch the handles."""
HEAD = 0.6
"""Share of a shortened name before the part that it loses."""

P = ParamSpec("P")
R = TypeVar("R")


def plot(**instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a plot that refuses arguments of scanpy's plots by name, and says what to use `instead`.

    And what is no AnnData, no axes for `ax`, or no name for `key`.
    """

    def decorate(draw: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(draw)
        name = f"scratio.pl.{draw.__name__}"
        saved = f'save the figure: `fig = {name}(adata, ..., return_fig=True)` and `fig.savefig("figure.png")`'
        advice = {"save": saved, **instead}

        @wraps(draw)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for argument in kwargs:
                if argument in advice:
                    msg = f"`{name}` has no argument `{argument}`. Instead, {advice[argument]}."
                    raise TypeError(msg)
            given: dict[str, Any] = {}
            with suppress(TypeError):  # calls that do not fit are refused by the function itself, by its name
                given = signature.bind(*args, **kwargs).arguments
            if "adata" in given:
                check_anndata(given["adata"])
            if given.get("ax") is not None:
                _check_axes(given["ax"])
            if not isinstance(given.get("key", ""), str):
                refuse("key", given["key"], "the name of one result in `adata.uns`", types=())
            return draw(*args, **kwargs)

        return checked

    return decorate


@contextmanager
def panels(n: int, *, ax: Axes | None, panel_size: tuple[float, float], ncols: int = 1) -> Iterator[list[Axes]]:
    """Axes to draw on, without a grid: `ax`, or `n` of a new figure, which is closed again when drawing fails.

    Panels are as large as they should be for letters of the usual size, and larger where these are.
    """
    import matplotlib.pyplot as plt

    if ax is not None:
        if n > 1:
            msg = f"`ax` takes a single panel, but there are {n}. Leave `ax` out, or plot one key at a time."
            raise ValueError(msg)
        ax.grid(visible=False)
        yield [ax]
        return
    ncols = min(n, ncols)
    nrows = ceil(n / ncols)
    larger = max(plt.rcParams["font.size"] / FONT_SIZE, 1.0)
    size = (larger * panel_size[0] * ncols, larger * panel_size[1] * nrows)
    figure = plt.figure(figsize=size, layout="constrained")
    try:
        axes = [figure.add_subplot(nrows, ncols, i + 1) for i in range(n)]
        for panel in axes:
            panel.grid(visible=False)
        yield axes
    except BaseException:
        plt.close(figure)
        raise


def _check_axes(ax: object) -> None:
    """Refuse what is no axes, such as the array that `plt.subplots` returns."""
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        msg = f"`ax` is of type {type(ax).__name__}, expected one axes of matplotlib, such as `axes[0]` of several."
        raise TypeError(msg)


def finish(axes: list[Axes], *, show: bool | None, return_fig: bool | None) -> Axes | list[Axes] | Figure | None:
    """Return the figure, show it, or return the axes, as scanpy does."""
    import matplotlib.pyplot as plt
    import scanpy as sc

    if return_fig:
        return axes[0].figure.figure  # the axes may be in a subfigure
    if sc.settings.autoshow if show is None else show:
        plt.show()
        return None
    return axes[0] if len(axes) == 1 else axes


def ink() -> str:
    """Colour of text, which shows on dark paper, too."""
    import matplotlib as mpl

    return str(mpl.rcParams["text.color"])


def ring(size: float) -> dict[str, float]:
    """Size and width of line of a ring that takes the place of a point of this size, points²."""
    width = RING * size**0.5
    return {"s": (size**0.5 - width) ** 2, "linewidth": width}


def shortened(names: Sequence[str], length: int) -> list[str]:
    """Names of so many letters at most: long ones lose a part near their middle without which all still differ.

    A name stays long where it differs by more than one part.
    """
    short = {name: name for name in names if len(name) <= length}
    for head in sorted(range(length), key=lambda head: abs(head - HEAD * length)):
        cut = {name: f"{name[:head]}…{name[len(name) - length + head + 1 :]}" for name in {*names} - {*short}}
        times = Counter([*short.values(), *cut.values()])
        short |= {name: label for name, label in cut.items() if times[label] == 1}
    return [short.get(name, name) for name in names]
