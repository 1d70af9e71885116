"""Which slots of an AnnData the package writes."""

from __future__ import annotations

from dataclasses import dataclass

ALL_CELLS = "all cells"
"""Group of all cells, in tables and plots."""


@dataclass(frozen=True)
class FlowKeys:
    """Slots of a fitted flow."""

    uns: str

    @property
    def fold(self) -> str:
        """`obs` column with the fold of every cell, -1 for cells that were not fitted."""
        return f"{self.uns}_fold"


@dataclass(frozen=True)
class RatioKeys:
    """Slots of a log ratio; `uns` holds how it was made."""

    obs: str

    @property
    def sd(self) -> str:
        """`obs` column with the standard error."""
        return f"{self.obs}_sd"

    @property
    def extrapolated(self) -> str:
        """`obs` column that flags cells with hardly any cells of the fit nearby."""
        return f"{self.obs}_extrapolated"

    @property
    def columns(self) -> tuple[str, ...]:
        """All `obs` columns."""
        return self.obs, self.sd, self.extrapolated


@dataclass(frozen=True)
class BatchScoreKeys:
    """Slots of a batch score; `uns` holds the table and how it was made."""

    uns: str

    def score(self, use_rep: str) -> str:
        """`obs` column with the score in a representation."""
        return f"{self.uns}_{use_rep}"


@dataclass(frozen=True)
class AbundanceKeys:
    """Slots of a differential abundance analysis, beside those of its log ratio."""

    obs: str

    @property
    def ratio(self) -> RatioKeys:
        """Slots of its log ratio."""
        return RatioKeys(self.obs)

    @property
    def pvalue(self) -> str:
        """`obs` column with the p-value, by sample."""
        return f"{self.obs}_pvalue"

    @property
    def fdr(self) -> str:
        """`obs` column with the p-value adjusted for the number of neighbourhoods."""
        return f"{self.obs}_fdr"

    @property
    def change(self) -> str:
        """`obs` column with the direction of a significant change."""
        return f"{self.obs}_change"

    @property
    def side(self) -> str:
        """`obs` column with the side of the contrast that a cell is on."""
        return f"{self.obs}_side"

    @property
    def columns(self) -> tuple[str, ...]:
        """All `obs` columns, those of the log ratio first."""
        return *self.ratio.columns, self.pvalue, self.fdr, self.change, self.side
