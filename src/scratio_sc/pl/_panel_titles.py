"""Titles of panels that show columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from scratio_sc.flow._arguments import refuse
from scratio_sc.pl._contrast import panel_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scratio_sc.pl._contrast import Contrast


def titles_of(title: str | Sequence[str] | None, keys: list[str], contrasts: list[Contrast | None]) -> list[str]:
    """One title for each panel: the user's, or what sets it apart from the other panels and the colour bar."""
    if title is not None:
        if not isinstance(title, str | Iterable):
            refuse("title", title, "the title of the panel, or one for each", types=())
        titles = [title] if isinstance(title, str) else list(title)
        if len(titles) != len(keys):
            msg = f"`title` has to name each of the {len(keys)} panels; found {len(titles)}."
            raise ValueError(msg)
        return titles
    if len(set(contrasts)) == 1:
        return [""] if len(keys) == 1 else keys
    names = [panel_name(contrast) if contrast else key for key, contrast in zip(keys, contrasts, strict=True)]
    return [name if names.count(name) == 1 else f"{name}\n{key}" for key, name in zip(keys, names, strict=True)]


def wrap_titles(axes: list[Axes]) -> None:
    """Break titles that are wider than their panel into lines, but none that hold mathematics."""
    titled = [ax for ax in axes if ax.get_title() and not ("$" in ax.get_title() and ax.title.get_parse_math())]
    if not titled:
        return
    axes[0].figure.figure.draw_without_rendering()  # before that, the axes do not have their size
    for ax in titled:
        room = ax.get_window_extent().width / ax.title.get_window_extent().width
        if room < 1:
            lines = ax.get_title().split("\n")
            width = max(int(room * max(map(len, lines))), 1)
            ax.title.set_text("\n".join(fill(line, width) for line in lines))
