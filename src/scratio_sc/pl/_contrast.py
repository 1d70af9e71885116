"""Sides of a log ratio as they were written down, and what to call them."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from scratio_sc._check import params_of
from scratio_sc._labels import read_labels
from scratio_sc._numbers import rounded
from scratio_sc.pl._figure import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scratio_sc._labels import Labels

Contrast = tuple[tuple[str, ...], tuple[str, ...]]
"""Sides above and below the stroke: one each, or two of an interaction."""

SIDES = ((("combination", "reference"), ("a", "b")), (("target",), ("reference",)))
"""Sides in the parameters of an interaction and of a log ratio, above and below the stroke."""
LINE_WIDTH = 40
LONGEST_NAME = 60
LONGEST_SHARED = 30
"""Letters of a name that is written twice."""


def contrast_of(adata: AnnData, key: str) -> Contrast | None:
    """Sides of the ratio `key`, if they were written down."""
    params = params_of(adata.uns.get(key))
    for above, below in SIDES:
        if all(side in params for side in above + below):
            names = {side: rounded(str(params[side])) for side in above + below}
            return tuple(names[side] for side in above), tuple(names[side] for side in below)
    return None


def of_no_side(adata: AnnData, key: str) -> np.ndarray:
    """Cells whose condition is on no side of the ratio, ``(n_obs,)``; none where sides or conditions are not known."""
    params = params_of(adata.uns.get(key))
    fit, levels = params_of(adata.uns.get(str(params.get("key")))), params.get("levels")
    numeric = np.atleast_1d(fit.get("numeric", []))
    conditions = [name for name in np.atleast_1d(fit.get("condition", [])) if name in adata.obs and name not in numeric]
    if not conditions or not isinstance(levels, Mapping):
        return np.zeros(adata.n_obs, bool)
    labels = read_labels(adata, conditions)
    return labels.complete & ~np.any([_are_of(labels, side) for side in levels.values()], axis=0)


def _are_of(labels: Labels, side: np.ndarray) -> np.ndarray:
    """Cells with one of the levels ``(k, 2)`` that a side names of each column, ``(n_cells,)``; of others, with any."""
    are = np.ones(len(labels.text), bool)
    for column, own in zip(labels.columns, labels.text.T, strict=True):
        named = [level for name, level in side if name == column]
        if named:
            are &= np.isin(own, named)
    return are


def panel_name(contrast: Contrast) -> str:
    """Both sides; of an interaction, the combination and the single treatments."""
    above, below = contrast
    target, *references = shortened([above[0], *below], LONGEST_NAME)
    return fill(f"{target} vs {' and '.join(references)}", LINE_WIDTH)


def share_of_target(params: Mapping[str, Any]) -> str:
    """What a calibrated ratio predicts; levels that both sides name alike are said once, at the end."""
    sides, levels = [str(params[side]) for side in ("target", "reference")], params.get("levels", {})
    columns = [_by_column(levels.get(side, ())) for side in ("target", "reference")]
    alike = [f"{name}={' + '.join(own)}" for name, own in columns[0].items() if columns[1].get(name) == own]
    alike = [part for part in alike if all(part in side.split(", ") for side in sides)]
    for part in alike:
        sides = [", ".join(other for other in side.split(", ") if other != part) for side in sides]
    target, reference = shortened(sides, LONGEST_SHARED)
    return f"share of {target} among {target} and {reference}" + "".join(f", {part}" for part in alike)


def _by_column(side: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Levels of a side ``(k, 2)``, by column."""
    columns: dict[str, list[str]] = {}
    for name, level in side:
        columns.setdefault(str(name), []).append(str(level))
    return columns


def density_ratio(contrasts: list[Contrast | None], *, width: int = LINE_WIDTH) -> str:
    """Name the ratio, by its sides if they are the same in all panels, and its unit, in lines of so many letters."""
    shared = contrasts[0] if len(set(contrasts)) == 1 else None
    if None in contrasts or (shared is None and any(contrast and len(contrast[0]) > 1 for contrast in contrasts)):
        return "log ratio  [nats]"
    above, below = shared or (("target",), ("reference",))
    densities = [f"p({side})" for side in shortened([*above, *below], LONGEST_NAME)]
    upper, lower = " ".join(densities[: len(above)]), " ".join(densities[len(above) :])
    return fill(f"log {upper} / {lower}  [nats]", width)
