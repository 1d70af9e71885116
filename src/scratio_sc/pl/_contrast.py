"""Sides of a log ratio as they were written down, and what to call them."""

from __future__ import annotations

import re
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from scratio_sc._labels import read_labels
from scratio_sc.pl._entry import params_of
from scratio_sc.pl._figure import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from scratio_sc._labels import Labels

Contrast = tuple[tuple[str, ...], tuple[str, ...]]
"""Sides above and below the stroke: one each, or two of an interaction."""

SIDES = ((("combination", "reference"), ("a", "b")), (("target",), ("reference",)))
"""Sides in the parameters of an interaction and of a log ratio, above and below the stroke."""
LINE_WIDTH = 40
LONGEST_NAME = 60


def contrast_of(adata: AnnData, key: str) -> Contrast | None:
    """Sides of the ratio `key`, if they were written down."""
    params = params_of(adata, key)
    for above, below in SIDES:
        if all(side in params for side in above + below):
            return tuple(str(params[side]) for side in above), tuple(str(params[side]) for side in below)
    return None


def of_no_side(adata: AnnData, key: str) -> np.ndarray:
    """Cells whose condition is on no side of the ratio, ``(n_obs,)``; none where sides or conditions are not known."""
    contrast, fit = contrast_of(adata, key), params_of(adata, str(params_of(adata, key).get("key")))
    columns = [str(column) for name in ("condition", "covariates") for column in np.atleast_1d(fit.get(name, []))]
    conditions = [column for column in np.atleast_1d(fit.get("condition", [])) if column in adata.obs]
    if contrast is None or not conditions:
        return np.zeros(adata.n_obs, bool)
    labels = read_labels(adata, conditions, numeric=[*np.atleast_1d(fit.get("numeric", []))])
    of_side = [_are_of(labels, _levels(side, columns)) for side in (*contrast[0], *contrast[1])]
    return labels.complete & ~np.any(of_side, axis=0)


def _levels(side: str, columns: list[str]) -> dict[str, str]:
    """Levels that a side names, by column, from what it is called; of the first column where it names none."""
    _, *parts = re.split(rf"(?:^|, )({'|'.join(map(re.escape, columns))})=", side)
    return dict(zip(parts[::2], parts[1::2], strict=True)) or {columns[0]: side}


def _are_of(labels: Labels, levels: Mapping[str, str]) -> np.ndarray:
    """Cells with one of the levels, in all columns of labels, ``(n_cells,)``; a number is like any other."""
    are = np.ones(len(labels.text), bool)
    for column, own in zip(labels.columns, labels.text.T, strict=True):
        level = levels.get(column, "all")
        if level != "all" and column not in labels.numeric:
            are &= np.isin(own, [level, *level.split(" + ")])  # of a mixture, any
    return are


def panel_name(contrast: Contrast) -> str:
    """Both sides; of an interaction, the combination and the single treatments."""
    above, below = contrast
    target, *references = shortened([above[0], *below], LONGEST_NAME)
    return fill(f"{target} vs {' and '.join(references)}", LINE_WIDTH)


def density_ratio(contrasts: list[Contrast | None], *, width: int = LINE_WIDTH) -> str:
    """Name the ratio, by its sides if they are the same in all panels, and its unit, in lines of so many letters."""
    shared = contrasts[0] if len(set(contrasts)) == 1 else None
    if None in contrasts or (shared is None and any(contrast and len(contrast[0]) > 1 for contrast in contrasts)):
        return "log ratio  [nats]"
    above, below = shared or (("target",), ("reference",))
    densities = [f"p({side})" for side in shortened([*above, *below], LONGEST_NAME)]
    upper, lower = " ".join(densities[: len(above)]), " ".join(densities[len(above) :])
    return fill(f"log {upper} / {lower}  [nats]", width)
