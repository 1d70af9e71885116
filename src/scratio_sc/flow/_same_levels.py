"""Which levels of a column change the proportions alike: they share their effects, as one level of all their cells."""

from __future__ import annotations

from itertools import combinations

import numpy as np

MAX_LEVELS = 20
"""Levels above which none are looked for: of many, sizes that differ say which do nothing (`_sizes`)."""
BROAD = 10.0
RIDGE = 1e-3


def together(values: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Sums of values ``(n_levels, ...)`` over the levels of each set ``(n_sets, ...)``."""
    out = np.zeros((int(sets.max()) + 1, *values.shape[1:]))
    np.add.at(out, sets, values)
    return out


def same_levels(information: np.ndarray, pull: np.ndarray, *, root: np.ndarray) -> tuple[np.ndarray, float]:
    """Set of each level, of all that have the same effects, ``(n_levels,)``; two sets at least.

    The closest two are united, as long as that makes the labels likelier and by more than the choice of two costs.
    Also by how much in all, nats.
    Of each level cells tell ``pull (n_levels, m)`` = information times estimate, with ``information (n_levels, m, m)``;
    effects of a set are N(0, R R^T) about those of all, which are unknown.
    """
    sets, gained = np.arange(len(pull)), 0.0
    best = _evidence(information, pull, root) if len(pull) > 2 else 0.0
    while len(pull) > 2:
        pairs = [*combinations(range(len(pull)), 2)]
        one, other = min(pairs, key=lambda pair: _distance(information, pull, [*pair]))
        levels = np.arange(len(pull))
        _, united = np.unique(np.where(levels == other, one, levels), return_inverse=True)
        information, pull = together(information, united), together(pull, united)
        last, best = best, _evidence(information, pull, root)
        gain = best - last - np.log(len(pairs))
        if gain <= 0:
            break
        sets, gained = united[sets], gained + gain
    return sets, gained


def _distance(information: np.ndarray, pull: np.ndarray, pair: list[int]) -> float:
    """Squared distance between the estimates of two levels, in standard errors."""
    information, pull = (np.concatenate([part[pair], part[pair].sum(0)[None]]) for part in (information, pull))
    steady = information + np.eye(pull.shape[1]) / BROAD**2
    one, other, both = (pull * np.linalg.solve(steady, pull[..., None])[..., 0]).sum(1)
    return float(one + other - both)


def _evidence(information: np.ndarray, pull: np.ndarray, root: np.ndarray) -> float:
    """Log marginal likelihood of the estimates of levels, up to a constant of the cells.

    With information I, pull p and C = R R^T, a level adds b^T p - b^T I b / 2 + r^T (I + C^-1)^-1 r / 2
    - log det(1 + C I) / 2, r = p - I b, where b is what all have in common. It has a flat prior and is integrated out.
    """
    value, vector = np.linalg.eigh(root.T @ information @ root)
    value = np.maximum(value, 0)
    into, along = information @ root @ vector, (pull[:, None] @ root @ vector)[:, 0]
    kept = 1 / (1 + value)
    unexplained = information - (into * kept[:, None]) @ into.swapaxes(1, 2)
    rest = pull - (into @ (kept * along)[..., None])[..., 0]
    of_all, in_common = unexplained.sum(0) + RIDGE * np.eye(len(root)), rest.sum(0)
    explained = (along**2 * kept).sum() + in_common @ np.linalg.solve(of_all, in_common)
    return float(explained - np.log1p(value).sum() - np.linalg.slogdet(of_all)[1]) / 2
