"""Which levels of a column share their mean in a component: those that cells cannot tell apart."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import gammaln

GATE = 3.0
"""Standard deviations of its chance distribution that a distance between means has to exceed."""
MIN_CELLS = 3
"""Fewer cells have no mean of their own, however far away: they may be of another type."""
MIN_ALIKE = 1e-3
"""Components that move less alike do not count for which levels share their mean."""
MAX_LEVELS = 400
"""Levels above which none are compared with each other, but each with what all have in common."""
MAX_ELEMENTS = 4_000_000
"""Distances of the levels in all components, seen by as many components at once."""


def gate(d: int, weight: np.ndarray | float = 1.0) -> np.ndarray:
    """What chance makes of a sum of squared distances in ``d`` dimensions, with weights ``(..., m)``, and some more."""
    total, square = np.sum(weight, axis=-1), np.sum(np.square(weight), axis=-1)
    return d * total + GATE * np.sqrt(2 * d * square)


def price(sets: np.ndarray, d: int) -> float:
    """What chance makes of the squared distances that sets ``(n_levels, m)`` explain, and some more.

    The gate of all sets but one, and their `choice` one after the other, which comes to a multinomial coefficient.
    """
    levels = np.zeros(sets.shape)
    np.add.at(levels, (sets, np.arange(sets.shape[1])), 1)
    n_more = np.maximum((levels > 0).sum(0) - 1, 0)
    choices = gammaln(len(sets) + 1) - gammaln(levels + 1).sum(0) - np.log(2) * n_more
    return float((gate(d) * n_more + 2 * choices).sum())


def choice(a: np.ndarray | float, b: np.ndarray) -> np.ndarray:
    """Squared distance that the choice of two sets of so many levels can make of chance, 2 log(ways to choose).

    By the rate-distortion function of a Gaussian (Cover & Thomas 2006), sets told in R nats explain 2 R at most.
    """
    return 2 * (gammaln(a + b + 1) - gammaln(a + 1) - gammaln(b + 1) - np.log(2))


def same_means(z: np.ndarray, n: np.ndarray, *, alike: np.ndarray) -> np.ndarray:
    """One of the levels that share their mean with each, in each component, ``(n_levels, m)``.

    Of whitened means ``(n_levels, m, d)`` of so many cells ``(n_levels, m)``. Components count the squared distances of
    others as far as they move ``alike (m, m)``.
    """
    if len(z) > MAX_LEVELS:
        return _standing_apart(z, n, alike=alike)
    both = n[:, None] * n / np.maximum(n[:, None] + n, 1e-9)
    apart = both * np.stack([cdist(own, own, "sqeuclidean") for own in z.swapaxes(0, 1)], axis=2)
    at_once = max(MAX_ELEMENTS // apart.size, 1)
    weights = np.split(alike, range(at_once, len(alike), at_once))
    return np.concatenate([_united(apart, n, weight, d=z.shape[2]) for weight in weights]).T


def _standing_apart(z: np.ndarray, n: np.ndarray, *, alike: np.ndarray) -> np.ndarray:
    """The same where levels share their mean with most, or with none if chance does not explain how far they are apart.

    Most are at the median: the mean of all would follow those that stand apart.
    """
    told = (n >= MIN_CELLS)[..., None]
    middle = np.nanmedian(np.where(told | ~told.any(0), z, np.nan), axis=0)
    found = (n * ((z - middle) ** 2).sum(2)) @ alike.T
    alone = (found > gate(z.shape[2], alike)) & (n @ alike.T >= MIN_CELLS)
    return np.where(alone, np.arange(len(z))[:, None], alone.argmin(0))


def _united(apart: np.ndarray, n: np.ndarray, weight: np.ndarray, *, d: int) -> np.ndarray:
    """The same of some components, each of which counts all by a ``weight (k, m)``, ``(k, n_levels)``.

    The closest two sets are united, as long as chance explains how far they are ``apart (n_levels, n_levels, m)`` or
    one of them has hardly any cells. Squared distances of a new set are Ward's (Lance & Williams 1967).
    """
    heard = (weight > MIN_ALIKE).any(0)
    weight = np.where(weight > MIN_ALIKE, weight, 0)[:, heard]
    k, n_levels = len(weight), len(n)
    apart, n = (np.repeat(part[..., heard][None], k, axis=0) for part in (apart, n))
    member, levels = np.tile(np.arange(n_levels), (k, 1)), np.ones((k, n_levels))
    few, most = (n * weight[:, None]).sum(2) < MIN_CELLS, gate(d, weight)[:, None]
    total = np.einsum("kijm,km->kij", apart, weight) - choice(levels[..., None], levels[:, None])
    total[(total > most[..., None]) & ~few[..., None] & ~few[:, None]] = np.inf
    total[:, np.arange(n_levels), np.arange(n_levels)] = np.inf
    nearest = total.argmin(2)
    for _ in range(n_levels - 1):
        least = np.take_along_axis(total, nearest[..., None], 2)[..., 0]
        i = least.argmin(1)
        own = np.flatnonzero(np.isfinite(least.min(1)))
        if not len(own):
            break
        i, j = i[own], nearest[own, i[own]]
        i, j = np.minimum(i, j), np.maximum(i, j)
        n_i, n_j, n_all = n[own, i][:, None], n[own, j][:, None], n[own]
        merged = (n_i + n_all) * apart[own, i] + (n_j + n_all) * apart[own, j] - n_all * apart[own, i, j][:, None]
        apart[own, i] = apart[own, :, i] = merged / np.maximum(n_i + n_j + n_all, 1e-9)
        n[own, i] += n[own, j]
        levels[own, i] += levels[own, j]
        levels[own, j] = 0
        member[own] = np.where(member[own] == j[:, None], i[:, None], member[own])
        few[own, i] = (n[own, i] * weight[own]).sum(1) < MIN_CELLS
        again = (apart[own, i] * weight[own][:, None]).sum(2) - choice(levels[own, i][:, None], levels[own])
        again[(levels[own] == 0) | ((again > most[own]) & ~few[own] & ~few[own, i][:, None])] = np.inf
        again[np.arange(len(own)), i] = np.inf
        total[own, i] = total[own, :, i] = again
        total[own, j] = total[own, :, j] = np.inf
        near = nearest[own]
        nearer = (again < least[own]) | ((again == least[own]) & (i[:, None] < near))
        lost = ((near == i[:, None]) | (near == j[:, None])) & ~nearer
        lost[np.arange(len(own)), i] = lost[np.arange(len(own)), j] = True
        nearest[own] = np.where(nearer, i[:, None], near)
        rows, columns = np.nonzero(lost)
        nearest[own[rows], columns] = total[own[rows], columns].argmin(1)
    return member
