"""The grammar that all plots share: `ax`, `show` and `return_fig`."""

from __future__ import annotations

from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@contextmanager
def panels(n: int, *, ax: Axes | None, panel_size: tuple[float, float], ncols: int = 1) -> Iterator[list[Axes]]:
    """Axes to draw on: `ax`, or `n` of a new figure, which is closed again when drawing fails."""
    import matplotlib.pyplot as plt

    if ax is not None:
        if n > 1:
            msg = f"`ax` takes a single panel, but there are {n}. Leave `ax` out, or plot one key at a time."
            raise ValueError(msg)
        yield [ax]
        return
    ncols = min(n, ncols)
    nrows = ceil(n / ncols)
    figure = plt.figure(figsize=(panel_size[0] * ncols, panel_size[1] * nrows), layout="constrained")
    try:
        yield [figure.add_subplot(nrows, ncols, i + 1) for i in range(n)]
    except BaseException:
        plt.close(figure)
        raise


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
