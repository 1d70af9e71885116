"""Which samples stand on which side of a contrast, read from AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scratio_sc._labels import MIN_CELLS, read_labels, warn_of_missing
from scratio_sc._sides import cells_by_side
from scratio_sc._warn import warn
from scratio_sc.flow._arguments import named
from scratio_sc.stats._abundance import Abundance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow

MIN_SAMPLES = 2
"""Samples of a side (pairs, in a paired design) below which nothing can be said of the variation between them."""


def read_sides(adata: AnnData, flow: ConditionalFlow, sides: tuple[Any, Any]) -> np.ndarray:
    """Which side a cell is on ``(n_cells,)``: 0 target, 1 reference, -1 neither."""
    cells = cells_by_side(adata, flow, dict(zip(("target", "reference"), sides, strict=True)))
    return np.select([*cells.values()], [0, 1], -1)


def read_samples(
    adata: AnnData,
    side: np.ndarray,
    sample_key: str,
    *,
    paired: bool,
    held: Sequence[str],
    n_permutations: int,
    rng: np.random.Generator,
) -> Abundance | None:
    """Samples of both sides, warning of those left out; None, and a warning, where there are too few.

    They are exchanged within the columns that ratios ``held`` fixed, as far as these are the same in each sample.
    """
    labels = read_labels(adata, (sample_key,))
    warn_of_missing(labels, side >= 0, "the test")
    counted = labels.complete & (side >= 0)
    names, code = np.unique(labels.text[counted, 0], return_inverse=True)
    size = np.zeros((2, len(names)), np.int64)
    np.add.at(size, (side[counted], code), 1)
    both = (size > 0).all(0)
    if both.any() and not paired:
        msg = (
            f"Sample {str(names[both][0])!r} of {sample_key!r} has cells of both sides, so it has no condition of its "
            "own. Pass paired=True to compare the sides within each sample, or name a column whose samples have one "
            "condition each."
        )
        raise ValueError(msg)
    enough = size >= MIN_CELLS
    used = enough.all(0) if paired else enough.any(0)
    if not used.all():
        why = f"fewer than {MIN_CELLS} cells" + (" on one of the sides" if paired else "")
        msg = f"Samples of {sample_key!r} are left out of the test, as they have {why}: {named(names[~used])}."
        warn(msg)
    sides = np.repeat([0, 1], used.sum()) if paired else enough[1, used].astype(int)
    n_target, n_reference = np.bincount(sides, minlength=2)
    if min(n_target, n_reference) < MIN_SAMPLES:
        have = f"{n_target} pairs" if paired else f"{n_target} samples of the target and {n_reference} of the reference"
        donor = " With paired=True `sample_key` names the donor, which has cells of both sides; no label there has."
        msg = (
            f"No p-values: the sample is the unit of the test, there are {have} in {sample_key!r}, and without "
            f"{MIN_SAMPLES} on each side the variation between samples is unknown. The ratios are written without."
            f"{donor if paired and not both.any() else ''}"
        )
        warn(msg)
        return None
    position = np.where(used, np.cumsum(used) - 1, -1)[code]
    sample = np.full(len(side), -1)
    sample[counted] = position + paired * used.sum() * side[counted] * (position >= 0)
    stratum, within = _strata(adata, sample, held)
    if not paired and not _can_be_exchanged(stratum, sides, names=names[used], within=within):
        return None
    return Abundance.of(
        sample, sides == 0, paired=paired, n_draws=n_permutations, rng=rng, stratum=None if paired else stratum
    )


def _strata(adata: AnnData, sample: np.ndarray, columns: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Samples with the same labels in some columns ``(n_samples,)``, and which columns do not differ within samples.

    Of cells in samples ``(n_cells,)``, -1 for none; warns of columns that do. Missing labels are no difference.
    """
    if not columns:
        return np.zeros(sample.max() + 1, np.int64), []
    labels = read_labels(adata, columns)
    cells = np.flatnonzero(sample >= 0)
    cells = cells[np.argsort(~labels.complete[cells], kind="stable")]  # so that the first of a sample has its labels
    _, first, own = np.unique(sample[cells], return_index=True, return_inverse=True)
    text = labels.text[cells]
    same = ((text[first][own] == text) | ~labels.known[cells]).all(0)
    within, differ = ([c for c, is_same in zip(columns, same, strict=True) if is_same == one] for one in (True, False))
    if differ:
        msg = (
            f"The fit holds {named(differ)} fixed, which differs within samples: log ratios compare cells within its "
            "levels and say nothing of how many there are, nor does the direction in which cells change. Fit without "
            "it to find changes in number; `log_fold_change` and p-values do not depend on that."
        )
        warn(msg)
    stratum = np.unique(text[first][:, same], axis=0, return_inverse=True)[1].reshape(-1)
    # nothing says that samples without a label are alike
    alone = np.flatnonzero(~labels.known[cells][first][:, same].all(1))
    stratum[alone] = len(stratum) + alone
    return stratum, within


def _can_be_exchanged(stratum: np.ndarray, sides: np.ndarray, *, names: np.ndarray, within: Sequence[str]) -> bool:
    """Whether enough samples of each side ``(n_samples,)`` have one of the other in their stratum; warns of others."""
    alone = ~(np.isin(stratum, stratum[sides == 0]) & np.isin(stratum, stratum[sides == 1]))
    enough = bool(min(np.bincount(sides[~alone], minlength=2)) >= MIN_SAMPLES)
    if not enough:
        msg = (
            f"No p-values: the fit holds {named(within)} fixed, so samples are compared within its levels, and fewer "
            f"than {MIN_SAMPLES} of one side have a sample of the other side in their level. The ratios are written "
            "without. Fit without covariates that go with the condition."
        )
        warn(msg)
    elif alone.any():
        msg = (
            f"Samples without one of the other side within {named(within)} have no say in the test: "
            f"{named(names[alone])}."
        )
        warn(msg)
    return enough


def warn_of_resolution(abundance: Abundance, alpha: float) -> None:
    """Warn where no p-value can be as small as the level."""
    smallest = abundance.relabelling.smallest_p
    if smallest > alpha:
        exact = abundance.relabelling.exact
        more = "More samples are needed." if exact else "More permutations are needed: raise `n_permutations`."
        n = len(abundance.is_target)
        what = f"{n // 2} pairs of samples" if abundance.paired else f"{n} samples"
        msg = (
            f"With {what} the smallest p-value there can be is {smallest:.3g}, so nothing can be significant at "
            f"alpha={alpha:g}. {more}"
        )
        warn(msg)
