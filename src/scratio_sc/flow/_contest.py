"""Cells whose labels are asked, and the conditions that compete for them: those of the same covariates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from scratio_sc.flow._folds import in_turn

if TYPE_CHECKING:
    from torch import Tensor

    from scratio_sc.flow._design import Design

MAX_CELLS, MIN_CELLS, MAX_SCORES = 50_000, 10_000, 400_000
"""Cells that are asked, and cells times conditions."""


@dataclass(frozen=True)
class Contest:
    """Cells and who competes for them.

    Attributes
    ----------
    x
        Cells ``(n, d)``.
    rivals
        The group of each condition that shares the cell's covariates, ``(n, n_conditions)``; any where there is none.
    log_prior
        Log frequencies of the rivals ``(n, n_conditions)``, -inf where there is none.
    own
        Condition of each cell ``(n,)``.
    """

    x: Tensor
    rivals: Tensor
    log_prior: Tensor
    own: Tensor

    @classmethod
    def of(cls, x: Tensor, group: np.ndarray, design: Design) -> Contest:
        """Of cells ``(n, d)`` in groups ``(n,)``; of many, the same part of every group, whatever groups are called."""
        stratum, condition = design.stratum, design.condition_of(design.groups)
        table = np.full((stratum.max() + 1, len(design.conditions)), -1)
        table[stratum, condition] = np.arange(design.n_groups)
        size = np.where(table >= 0, np.bincount(group, minlength=design.n_groups)[table], 0)
        with np.errstate(divide="ignore"):
            log_prior = np.log(size / np.maximum(size.sum(1, keepdims=True), 1))
        most = np.clip(MAX_SCORES // table.shape[1], MIN_CELLS, MAX_CELLS)
        order, _ = in_turn(group)
        asked = order[:: max(-(-len(x) // most), 1)]
        of_cells = group[asked]
        parts = np.maximum(table, 0)[stratum[of_cells]], log_prior[stratum[of_cells]], condition[of_cells]
        return cls(x[torch.as_tensor(asked)], *(torch.as_tensor(part) for part in parts))
