"""What a flow answers: log ratios of cells, and how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LogRatio:
    """Log ratios of some cells.

    Attributes
    ----------
    value
        log p(x | target) / p(x | reference), nats, ``(n,)``.
    sd
        Standard error of `value`, nats, ``(n,)``; NaN for a flow of one member.
    far
        Whether each side, the target first, has hardly any cells of the fit nearby, ``(n, n_sides)``.
    weights
        Weight of each node of the log likelihood, ``(n_nodes,)``.
    """

    value: np.ndarray
    sd: np.ndarray
    far: np.ndarray
    weights: np.ndarray

    @property
    def extrapolated(self) -> np.ndarray:
        """Whether one of the sides has hardly any cells of the fit nearby, ``(n,)``."""
        return np.asarray(self.far.any(1))
