"""The columns of a design as levels of groups, and the order in which their effects are fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scratio_sc.flow._design import Design


TOLERANCE = 1e-8


@dataclass(frozen=True)
class Column:
    """Which features of a design belong together, and what each group has of them (see `Term`)."""

    start: int
    n_levels: int
    level: np.ndarray
    weight: np.ndarray
    kind: str

    @classmethod
    def all_of(cls, design: Design) -> list[Column]:
        """The terms of a design; what explains the rest comes last."""
        out, start = [], 0
        for term in design.terms(design.groups):
            out.append(cls(start, term.n_levels, term.level, term.weight, term.kind))
            start += term.n_levels
        return out

    @property
    def features(self) -> slice:
        """Where its features are."""
        return slice(self.start, self.start + self.n_levels)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Weighted sums over the groups of each level, ``(n_levels, ...)``."""
        out = np.zeros((self.n_levels, *values.shape[1:]))
        np.add.at(out, self.level, self._weighted(values))
        return out

    def information(self, values: np.ndarray) -> np.ndarray:
        """The same with squared weights: what groups of that information tell of the effects."""
        return self.total(self._weighted(values))

    def spread(self, effects: np.ndarray) -> np.ndarray:
        """What effects ``(n_levels, ...)`` add to each group, ``(n_groups, ...)``."""
        return self._weighted(effects[self.level])

    def _weighted(self, values: np.ndarray) -> np.ndarray:
        return self.weight.reshape(-1, *[1] * (values.ndim - 1)) * values


def turns(columns: Sequence[Column], effects: np.ndarray, *, n_sweeps: int) -> Iterator[int]:
    """Columns to fit one after the other, until the effects stay; last the one for what is left of all others.

    The effects are changed in between.
    """
    main = [j for j, column in enumerate(columns) if column.kind != "rest"]
    for _ in range(n_sweeps if len(main) > 1 else 1):
        before = effects.copy()
        yield from main
        if np.abs(effects - before).max(initial=0) < TOLERANCE:
            break
    yield from (j for j, column in enumerate(columns) if column.kind == "rest")
