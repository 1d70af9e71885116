"""Names beside the points of a panel."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scratio_sc.pl._figure import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

ATTEMPTS = [*product((20,), (50, 26)), *product((34,), (50, 26, 18, 12))]
"""How far from its point a name may stand, in points, and how many letters names may have, the best first."""
LINE = 1.2
"""Height of a line, in units of the font size."""
SIDES = [
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
    ("left", "center", (1, 0.5)),
    ("right", "center", (-1, 0.5)),
    ("left", "center", (1, -0.5)),
    ("right", "center", (-1, -0.5)),
]
"""On which side of its point a name may stand, the best first: alignment, and direction."""
DISTANCES = (5, 12, 20, 27, 34)
"""How far from it, in points, the best first; from the second on, a line leads there.

Not farther than about three lines of text, for a name is taken to stand where its point is.
"""
CLEAR = 6
"""Half the side of the square about a point, in points, that no other name may enter; without a line, twice that."""
SHARES = {"left": 0, "bottom": 0, "center": 0.5, "right": 1, "top": 1}
N_DOTS = 8
"""Dots for which a line stands where it must cross no name."""
MARGIN = 3
"""Width that a name takes beside its letters, in points."""
OUTLINE = 2.5
"""Width of the line around letters that keeps other lines off them, in points."""


class _Place(NamedTuple):
    """Where a name stands: offset from its point in points, and alignment."""

    offset: np.ndarray
    across: str
    along: str
    by_line: bool


def name_points(ax: Axes, xy: np.ndarray, names: list[str], *, first: np.ndarray) -> None:
    """Names beside points, where they cover nothing else that is written and keep off other points, or none at all.

    Nor does the line that leads to a name pass another point. All names are shortened as far as it takes to name all
    points, or at least the `first` of them ``(n_points,)``, of which the topmost and outermost come first.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.text import Text
    from matplotlib.textpath import text_to_path

    ax.figure.figure.draw_without_rendering()  # before that, the axes do not have their size
    to_points = 72 / ax.figure.dpi
    at, panel = ax.transData.transform(xy) * to_points, np.array(ax.bbox.extents) * to_points
    written = [np.array(Text.get_window_extent(text).extents) * to_points for text in ax.texts]
    font = FontProperties(size="small")
    line = LINE * font.get_size_in_points()
    order = np.lexsort((-np.abs(xy[:, 0]), -xy[:, 1], ~first))
    best: tuple[tuple[int, int], list[str], dict[int, _Place]] = ((-1, -1), names, {})
    for reach, length in ATTEMPTS:
        short = shortened(names, length)
        widths = [text_to_path.get_text_width_height_descent(name, font, ismath=False)[0] for name in short]
        extents = np.column_stack([np.add(widths, MARGIN), np.full(len(short), line)])
        places = _places(at[order], extents[order], panel, written=written, reach=reach)
        found = order[[*places]] if places else order[:0]
        score = int(first[found].sum()), len(found)
        if score > best[0]:
            best = score, short, dict(zip(found.tolist(), places.values(), strict=True))
        if len(found) == len(names):
            break
    for i, place in best[2].items():
        _write(ax, best[1][i], xy[i], place=place)


def _places(
    at: np.ndarray, extents: np.ndarray, panel: np.ndarray, *, written: Sequence[np.ndarray], reach: float
) -> dict[int, _Place]:
    """Places for names of some width and height ``(n_points, 2)``, one after the other, by the index of the point."""
    near = [
        _Place(distance * np.array(direction), across, along, distance > DISTANCES[0])
        for distance, (across, along, direction) in product(DISTANCES, SIDES)
        if distance <= reach
    ]
    offsets = np.array([place.offset for place in near])
    shares = np.array([(SHARES[place.across], SHARES[place.along]) for place in near])
    clear = np.array([[CLEAR if place.by_line else 2 * CLEAR] for place in near])
    taken, places = np.array(written).reshape(-1, 4), {}
    for i, (point, extent) in enumerate(zip(at, extents, strict=True)):
        others = np.delete(at, i, axis=0)
        low = point + offsets - shares * extent
        boxes, wide = np.hstack([low, low + extent]), np.hstack([low - clear, low + extent + clear])
        inside = (boxes[:, :2] >= panel[:2]).all(1) & (boxes[:, 2:] <= panel[2:]).all(1)
        free = inside & ~_overlap(wide, np.hstack([others, others])) & ~_overlap(boxes, taken)
        for j in np.flatnonzero(free):
            line = point + np.linspace(0, near[j].by_line, N_DOTS)[:, None] * offsets[j]
            dots = np.hstack([line, line])
            if _overlap(dots, taken).any() or any(_passes(point, point + offsets[j], other) for other in others):
                continue
            taken, places[i] = np.vstack([taken, boxes[j], dots]), near[j]
            break
    return places


def _write(ax: Axes, name: str, xy: np.ndarray, *, place: _Place) -> None:
    from matplotlib.patheffects import withStroke

    line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
    line["relpos"] = SHARES[place.across], SHARES[place.along]
    ax.annotate(
        name,
        tuple(xy),
        xytext=tuple(place.offset),
        textcoords="offset points",
        ha=place.across,
        va=place.along,
        arrowprops=line if place.by_line else None,
        fontsize="small",
        parse_math=False,
        path_effects=[withStroke(linewidth=OUTLINE, foreground=ax.get_facecolor())],
    )


def _passes(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> bool:
    """Whether a line comes closer to a point than `CLEAR`, and than it starts."""
    along = end - start
    share = np.clip((point - start) @ along / (along @ along), 0, 1)
    least = min(CLEAR, float(np.linalg.norm(start - point)))
    return bool(np.linalg.norm(start + share * along - point) < least)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which boxes (left, bottom, right, top) ``(n, 4)`` share area with any of the others ``(m, 4)``, ``(n,)``."""
    one, other = boxes[:, None], others[None]
    return np.all((one[..., :2] < other[..., 2:]) & (other[..., :2] < one[..., 2:]), axis=-1).any(axis=1)
