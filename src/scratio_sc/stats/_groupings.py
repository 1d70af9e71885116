"""Other groupings of the same units, to see what comes out where conditions mean nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = math.log(1e15)
"""Log of a number beyond which nobody counts."""


@dataclass(frozen=True)
class Units:
    """Samples, or single cells, whose conditions are permuted within strata.

    Two labellings are the same grouping where one is the other under exchanged names, the same exchange in all strata:
    ctrl for stim and stim for ctrl is the observed contrast with its sign turned. Where conditions are ordered, such as
    doses, only turning the whole order round is an exchange of names.

    Attributes
    ----------
    condition
        Condition of each unit, from 0, ``(n_units,)``.
    stratum
        Stratum of each unit, from 0, ``(n_units,)``.
    ordered
        Whether the conditions are ordered.
    """

    condition: np.ndarray
    stratum: np.ndarray
    ordered: bool = False

    @property
    def nested(self) -> bool:
        """Whether every stratum has one condition only, so that nothing can be permuted."""
        return not self._compares.any()

    @property
    def paired(self) -> bool:
        """Whether strata compare pairs of units alone: exchanging one mirrors what is within its stratum."""
        return bool((self._table[self._compares].sum(1) == 2).all())

    @property
    def n_others(self) -> int:
        """How many groupings there are beside the observed one; 10^15 where there are more.

        Each has as many labellings: one for every exchange of names that keeps the numbers of units in the strata.
        """
        if self.nested:
            return 0
        table = self._table[self._compares]
        table = table[:, table.any(0)]
        log_labellings = gammaln(table.sum(1) + 1).sum() - gammaln(table + 1).sum()
        if self.ordered:
            log_names = math.log(1 + (table == table[:, ::-1]).all())
        else:
            _, n_alike = np.unique(table, axis=1, return_counts=True)
            log_names = gammaln(n_alike + 1).sum()
        return round(math.exp(min(log_labellings - log_names, MANY))) - 1

    def other_groupings(self, n_draws: int, *, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Units from which the units take their conditions ``(n_units,)``, for so many other groupings, or all.

        Any is as likely as any other, and none comes twice.
        """
        seen = {self._grouping(np.arange(len(self.stratum)))}
        for _ in range(min(n_draws, self.n_others)):
            order = self._permuted(rng)
            while (grouping := self._grouping(order)) in seen:
                order = self._permuted(rng)
            seen.add(grouping)
            yield order

    @cached_property
    def _table(self) -> np.ndarray:
        """Units of each condition in each stratum, ``(n_strata, n_conditions)``."""
        table = np.zeros((self.stratum.max() + 1, self.condition.max() + 1), np.int64)
        np.add.at(table, (self.stratum, self.condition), 1)
        return table

    @cached_property
    def _compares(self) -> np.ndarray:
        """Which strata have several conditions ``(n_strata,)``; names that the others keep do not matter."""
        several: np.ndarray = (self._table > 0).sum(1) > 1
        return several

    def _permuted(self, rng: np.random.Generator) -> np.ndarray:
        order = np.empty(len(self.stratum), np.int64)
        for s in range(self.stratum.max() + 1):
            rows = np.flatnonzero(self.stratum == s)
            order[rows] = rng.permutation(rows)
        return order

    def _grouping(self, order: np.ndarray) -> int:
        """The same number for the same grouping; a hash, as there may be millions of cells."""
        names, first, code = np.unique(
            self.condition[order][self._compares[self.stratum]], return_index=True, return_inverse=True
        )
        if self.ordered:
            return hash(min(code.tobytes(), (len(names) - 1 - code).tobytes()))
        by_appearance = np.argsort(np.argsort(first))
        return hash(by_appearance[code].tobytes())
