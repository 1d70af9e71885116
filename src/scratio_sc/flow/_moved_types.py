"""Components that are one type: where conditions move all cells of it, each condition has a component of its own.

Components are found without labels, so a type that moves far falls apart into one component a condition. What it looks
like under the other one is then said by a component of another type. Two components are united where sharing what their
cells scatter about the means of their own conditions loses little of the likelihood that each gives its cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import xlogy

from scratio_sc.flow._components import MERGE_RIDGE, Clusters, pulled, scatter_about
from scratio_sc.flow._mixture_fit import MIN_WEIGHT, Mixture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._components import Components
    from scratio_sc.flow._design import Design

MAX_ASKED = 20_000
"""Cells that say which components are one."""
NATS_EACH = 2.0
"""Nats that a union may lose for each parameter it saves; held-out cells say whether it serves (`_halves`)."""
EXPLAINED = (0.5, None)
"""Share of what a union loses where nothing moves that moves have to explain; none where types are coarser, too."""


@dataclass(frozen=True)
class MovedTypes:
    """Components ``m``, found without labels, the type that each belongs to ``(m,)``, and which of `EXPLAINED`."""

    components: Components
    of_component: np.ndarray
    explained: float | None

    @classmethod
    def of(
        cls,
        components: Components,
        x: Tensor,
        group: np.ndarray,
        *,
        design: Design,
        explained: Sequence[float | None] = EXPLAINED,
    ) -> list[MovedTypes]:
        """Types among the components of cells ``(n, d)`` in groups ``(n,)``, for each share that moves explain."""
        some = slice(None, None, -(-len(x) // MAX_ASKED))
        condition = design.condition_of(design.groups)[group[some]]
        types = _Types.of(x[some], components.responsibilities(x[some]), condition, n_conditions=len(design.conditions))
        return [cls(components, types.united(share), share) for share in explained]

    @property
    def are_fewer(self) -> bool:
        """Whether any components are one type."""
        return bool(self.of_component.max() + 1 < len(self.of_component))

    def are_those_of(self, other: MovedTypes) -> bool:
        """Whether the same components are one type."""
        return np.array_equal(self.of_component, other.of_component)

    def start(self, x: Tensor, group: np.ndarray, design: Design) -> Mixture:
        """A component for each type of cells ``(n, d)`` in groups ``(n,)``, which has moved if it was several."""
        features, n_types = design.features(design.groups), int(self.of_component.max()) + 1
        several = np.bincount(self.of_component) > 1
        share = self.components.responsibilities(x) @ torch.eye(n_types, dtype=x.dtype)[self.of_component]
        where = torch.as_tensor(group)
        size = torch.zeros(design.n_groups, n_types, dtype=x.dtype).index_add_(0, where, share).numpy()
        mean, scatter = np.empty((n_types, x.shape[1])), torch.empty(n_types, x.shape[1], x.shape[1], dtype=x.dtype)
        effect = np.zeros((design.n_features, *mean.shape))
        for k, mine in enumerate(share.T):
            total = torch.zeros(design.n_groups, x.shape[1], dtype=x.dtype).index_add_(0, where, x * mine[:, None])
            mean[k] = total.sum(0).numpy() / max(size[:, k].sum(), 1e-9)
            if several[k]:
                effect[:, k] = _effects(total.numpy() - size[:, k, None] * mean[k], size[:, k], features)
            moved = torch.as_tensor(features @ effect[:, k])[where]
            scatter[k] = scatter_about(torch.as_tensor(mean[k]), x - moved, mine)
        together = size.sum(0)
        covariance = pulled(scatter, torch.as_tensor(np.maximum(together, 1e-9))).numpy()
        weight = np.log(np.maximum(together / together.sum(), MIN_WEIGHT))
        return Mixture(
            np.zeros(n_types, np.int64), weight, np.zeros((design.n_features, n_types)), mean, effect, covariance
        )


def _effects(total: np.ndarray, size: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Effects ``(n_features, d)`` on sums ``(n_groups, d)`` of so many cells, by least squares; one cell holds back."""
    left = features.T @ (size[:, None] * features) + np.eye(features.shape[1])
    effects: np.ndarray = np.linalg.solve(left, features.T @ total)
    return effects


@dataclass(frozen=True)
class _Types:
    """Cells ``(n_conditions, m)`` and means ``(n_conditions, m, d)`` of types, scatter about these ``(m, d, d)``."""

    size: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, x: Tensor, share: Tensor, condition: np.ndarray, *, n_conditions: int) -> _Types:
        m, d = share.shape[1], x.shape[1]
        size, mean, scatter = np.zeros((n_conditions, m)), np.zeros((n_conditions, m, d)), np.zeros((m, d, d))
        for c in np.unique(condition):
            mine = torch.as_tensor(np.flatnonzero(condition == c))
            own = Clusters.of(x[mine], share[mine])
            size[c], mean[c] = own.size.numpy(), own.mean.numpy()
            scatter += own.scatter.numpy()
        return cls(size, mean, scatter)

    def united(self, explained: float | None) -> np.ndarray:
        """The type of each component, ``(m,)``: the two whose union loses least are united, as long as it is little.

        Moves have to explain a share of what the union loses where nothing moves; not with None.
        """
        m, d = self.mean.shape[1:]
        limit, kind = NATS_EACH * 0.5 * (d + 1) * (d + 2), np.arange(m)
        types, loss = _Types(self.size.copy(), self.mean.copy(), self.scatter.copy()), np.full((m, m), np.inf)
        for i in range(m):
            for j in range(i + 1, m):
                loss[i, j] = types._union_loss(i, j, explained=explained)
        while loss.min() < limit:
            i, j = divmod(int(loss.argmin()), m)
            types.size[:, i], types.mean[:, i], types.scatter[i] = _together(*types._both(i, j))
            kind[kind == j] = i
            loss[j] = loss[:, j] = np.inf
            for k in np.setdiff1d(kind, i):
                loss[min(i, k), max(i, k)] = types._union_loss(i, k, explained=explained)
        of_component: np.ndarray = np.unique(kind, return_inverse=True)[1]
        return of_component

    def _both(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.size[:, [i, j]], self.mean[:, [i, j]], self.scatter[[i, j]]

    def _union_loss(self, i: int, j: int, *, explained: float | None) -> float:
        """Classification likelihood that a union loses, nats; inf where moves explain too little."""
        moved = _loss(*self._both(i, j))
        if explained is None:
            return moved
        still = _loss(*_without_conditions(*self._both(i, j)))
        return moved if moved < (1 - explained) * still else np.inf


def _together(size: np.ndarray, mean: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells ``(n_conditions,)``, means ``(n_conditions, d)`` and scatter ``(d, d)`` of some types in one."""
    together = size.sum(1)
    center = np.einsum("ck,ckd->cd", size, mean) / np.maximum(together, 1e-9)[:, None]
    apart = mean - center[:, None]
    return together, center, scatter.sum(0) + np.einsum("ck,ckd,cke->de", size, apart, apart)


def _without_conditions(
    size: np.ndarray, mean: np.ndarray, scatter: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same types if their cells were all of one condition."""
    each = [_together(size[None, :, k], mean[None, :, k], scatter[k][None]) for k in range(size.shape[1])]
    together, center, about = (np.stack(part) for part in zip(*each, strict=True))
    return together.T, center.swapaxes(0, 1), about


def _loss(size: np.ndarray, mean: np.ndarray, scatter: np.ndarray) -> float:
    """Classification likelihood that types lose in one, nats."""
    together, _, about = _together(size, mean, scatter)
    return _cost(together, about) - sum(_cost(n, own) for n, own in zip(size.T, scatter, strict=True))


def _cost(size: np.ndarray, scatter: np.ndarray) -> float:
    """What a type takes from the classification likelihood, n log det(Sigma) / 2 - sum_c n_c log n_c, nats."""
    n = max(size.sum(), 1e-9)
    _, log_det = np.linalg.slogdet(scatter / n + MERGE_RIDGE * np.eye(len(scatter)))
    return float(0.5 * n * log_det - xlogy(size, size).sum())
