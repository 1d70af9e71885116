"""Sides of a log ratio as they were written down, and what to call them."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING

from ._figure import shortened

if TYPE_CHECKING:
    from anndata import AnnData

Contrast = tuple[tuple[str, ...], tuple[str, ...]]
"""Sides above and below the stroke: one each, or two of an interaction."""

_SIDES = ((("combination", "reference"), ("a", "b")), (("target",), ("reference",)))
"""Sides in the parameters of an interaction and of a log ratio, above and below the stroke."""
_LINE_WIDTH = 40
_LONGEST_NAME = 60


def contrast_of(adata: AnnData, key: str) -> Contrast | None:
    """Sides of the ratio `key`, if they were written down."""
    entry = adata.uns.get(key)
    params = entry.get("params") if isinstance(entry, Mapping) else None
    if not isinstance(params, Mapping):
        return None
    for above, below in _SIDES:
        if all(side in params for side in above + below):
            return tuple(str(params[side]) for side in above), tuple(str(params[side]) for side in below)
    return None


def panel_name(contrast: Contrast) -> str:
    """Both sides; of an interaction, the combination and the single treatments."""
    above, below = contrast
    target, *references = (shortened(side, _LONGEST_NAME) for side in (above[0], *below))
    return fill(f"{target} vs {' and '.join(references)}", _LINE_WIDTH)


def density_ratio(contrasts: list[Contrast | None]) -> str:
    """Name the ratio, by its sides if they are the same in all panels, and its unit."""
    shared = contrasts[0] if len(set(contrasts)) == 1 else None
    if None in contrasts or (shared is None and any(contrast and len(contrast[0]) > 1 for contrast in contrasts)):
        return "log ratio  [nats]"
    above, below = shared or (("target",), ("reference",))
    densities = (" ".join(f"p({shortened(side, _LONGEST_NAME)})" for side in sides) for sides in (above, below))
    return fill(f"log {' / '.join(densities)}  [nats]", _LINE_WIDTH)
