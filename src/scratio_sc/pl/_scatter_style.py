"""How points look: arguments that a plot passes on to matplotlib's scatter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scratio_sc.flow._arguments import closest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCATTER = ("s", "marker", "plotnonfinite")
"""Arguments of scatter that are no properties of the points that it makes."""


def scatter_style(given: Mapping[str, Any], *, name: str, others: Sequence[str], instead: str) -> dict[str, Any]:
    """Arguments by the one name that each has; a TypeError names those that scatter does not take.

    It calls the plot by its `name`, suggests the closest of these and the plot's `others`, and what to call `instead`.
    """
    from matplotlib.artist import ArtistInspector
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.collections import PathCollection

    known = {*SCATTER, *ArtistInspector(PathCollection).get_setters()}
    style: dict[str, Any] = normalize_kwargs(dict(given), PathCollection)
    for argument in style:
        if argument not in known:
            hint = closest(argument, [*known, *others])
            msg = (
                f"`{name}` has no argument `{argument}`, and neither has matplotlib's `scatter`.{hint} For arguments "
                f"of scanpy call `{instead}`."
            )
            raise TypeError(msg)
    return style
