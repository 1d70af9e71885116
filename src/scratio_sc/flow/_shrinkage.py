"""How groups differ in the means of the components: kept as far as cells can tell the difference from chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._columns import Column, turns
from scratio_sc.flow._gain import CLEARLY
from scratio_sc.flow._same_means import MIN_CELLS, gate, price, same_means

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow._design import Design

    Shrink = Callable[..., tuple[np.ndarray, float]]

DECIMALS = 9
"""To which means are the same if levels share them."""
SWEEPS = 20


def shrink_means(
    mean: np.ndarray, size: np.ndarray, *, whiten: np.ndarray, alike: np.ndarray
) -> tuple[np.ndarray, float]:
    """Means of levels ``(n_levels, m, d)`` around 0 in each component, of so many cells ``(n_levels, m)``.

    Levels that cannot be told apart in a component share their mean there; what is left is shrunk by James and Stein.
    Components count the squared distances of others as far as they move ``alike (m, m)``. `whiten (m, d, d)` makes the
    covariances of the cells the identity. Also what the result costs: the squared distances that it leaves unexplained,
    and what the sets would explain of chance.
    """
    d, n, whitened = mean.shape[2], size.astype(float), np.einsum("lmd,mde->lme", mean, whiten)
    sets = same_means(whitened, n, alike=alike)
    cells = _over_sets(n, sets)
    z = _over_sets(n[..., None] * whitened, sets) / np.maximum(cells, 1e-9)[..., None]
    total = np.maximum(n.sum(0), 1e-9)
    center = (n[..., None] * z).sum(0) / total[:, None]
    z = np.where((sets == sets[0]).all(0)[:, None], 0, z - center)
    distance = cells / np.maximum(1 - cells / total, 1e-9) * (z**2).sum(2)
    # levels of a set have to be shrunk alike, though other components may tell them apart
    found = _over_sets(n * (distance @ alike.T), sets) / np.maximum(cells, 1e-9)
    z *= _james_stein(found, alike, d=d)[..., None]
    left = (n * ((whitened - z) ** 2).sum(2)).sum()
    return np.einsum("lme,med->lmd", z, np.linalg.inv(whiten)), float(left) + price(sets, d)


def _over_sets(values: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Sum of values ``(n_levels, m, ...)`` over the set of each level in each component, for every level."""
    out, component = np.zeros_like(values), np.arange(sets.shape[1])
    np.add.at(out, (sets, component), values)
    return out[sets, component]


def _james_stein(found: np.ndarray, alike: np.ndarray, *, d: int) -> np.ndarray:
    """Share of the moves to keep, of squared distances ``(..., m)`` found by components that move ``alike (m, m)``."""
    share: np.ndarray = np.maximum(1 - d * alike.sum(1) / np.maximum(found, 1e-9), 0)
    return share


def shrink_trend(
    mean: np.ndarray, size: np.ndarray, *, whiten: np.ndarray, alike: np.ndarray
) -> tuple[np.ndarray, float]:
    """As `shrink_means`, of a single slope ``(1, m, d)`` around 0: none where chance explains it."""
    d = mean.shape[2]
    distance = size[0] * np.square(np.einsum("md,mde->me", mean[0], whiten)).sum(1)
    found = alike @ distance
    kept = found > gate(d, alike)
    shrink = np.where(kept, _james_stein(found, alike, d=d), 0)
    cost = (distance * (1 - shrink) ** 2).sum() + gate(d) * kept.sum()
    return mean * shrink[:, None], float(cost)


def mean_effects(
    shift: np.ndarray, size: np.ndarray, design: Design, *, precision: np.ndarray, alike: np.ndarray
) -> np.ndarray:
    """Effect of each feature on means ``(n_groups, m, d)`` of so many cells ``(n_groups, m)``, ``(n_features, m, d)``.

    `precision (m, d, d)` is the inverse of the components' covariances, `alike (m, m)` how far they share how much
    they move.
    """
    columns = Column.all_of(design)
    effects = np.zeros((design.n_features, *shift.shape[1:]))
    whiten = np.linalg.cholesky(precision)
    for j in turns(columns, effects, n_sweeps=SWEEPS):
        column = columns[j]
        effects[column.features] = 0
        left, n = _of_levels(column, shift - _add_up(columns, effects), size)
        if column.kind == "constant":
            effects[column.features] = left
        else:
            shrink = shrink_trend if column.kind == "trend" else shrink_means
            effects[column.features] = _shrunk(left, n, whiten=whiten, alike=alike, shrink=shrink)
    return effects


def hidden_moves(
    shift: np.ndarray, effects: np.ndarray, *, size: np.ndarray, design: Design, precision: np.ndarray
) -> np.ndarray:
    """Squares of the moves that shrinking withheld of the effects, whitened, ``(n_features, m)``; as `mean_effects`."""
    columns, whiten = Column.all_of(design), np.linalg.cholesky(precision)
    left = shift - _add_up(columns, effects)
    out = np.zeros(effects.shape[:2])
    for column in columns:
        if column.kind == "constant":
            continue
        kept = effects[column.features]
        found, n = _of_levels(column, left + column.spread(kept), size)
        found, kept = (np.einsum("lmd,mde->lme", part, whiten) for part in (found, kept))
        share = np.zeros_like(n) if column.kind == "trend" else n / np.maximum(n.sum(0), 1e-9)
        out[column.features] = _hidden(found, kept, n, share=share)
    return out


def _hidden(found: np.ndarray, kept: np.ndarray, n: np.ndarray, *, share: np.ndarray) -> np.ndarray:
    """Squares of what is not kept of whitened moves ``found (n_levels, m, d)``, of so many cells ``(n_levels, m)``.

    A set of levels of which the share B is kept lies (1 - B) times its move off, a level of it by as much as it differs
    from the set, and chance adds to both. Levels whose components are together no further off than chance makes them
    hide nothing. Levels have such a ``share (n_levels, m)`` of the cells about which they move; the squares are of
    moves about what they have in common, of one size in all components.
    """
    d, heard = found.shape[2], n >= MIN_CELLS
    each = (np.unique(own.round(DECIMALS), axis=0, return_inverse=True)[1].reshape(-1) for own in kept.swapaxes(0, 1))
    sets = np.stack([*each], axis=1)
    cells = np.maximum(_over_sets(n, sets), 1e-9)
    mean = _over_sets(n[..., None] * found, sets) / cells[..., None]
    lost = np.clip(1 - (mean * kept).sum(2) / np.maximum((mean**2).sum(2), 1e-12), 0, 1) ** 2
    variance = lost * (1 - _over_sets(share, sets)) / cells + 1 / np.maximum(n, 1e-9) - 1 / cells
    weight = np.where(heard, n, 0)
    excess = (weight * (((found - kept) ** 2).sum(2) - d * variance)).sum(1)
    clear = excess > CLEARLY * np.sqrt(2 * d * np.square(weight * variance).sum(1))
    hidden = 1 - (1 - lost) * _over_sets((n / cells) ** 2, sets)
    size = (1 - share) ** 2 + np.square(share).sum(0) - np.square(share)
    square = excess / np.maximum((weight * size * hidden).sum(1), 1e-9)
    return hidden * np.where(clear, square, 0)[:, None]


def _of_levels(column: Column, shift: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift ``(n_levels, m, d)`` of each level by those of its groups, and of how many cells ``(n_levels, m)``."""
    n = column.information(size)
    return column.total(size[..., None] * shift) / np.maximum(n, 1e-9)[..., None], n


def _add_up(columns: list[Column], effects: np.ndarray) -> np.ndarray:
    """Effects ``(n_features, ...)`` of each group, ``(n_groups, ...)``."""
    first, *others = (column.spread(effects[column.features]) for column in columns)
    return sum(others, first)


def _shrunk(shift: np.ndarray, n: np.ndarray, *, whiten: np.ndarray, alike: np.ndarray, shrink: Shrink) -> np.ndarray:
    """Shifts ``(n_levels, m, d)`` of levels with so many cells ``(n_levels, m)``, or one slope, shrunk.

    Either each component moves by itself, or all move together first: whichever leaves less to explain.
    """
    apart, cost = shrink(shift, n, whiten=whiten, alike=alike)
    if shift.shape[1] == 1:
        return apart
    precision = whiten @ whiten.transpose(0, 2, 1)
    together, common_cost = _common_effects(shift, n, precision=precision, shrink=shrink)
    rest, rest_cost = shrink(shift - together, n, whiten=whiten, alike=alike)
    return together + rest if common_cost + rest_cost < cost else apart


def _common_effects(
    shift: np.ndarray, n: np.ndarray, *, precision: np.ndarray, shrink: Shrink
) -> tuple[np.ndarray, float]:
    """Shift ``(n_levels, 1, d)`` that all components share, by generalised least squares; the price of its sets."""
    d = shift.shape[2]
    pooled = np.einsum("lm,mde->lde", n, precision)
    pull = np.einsum("lm,mde,lme->ld", n, precision, shift)
    eye = 1e-9 * np.eye(d)
    common = np.stack([np.linalg.solve(a + eye, b) for a, b in zip(pooled, pull, strict=True)])
    total = pooled.sum(0) / max(n.sum(), 1e-9)
    whiten = np.linalg.cholesky(total + eye)[None]
    shared, _ = shrink(common[:, None], n.sum(1, keepdims=True), whiten=whiten, alike=np.ones((1, 1)))
    if shrink is shrink_trend:
        return shared, float(gate(d)) * int(shared.any())
    return shared, price(np.unique(shared, axis=0, return_inverse=True)[1].reshape(-1, 1), d)
