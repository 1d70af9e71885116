"""Cell types without labels: a Gaussian mixture fitted by expectation-maximisation, and the tree in which they merge.

More components than needed are fitted first, then merged two by two (Fraley & Raftery 1998), each time the pair whose
classification likelihood loses least. How many remain is chosen by the likelihood of cells that were held out. Merging
escapes the local optima that a fit with the right number of components from the start is caught in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from scratio_sc.flow._gain import CLEARLY, is_clear
from scratio_sc.flow._threads import in_shares

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_COMPONENTS = 40
MAX_SEARCHED = 10_000
MIN_JUDGED, MAX_JUDGED = 10, 5_000
MAX_SWEEPS = 30
SWEEPS_PER_MERGE = 3
PATIENCE = 4
TOLERANCE = 1e-3
MIN_SHARE = 1e-6
VARIANCE_FLOOR = 1e-6
MERGE_RIDGE = 1e-4
"""Variance added where clusters are compared: one of few cells in a plane would seem infinitely dense."""
MAX_APART = 1e3
MAX_RATIO = 0.5
"""Dimensions per cell up to which eigenvalues are shrunk nonlinearly."""
MANY_PRODUCTS = 50_000_000
"""Products of two numbers from which on distances are worth several threads."""
ROWS_AT_ONCE = 512
"""Cells whose distances from all components fit the cache of a processor."""


@dataclass(frozen=True)
class Components:
    """Weights ``(m,)``, means ``(m, d)`` and covariances ``(m, d, d)`` of a Gaussian mixture, float64."""

    weight: Tensor
    mean: Tensor
    covariance: Tensor

    def log_joint(self, x: Tensor) -> Tensor:
        """Log of weight times density of cells ``(n, d)`` under each component, ``(n, m)``."""
        return component_log_density(x, self.mean, self.covariance) + self.weight.log()

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Log density of cells, ``(n,)``."""
        return self.log_joint(x).logsumexp(1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Probability that a cell stems from each component, ``(n, m)``."""
        return self.log_joint(x).softmax(1)


def whitening(factor: Tensor) -> Tensor:
    """What makes covariances of Cholesky factors ``(m, d, d)`` the identity, from the right, ``(m, d, d)``."""
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype).expand_as(factor)
    return torch.linalg.solve_triangular(factor, eye, upper=False).mT


@dataclass(frozen=True)
class Shapes:
    """What makes covariances of components the identity ``(m, d, d)``, and log densities at their means ``(m,)``."""

    whiten: Tensor
    peak: Tensor

    @classmethod
    def of(cls, covariance: Tensor) -> Shapes:
        """Of covariances ``(m, d, d)``."""
        factor = torch.linalg.cholesky(covariance)
        log_root = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return cls(whitening(factor), -log_root - 0.5 * factor.shape[-1] * math.log(2 * math.pi))

    def log_density(self, x: Tensor, mean: Tensor) -> Tensor:
        """Log density of cells ``(n, d)`` under Gaussians of such shapes about means ``(m, d)``, nats, ``(n, m)``."""
        whiten = self.whiten.permute(1, 0, 2).reshape(x.shape[1], -1)
        offset = (mean[:, None] @ self.whiten).reshape(-1)
        out = x.new_empty(len(x), len(mean))

        def measure(blocks: Sequence[tuple[Tensor, Tensor]]) -> None:
            # one memory for all blocks: that of a new one would be taken from the system, and given back, each time
            apart = x.new_empty(min(ROWS_AT_ONCE, len(x)), whiten.shape[1])
            for cells, distance in blocks:
                block = torch.addmm(-offset, cells, whiten, out=apart[: len(cells)]).square_()
                torch.sum(block.view(len(cells), *mean.shape), -1, out=distance)

        blocks = [*zip(x.split(ROWS_AT_ONCE), out.split(ROWS_AT_ONCE), strict=True)]
        in_shares(measure, blocks, large=len(x) * whiten.numel() > MANY_PRODUCTS)
        return self.peak - 0.5 * out


def component_log_density(x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Log density of cells ``(n, d)`` under Gaussians ``(m, d)``, ``(m, d, d)``, nats, ``(n, m)``."""
    return Shapes.of(covariance).log_density(x, mean)


@dataclass(frozen=True)
class Clusters:
    """Size ``(m,)``, mean ``(m, d)`` and scatter about the mean ``(m, d, d)`` of soft clusters."""

    size: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, x: Tensor, share: Tensor) -> Clusters:
        size = share.sum(0).clamp(min=1e-9)
        mean = (share.T @ x) / size[:, None]
        return cls(size, mean, torch.stack([scatter_about(m, x, share[:, k]) for k, m in enumerate(mean)]))

    def components(self) -> Components:
        """Each covariance is pulled towards the pooled one, as if by ``d`` cells of it."""
        return Components(self.size / self.size.sum(), self.mean, pulled(self.scatter, self.size))

    def losses(self) -> Tensor:
        """Classification likelihood that merging each pair loses, ``(m, m)``."""
        n = self.size[:, None] + self.size
        own, both = self.size * self._log_det(self.scatter, self.size), torch.empty_like(n)
        for size, mean, scatter, together, out in zip(self.size, self.mean, self.scatter, n, both, strict=True):
            apart, reduced = self.mean - mean, (size * self.size / together)[:, None, None]
            merged = self.scatter + scatter + reduced * apart[:, :, None] * apart[:, None]
            out[:] = together * self._log_det(merged, together)
        entropy = self.size * self.size.log()
        loss = 0.5 * (both - own[:, None] - own) + entropy[:, None] + entropy - n * n.log()
        return loss.fill_diagonal_(math.inf)

    def pairs(self, *, most: int | None = None) -> list[tuple[int, int]]:
        """The pair that loses least, and with it others that lose less than a nat per parameter they save."""
        m, d = self.mean.shape
        loss, found = self.losses(), list[tuple[int, int]]()
        for flat in loss.flatten().argsort().tolist():
            i, j = sorted(divmod(flat, m))
            redundant = loss[i, j] < 0.5 * (d + 1) * (d + 2)
            if found and (not redundant or len(found) >= (m // 4 if most is None else most)):
                break
            if not any({i, j} & {*pair} for pair in found):
                found.append((i, j))
        return found

    def merged(self, pairs: list[tuple[int, int]]) -> Clusters:
        """The clusters with the second of each pair merged into the first."""
        share = torch.eye(len(self.size), dtype=self.size.dtype)
        for i, j in pairs:
            share[j, j], share[j, i] = 0, 1
        share = share[:, share.sum(0) > 0]
        size = self.size @ share
        mean = (share * self.size[:, None]).T @ self.mean / size[:, None]
        apart = [self.mean - centre for centre in mean]
        between = [(each * mine[:, None]).T @ each for each, mine in zip(apart, share.T * self.size, strict=True)]
        return Clusters(size, mean, torch.einsum("ij,ide->jde", share, self.scatter) + torch.stack(between))

    @staticmethod
    def _log_det(scatter: Tensor, size: Tensor) -> Tensor:
        eye = torch.eye(scatter.shape[-1], dtype=scatter.dtype)
        return torch.logdet(scatter / size[..., None, None] + MERGE_RIDGE * eye)


def scatter_about(mean: Tensor, x: Tensor, share: Tensor) -> Tensor:
    """Scatter ``(d, d)`` about a mean ``(d,)`` of cells ``(n, d)`` that have a share ``(n,)``."""
    inside = torch.nonzero(share > MIN_SHARE)[:, 0]  # most cells lie in one or two clusters
    apart = x[inside] - mean
    return (apart * share[inside, None]).T @ apart


def pulled(scatter: Tensor, size: Tensor) -> Tensor:
    """Covariances of scatters ``(m, d, d)`` to start a fit from, pulled towards the pooled one as if by ``d`` cells."""
    d = scatter.shape[-1]
    pooled = scatter.sum(0) / size.sum()
    covariance = (scatter + d * pooled) / (size + d)[:, None, None]
    return covariance + VARIANCE_FLOOR * torch.eye(d, dtype=scatter.dtype)


def nonlinear_shrinkage(covariance: np.ndarray, n_cells: np.ndarray) -> np.ndarray:
    """Covariances ``(..., d, d)`` with their eigenvalues shrunk nonlinearly (Ledoit & Wolf 2020, analytical).

    Eigenvalues that lie closer together than so many cells ``(...)`` can tell are drawn together, which takes most of
    the noise out of their eigenvectors. Covariances of too few cells stay as they are.
    """
    value, vector = np.linalg.eigh(covariance)
    n = np.maximum(np.asarray(n_cells, float), 1.0)[..., None]
    ratio = value.shape[-1] / n
    width = n[..., None] ** (-1 / 3) * value[..., None, :]
    apart = (value[..., :, None] - value[..., None, :]) / width
    root = math.sqrt(5)
    density = (0.75 / root * np.maximum(1 - apart**2 / 5, 0) / width).mean(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = (1 - apart**2 / 5) * np.log(np.abs((root - apart) / (root + apart)))
        # far away the two terms cancel to -1 / apart, which has to be said outright
        near = -0.3 * apart + 0.75 / root * np.where(np.isfinite(log), log, 0)
        kernel = np.where(np.abs(apart) > MAX_APART, -1 / apart, near)
    hilbert = (kernel / math.pi / width).mean(-1)
    real = 1 - ratio - math.pi * ratio * value * hilbert
    shrunken = value / ((math.pi * ratio * value * density) ** 2 + real**2)
    shrunken = np.where(ratio < MAX_RATIO, shrunken, value)
    return (vector * shrunken[..., None, :]) @ np.swapaxes(vector, -1, -2)


def by_group(x: Tensor, group: np.ndarray) -> Iterator[tuple[int, Tensor]]:
    """Cells ``(n, d)`` of each group ``(n,)`` that has any."""
    groups, size = np.unique(group, return_counts=True)
    order = torch.as_tensor(np.argsort(group, kind="stable"))
    yield from ((g, x[rows]) for g, rows in zip(groups.tolist(), order.split(size.tolist()), strict=True))


def gaussian_groups(x: Tensor, group: np.ndarray) -> list[Components]:
    """Cells as one Gaussian a group, with a covariance that all share, and with a covariance of their own."""
    size, *moments = zip(*((len(cells), *_moments(cells)) for _, cells in by_group(x, group)), strict=True)
    own = Clusters(torch.tensor(size, dtype=x.dtype), *map(torch.stack, moments)).components()
    shared = torch.einsum("m,mde->de", own.weight, own.covariance).expand_as(own.covariance)
    return [Components(own.weight, own.mean, shared), own]


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(d,)`` of cells ``(n, d)`` and scatter about it ``(d, d)``."""
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean)


def find_components(
    x: Tensor,
    judge: Tensor,
    *,
    rivals: Sequence[Components],
    finer: int = 1,
    rng: np.random.Generator,
) -> Components:
    """Mixture of cells ``(n, d)``, of as many components as explain the cells ``judge`` best.

    Components are merged from `MAX_COMPONENTS`, or ``finer`` times as many. Of many cells, a random part is looked at.
    A single component where the best mixture does not explain cells clearly better than each of the ``rivals``.
    """
    x = x[torch.as_tensor(rng.permutation(len(x))[: min(finer, 2) * MAX_SEARCHED])]
    judge = judge[torch.as_tensor(rng.permutation(len(judge))[:MAX_JUDGED])]
    single = Clusters.of(x, torch.ones(len(x), 1, dtype=x.dtype)).components()
    if len(judge) < MIN_JUDGED:
        return single
    n_start = int(np.clip(len(x) // max(x.shape[1], 20), 1, finer * MAX_COMPONENTS))
    share = _first_shares(x, n_start, rng=rng)
    clusters = _sweep(x, Clusters.of(x, share), MAX_SWEEPS // finer)
    path = [clusters.components()]
    scores = [path[0].log_likelihood(judge)]
    best = 0
    while len(clusters.size) > 1 and len(path) - 1 - best < PATIENCE:
        clusters = _sweep(x, clusters.merged(clusters.pairs()), SWEEPS_PER_MERGE)
        path.append(clusters.components())
        scores.append(path[-1].log_likelihood(judge))
        best = max(range(len(scores)), key=lambda s: float(scores[s].mean()))
    gains = [scores[best] - rival.log_likelihood(judge) for rival in rivals]
    return path[best] if all(is_clear(gain.numpy(), n_errors=CLEARLY) for gain in gains) else single


def _sweep(x: Tensor, clusters: Clusters, n_sweeps: int) -> Clusters:
    last = -math.inf
    for _ in range(n_sweeps):
        joint = clusters.components().log_joint(x)
        total = joint.logsumexp(1, keepdim=True)
        share = (joint - total).exp()
        share = share[:, share.sum(0) > x.shape[1] / 2 + 1] if share.shape[1] > 1 else share
        share = share / share.sum(1, keepdim=True).clamp(min=1e-300)
        clusters = Clusters.of(x, share)
        if float(total.mean()) - last < TOLERANCE:
            break
        last = float(total.mean())
    return clusters


def _first_shares(x: Tensor, k: int, *, rng: np.random.Generator) -> Tensor:
    """Nearest of ``k`` centres, spread out greedily (k-means++) and moved a few times to their cells."""
    centres = x[[int(rng.integers(len(x)))]]
    nearest = (x - centres[0]).square().sum(1)
    for _ in range(k - 1):
        if not nearest.any():
            break  # every cell is a centre
        drawn = rng.choice(len(x), 4, p=nearest.numpy() / nearest.sum().item())
        tried = [torch.minimum(nearest, (x - x[i]).square().sum(1)) for i in drawn]
        best = min(range(len(tried)), key=lambda t: float(tried[t].sum()))
        centres, nearest = torch.cat([centres, x[[int(drawn[best])]]]), tried[best]
    for _ in range(8):
        share = one_hot(torch.cdist(x, centres).argmin(1), len(centres)).to(x.dtype)
        share = share[:, share.sum(0) > 0]
        centres = (share.T @ x) / share.sum(0)[:, None]
    return share


def merge_tree(x: Tensor, components: Components) -> np.ndarray:
    """The splits of the tree in which components merge, from the root, ``(m - 1, m)``.

    A split has +1 for the components on one side, -1 for those on the other, 0 for the rest.
    """
    m = len(components.weight)
    clusters = Clusters.of(x, components.responsibilities(x))
    leaves = np.eye(m, dtype=np.int8)
    splits = np.zeros((m - 1, m), np.int8)
    for step in range(m - 2, -1, -1):
        ((i, j),) = clusters.pairs(most=1)
        splits[step] = leaves[i] - leaves[j]
        clusters = clusters.merged([(i, j)])
        leaves[i] += leaves[j]
        leaves = np.delete(leaves, j, axis=0)
    return splits
