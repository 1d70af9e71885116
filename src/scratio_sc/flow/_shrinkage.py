"""How groups differ in the means of the components: kept as far as cells can tell the difference from chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._columns import Column, turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow._design import Design

    Shrink = Callable[..., tuple[np.ndarray, float]]

GATE = 3.0
"""Standard deviations of its chance distribution that a distance between means has to exceed."""
SWEEPS = 20


def shrink_means(mean: np.ndarray, size: np.ndarray, *, whiten: np.ndarray) -> tuple[np.ndarray, float]:
    """Means of levels ``(n_levels, d)`` around 0, each level of so many cells ``(n_levels,)``.

    Levels that cannot be told apart share their mean; what is left is shrunk by James and Stein. `whiten (d, d)` makes
    the covariance of the cells the identity. Also what the result costs: the squared distances that it leaves
    unexplained, and for each set of levels with a mean of its own as much as the gate.
    """
    d = mean.shape[1]
    sets, z, n = [[level] for level in range(len(mean))], mean @ whiten, size.astype(float)
    expected = d + GATE * np.sqrt(2 * d)
    while len(sets) > 1:
        apart = ((z[:, None] - z) ** 2).sum(2) * (n[:, None] * n / np.maximum(n[:, None] + n, 1e-9))
        apart[np.arange(len(n)), np.arange(len(n))] = np.inf
        i, j = sorted(divmod(int(apart.argmin()), len(n)))
        if apart[i, j] > expected:
            break
        total = n[i] + n[j]
        z[i] = (n[i] * z[i] + n[j] * z[j]) / max(total, 1e-9)
        n[i] = total
        sets[i] += sets[j]
        sets.pop(j)
        z, n = np.delete(z, j, axis=0), np.delete(n, j)
    z = z - n @ z / max(n.sum(), 1e-9)
    share = n / max(n.sum(), 1e-9)
    distance = n / np.maximum(1 - share, 1e-9) * (z**2).sum(1)
    z = z * np.maximum(1 - d / np.maximum(distance, 1e-9), 0)[:, None]
    out = np.zeros_like(mean)
    for members, value in zip(sets, z, strict=True):
        out[members] = value
    left = float((size * ((mean @ whiten - out) ** 2).sum(1)).sum())
    return out @ np.linalg.inv(whiten), left + expected * (len(sets) - 1)


def shrink_trend(mean: np.ndarray, size: np.ndarray, *, whiten: np.ndarray) -> tuple[np.ndarray, float]:
    """As `shrink_means`, of a single slope ``(1, d)`` around 0: none where chance explains it."""
    d = mean.shape[1]
    distance = float(size[0] * ((mean @ whiten) ** 2).sum())
    expected = d + GATE * np.sqrt(2 * d)
    if distance <= expected:
        return np.zeros_like(mean), distance
    return mean * (1 - d / distance), d**2 / distance + expected


def mean_effects(shift: np.ndarray, size: np.ndarray, design: Design, *, precision: np.ndarray) -> np.ndarray:
    """Effect of each feature on means ``(n_groups, m, d)`` of so many cells ``(n_groups, m)``, ``(n_features, m, d)``.

    `precision (m, d, d)` is the inverse of the components' covariances.
    """
    columns = Column.all_of(design)
    effects = np.zeros((design.n_features, *shift.shape[1:]))
    whiten = np.linalg.cholesky(precision)
    for j in turns(columns, effects, n_sweeps=SWEEPS):
        column = columns[j]
        effects[column.features] = 0
        n = column.information(size)
        left = column.total(size[..., None] * (shift - _add_up(columns, effects)))
        left /= np.maximum(n, 1e-9)[..., None]
        if column.kind == "constant":
            effects[column.features] = left
        else:
            shrink = shrink_trend if column.kind == "trend" else shrink_means
            effects[column.features] = _shrunk(left, n, whiten=whiten, shrink=shrink)
    return effects


def _add_up(columns: list[Column], effects: np.ndarray) -> np.ndarray:
    """Effects ``(n_features, ...)`` of each group, ``(n_groups, ...)``."""
    first, *others = (column.spread(effects[column.features]) for column in columns)
    return sum(others, first)


def _shrunk(shift: np.ndarray, n: np.ndarray, *, whiten: np.ndarray, shrink: Shrink) -> np.ndarray:
    """Shifts ``(n_levels, m, d)`` of levels with so many cells ``(n_levels, m)``, or one slope, shrunk.

    Either each component moves by itself, or all move together first: whichever leaves less to explain.
    """
    apart, cost = _each(shift, n, whiten=whiten, shrink=shrink)
    if shift.shape[1] == 1:
        return apart
    precision = whiten @ whiten.transpose(0, 2, 1)
    together, common_cost = _common_effects(shift, n, precision=precision, shrink=shrink)
    rest, rest_cost = _each(shift - together[:, None], n, whiten=whiten, shrink=shrink)
    return together[:, None] + rest if common_cost + rest_cost < cost else apart


def _each(shift: np.ndarray, n: np.ndarray, *, whiten: np.ndarray, shrink: Shrink) -> tuple[np.ndarray, float]:
    parts = [shrink(shift[:, k], n[:, k], whiten=w) for k, w in enumerate(whiten)]
    return np.stack([part for part, _ in parts], axis=1), sum(cost for _, cost in parts)


def _common_effects(
    shift: np.ndarray, n: np.ndarray, *, precision: np.ndarray, shrink: Shrink
) -> tuple[np.ndarray, float]:
    """Shift ``(n_levels, d)`` that all components share, by generalised least squares; only the price of its sets."""
    d = shift.shape[2]
    pooled = np.einsum("lm,mde->lde", n, precision)
    pull = np.einsum("lm,mde,lme->ld", n, precision, shift)
    eye = 1e-9 * np.eye(d)
    common = np.stack([np.linalg.solve(a + eye, b) for a, b in zip(pooled, pull, strict=True)])
    total = pooled.sum(0) / max(n.sum(), 1e-9)
    shared, _ = shrink(common, n.sum(1), whiten=np.linalg.cholesky(total + eye))
    n_moved = len(np.unique(shared, axis=0)) - 1 if shrink is shrink_means else int(shared.any())
    return shared, (d + GATE * np.sqrt(2 * d)) * n_moved
