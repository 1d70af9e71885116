"""A column of numbers: its bins, which count as groups of cells, and the functions of it that groups depend on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_BINS = 10
MAX_SHAPES = 5
"""Functions at most: the straight line and polynomials of the rank, from smooth to rough."""
COLLINEAR = 0.3
"""Deviation from the straight line, as a share of its own, from which the rank itself says something new."""
ROUNDING = 1e-6
MARGIN = 0.01
"""Share of the range of the fit by which a number may lie beyond it."""


@dataclass(frozen=True)
class Numeric:
    """Bins of a column of numbers, and smooth functions ("shapes") of its values.

    The first shape is the straight line. The others bend at the bins' values, are straight in between, and stay what
    they are beyond the numbers of the fit. Over the bins, weighted by their cells, all have mean 0, variance 1 and no
    correlation.

    Attributes
    ----------
    edges
        Upper ends of the bins but the last, ``(n_bins - 1,)``.
    value
        Median of the cells of each bin, ``(n_bins,)``: a single number far away does not bend the bin.
    shapes
        The functions at the bins' values, ``(n_bins, n_shapes)``.
    low, high
        Smallest and largest number of the fit.
    """

    edges: np.ndarray
    value: np.ndarray
    shapes: np.ndarray
    low: float
    high: float

    @classmethod
    def of(cls, numbers: np.ndarray) -> Numeric:
        """Bins of cells with these numbers ``(n,)``: one for each number, or quantiles where there are too many."""
        distinct = np.unique(numbers)
        if len(distinct) <= MAX_BINS:
            middle = distinct[:-1] + np.diff(distinct) / 2
            edges = np.where(middle < distinct[1:], middle, distinct[:-1])
        else:
            edges = np.unique(np.quantile(numbers, np.arange(1, MAX_BINS) / MAX_BINS, method="lower"))
            edges = edges[edges < distinct[-1]]
            edges = edges if len(edges) else distinct[-2:-1]  # nearly all cells have the largest number
        bins = np.searchsorted(edges, numbers)
        size = np.bincount(bins)
        _, first = np.unique(np.searchsorted(edges, distinct), return_index=True)
        lowest, highest = distinct[first], distinct[np.r_[first[1:], len(distinct)] - 1]
        # rounding may take the median of two numbers into the next bin
        values = np.clip([np.median(numbers[bins == b]) for b in range(len(size))], lowest, highest)
        return cls(edges, values, _shapes(values, size / size.sum()), float(distinct[0]), float(distinct[-1]))

    def bin_of(self, numbers: np.ndarray) -> np.ndarray:
        """Bin that holds each number ``(m,)``; the outermost one beyond the fit."""
        return np.searchsorted(self.edges, numbers)

    def covers(self, numbers: np.ndarray) -> np.ndarray:
        """Whether each number ``(m,)`` lies within the range of the fit, give or take a margin; NaN does not."""
        margin = MARGIN * (self.high - self.low)
        return (numbers >= self.low - margin) & (numbers <= self.high + margin)

    def at(self, numbers: np.ndarray) -> np.ndarray:
        """The shapes at any numbers ``(m,)``, ``(m, n_shapes)``."""
        knots = np.r_[self.low, self.value, self.high]
        slopes = np.diff(self.shapes, axis=0) / np.diff(self.value)[:, None]
        first = self.shapes[0] + (self.low - self.value[0]) * slopes[0]
        last = self.shapes[-1] + (self.high - self.value[-1]) * slopes[-1]
        heights = np.vstack([first, self.shapes, last])
        out = np.stack([np.interp(numbers, knots, height) for height in heights.T], axis=1)
        out[:, 0] = self.shapes[0, 0] + slopes[0, 0] * (numbers - self.value[0])
        return out


def _shapes(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Orthonormal functions of bins that hold such shares of the cells ``(n_bins,)``, from smooth to rough."""
    n = len(values)
    rank, found = np.linspace(-1, 1, n), [np.ones(n)]
    for candidate in (values, rank, *(rank**power for power in range(2, n))):
        rest = candidate - share @ candidate
        rest /= np.sqrt(share @ rest**2)
        for _ in range(2):  # once more, for what rounding left
            rest = rest - sum(share @ (rest * other) * other for other in found)
        norm = np.sqrt(share @ rest**2)
        if len(found) < min(MAX_SHAPES + 1, n) and norm > (COLLINEAR if candidate is rank else ROUNDING):
            found.append(rest / norm)
    return np.stack(found[1:], axis=1)
