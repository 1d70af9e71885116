"""Labels whose conditions are permuted over samples or single cells, read from AnnData."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scratio_sc._labels import read_labels, warn_of_missing
from scratio_sc._warn import warn
from scratio_sc.flow._arguments import named
from scratio_sc.flow._design import Design
from scratio_sc.stats._groupings import Units

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData


@dataclass(frozen=True)
class Permutable:
    """Labels of cells, whose conditions are permuted within covariates.

    Attributes
    ----------
    text
        Labels of each cell ``(n_cells, n_columns)``, the conditions first.
    design
        What they are labels of, and which columns are conditions.
    first, member
        First cell of each unit ``(n_units,)``, and unit of each cell ``(n_cells,)``.
    units
        Roles and strata of the units. One whose condition is not permuted has a stratum where there is no other.
    n_exchanged
        How many units have a condition that is permuted.
    within
        Covariates that do not differ within units, and within which these are permuted.
    """

    text: np.ndarray
    design: Design
    first: np.ndarray
    member: np.ndarray
    units: Units
    n_exchanged: int
    within: tuple[str, ...]

    @classmethod
    def of(cls, text: np.ndarray, unit: np.ndarray, fitted: Design, *, role: np.ndarray | None) -> Permutable:
        """Labels of the columns of a fit, and the unit of each cell ``(n_cells,)``: its sample, or itself.

        Groupings differ where other units have a ``role (n_cells,)``, such as the target's; cells whose role is 0 keep
        their condition. Without roles, the conditions of all cells are permuted, and each is a role. What differs
        within samples (such as the cell type) cannot tell which of them may be exchanged.
        """
        names, first, member = np.unique(unit, return_index=True, return_inverse=True)
        same = text[first][member] == text
        n_conditions = fitted.n_condition_columns
        mixed = ~same[:, :n_conditions].all(1)
        if mixed.any():
            msg = (
                f"Sample {str(names[member[mixed][0]])!r} has cells of several conditions, so its condition cannot be "
                "permuted as a whole. Leave `sample_key` out, or name a column whose samples have one condition each."
            )
            raise ValueError(msg)
        # bins of the cells at hand, as a fit of them will have, which need not be all those of the fit
        design, group = Design.of(text, fitted.columns, n_conditions, numeric=fitted.numeric)
        rows, permuted = design.groups[group[first]], np.ones(len(text), bool) if role is None else role > 0
        within = []
        for j in range(n_conditions, len(design.columns)):
            several = np.unique(member[permuted & ~same[:, j]])
            if not len(several):
                within.append(j)
            elif len(several) < len(first) / 2:
                msg = (
                    f"{design.columns[j]!r} is the same in all cells of most samples, but differs within "
                    f"{named(names[several])}, so conditions are permuted over all of its levels, not within them."
                )
                warn(msg)
        stratum = np.unique(rows[:, within], axis=0, return_inverse=True)[1].reshape(-1)
        condition, exchanged = design.condition_of(rows), permuted[first]
        stratum = np.where(exchanged, stratum, stratum.max() + 1 + condition)
        ordered = role is None and any(j < n_conditions for j in design.numbers)
        units = Units(condition if role is None else role[first], stratum, ordered)
        columns = tuple(design.columns[j] for j in within)
        return cls(text, design, first, member, units, int(exchanged.sum()), columns)

    def permuted(self, n_permutations: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Labels ``(n_cells, n_columns)`` with other groupings of the units, each once."""
        n = self.design.n_condition_columns
        for order in self.units.other_groupings(n_permutations, rng=rng):
            shuffled = self.text.copy()
            shuffled[:, :n] = self.text[self.first[order][self.member], :n]
            yield shuffled

    def count(self, n_permutations: int, *, sample_key: str | None) -> int:
        """How many permutations there will be; a warning where they are fewer, an error where there are none."""
        n_others = self.units.n_others
        what = "cells" if sample_key is None else f"samples of {sample_key!r}"
        if not n_others:
            msg = f"The conditions of the {self.n_exchanged} {what} cannot be permuted: {self._reason(sample_key)}"
            raise ValueError(msg)
        if sample_key is not None and self.units.paired:
            covariates = named(self.within)
            msg = (
                f"Each level of {covariates} has one sample of {sample_key!r} a condition. Exchanged, the ratio within "
                "it changes its sign and not its size, so that what would come out is no noise. Fit without "
                f"{covariates} for this check, or leave `sample_key` out to permute single cells."
            )
            raise ValueError(msg)
        if n_others < n_permutations:
            msg = (
                f"Beside the observed grouping of the {self.n_exchanged} {what} there are {n_others} others only, so "
                f"conditions are permuted {n_others} instead of {n_permutations} times."
            )
            warn(msg)
        return min(n_others, n_permutations)

    def _reason(self, sample_key: str | None) -> str:
        if self.units.nested:
            return (
                f"every level of {named(self.within)} has one condition only. Fit again without covariates that go "
                "with the condition."
            )
        within = f" within {named(self.within)}" if self.within else ""
        way_out = "More cells are needed."
        if sample_key is not None:
            way_out = "More samples a condition are needed; without `sample_key`, single cells are permuted."
        return f"any other labels{within} are the observed groups under other names. {way_out}"


def read_permutable(
    adata: AnnData, fitted: Design, sample_key: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of the columns of a fit, unit, and which cells have both, ``(n_cells, ...)`` each; warns of no sample."""
    labels = read_labels(adata, fitted.columns, numeric=fitted.numeric)
    if sample_key is None:
        return labels.text, np.arange(adata.n_obs), labels.complete
    samples = read_labels(adata, (sample_key,))
    warn_of_missing(samples, labels.complete, "the null check")
    return labels.text, samples.text[:, 0], labels.complete & samples.complete
