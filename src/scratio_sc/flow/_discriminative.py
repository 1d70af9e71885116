"""Means that tell conditions apart: labels have a say in how far components move, beside where their cells lie.

Where cells lie is all there is to know if components are Gaussian. Where they are not, labels know better what tells
conditions apart, and the best is a compromise (Bouchard & Triggs 2004; Lasserre, Bishop & Minka 2006): to the moves
that cells and shrinkage gave (`_shrinkage`), steps s_gk are added that maximise

    w sum_i log p(c_i | x_i) - 1/2 sum_gk (n_gk + d) |Sigma_k^-1/2 s_gk|^2 ,

the first sum over cells whose condition c_i competes with others of the same covariates, the second what the cells of a
component lose of their log likelihood, as if there were d more. Levels that share a mean go on sharing it, and what did
not move stays.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from scratio_sc.flow._components import ROWS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._mixture_fit import Fitted, Mixture

MIN_SHARE = 1e-3
"""Share in a cell below which a component has no say in its condition."""
MAX_CELLS = 50_000
MAX_ITERATIONS = 20
RANK = 1e-6
TOLERANCE = 1e-2
"""Gradient, in standard errors of the steps, at which the search ends."""


@dataclass(frozen=True)
class Contest:
    """Cells whose condition competes with others of the same covariates.

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
        """Of cells ``(n, d)`` in groups ``(n,)``."""
        stratum, condition = design.stratum, design.condition_of(design.groups)
        table = np.full((stratum.max() + 1, len(design.conditions)), -1)
        table[stratum, condition] = np.arange(design.n_groups)
        size = np.where(table >= 0, np.bincount(group, minlength=design.n_groups)[table], 0)
        with np.errstate(divide="ignore"):
            log_prior = np.log(size / np.maximum(size.sum(1, keepdims=True), 1))
        contested = ((size > 0).sum(1) > 1)[stratum[group]]
        group = group[contested]
        parts = np.maximum(table, 0)[stratum[group]], log_prior[stratum[group]], condition[group]
        return cls(x[torch.as_tensor(contested)], *(torch.as_tensor(part) for part in parts))

    def every(self, step: int) -> Contest:
        """Every ``step``-th cell."""
        return Contest(*(part[::step] for part in (self.x, self.rivals, self.log_prior, self.own)))

    def log_loss(self, log_density: Tensor) -> Tensor:
        """Log-loss of conditions by log densities ``(n, n_groups)``, nats, ``(n,)``."""
        return cross_entropy(log_density.gather(1, self.rivals) + self.log_prior, self.own, reduction="none")


@dataclass(frozen=True)
class _Moved:
    """A component whose mean moves, and the cells that it has a say in.

    Attributes
    ----------
    index
        Which component of its partition.
    of_effects, of_groups
        What the effects of features ``(n_features, n_steps)`` and the groups ``(n_groups, n_steps)`` have of each step.
        A step is of unit length where it costs half a nat.
    whiten
        Makes the component's covariance the identity, ``(d, d)``.
    move
        Whitened moves of the groups before any step, ``(n_groups, d)``.
    cells
        Which cells of the contest, ``(k,)``.
    apart
        Their whitened distances from the component's mean, ``(k, d)``.
    rivals, share
        The rivals of these cells, and its share in them under each, ``(k, n_conditions)``.
    """

    index: int
    of_effects: Tensor
    of_groups: Tensor
    whiten: Tensor
    move: Tensor
    cells: Tensor
    apart: Tensor
    rivals: Tensor
    share: Tensor

    def gain(self, step: Tensor) -> Tensor:
        """What steps ``(n_steps, d)`` add to the densities of the cells, as a share of them, ``(k, n_conditions)``."""
        of_groups = self.of_groups @ step
        log_ratio = self.apart @ of_groups.T - ((self.move + 0.5 * of_groups) * of_groups).sum(1)
        return self.share * log_ratio.gather(1, self.rivals).expm1()


def _moved(mixture: Mixture, contest: Contest, design: Design) -> tuple[list[_Moved], Tensor]:
    """Components that move, and log densities of the cells under their rivals ``(n, n_conditions)``."""
    features, (m, d) = design.features(design.groups), mixture.mean.shape
    effect = np.where(_contested(design, features)[:, None, None], mixture.mean_effect, 0)
    index = np.flatnonzero(effect.any((0, 2)))
    factor = torch.linalg.cholesky(torch.as_tensor(mixture.covariance))
    whiten = torch.linalg.solve_triangular(factor, torch.eye(d, dtype=factor.dtype).expand_as(factor), upper=False).mT
    flat, center = whiten.permute(1, 0, 2).flatten(1), torch.as_tensor(mixture.mean)[:, None] @ whiten
    move = torch.as_tensor(mixture.means(features) - mixture.mean).swapaxes(0, 1) @ whiten
    weight = torch.as_tensor(mixture.log_weights(features)) + whiten.diagonal(dim1=1, dim2=2).log().sum(1)
    weight = weight - 0.5 * move.square().sum(2).T
    inertia = torch.full((design.n_groups, m), float(d), dtype=weight.dtype)
    found: list[list[tuple[Tensor, ...]]] = [[] for _ in index]
    log_density = []
    for start in range(0, len(contest.x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        rivals, own = contest.rivals[rows], contest.own[rows, None]
        apart = torch.addmm(-center.flatten(), contest.x[rows], flat).unflatten(1, (m, d))
        joint = torch.einsum("nme,mge->ngm", apart, move) + weight
        joint = joint.gather(1, rivals[..., None].expand(-1, -1, m)) - 0.5 * apart.square().sum(2)[:, None]
        log_density.append(joint.logsumexp(2))
        share = (joint - log_density[-1][..., None]).exp()
        inertia.index_add_(0, rivals.gather(1, own)[:, 0], share.gather(1, own[..., None].expand(-1, -1, m))[:, 0])
        for k, parts in zip(index.tolist(), found, strict=True):
            cells = torch.nonzero(share[..., k].amax(1) > MIN_SHARE)[:, 0]
            parts.append((start + cells, apart[cells, k], rivals[cells], share[cells, :, k]))
    moved = []
    for k, parts in zip(index.tolist(), found, strict=True):
        steps = _steps(effect[:, k], features, inertia[:, k].numpy())
        moved.append(_Moved(k, *steps, whiten[k], move[k], *map(torch.cat, zip(*parts, strict=True))))
    return moved, torch.cat(log_density)


def _contested(design: Design, features: np.ndarray) -> np.ndarray:
    """Which features differ between groups of the same covariates, ``(n_features,)``."""
    _, first = np.unique(design.stratum, return_index=True)
    differs: np.ndarray = (features != features[first[design.stratum]]).any(0)
    return differs


def _steps(effect: np.ndarray, features: np.ndarray, inertia: np.ndarray) -> tuple[Tensor, Tensor]:
    """What effects ``(n_features, d)`` and groups of so many cells have of each step: the same where effects are equal.

    Steps are orthogonal by what they cost, sum_g inertia_g |s_g|^2 / 2. Of effects that amount to the same for all
    groups, each takes as much as its standard error allows.
    """
    moved = np.flatnonzero(effect.any(1))
    _, tied = np.unique(effect[moved], axis=0, return_inverse=True)
    same = np.zeros((len(effect), tied.max() + 1))
    same[moved, tied.reshape(-1)] = 1
    reach = features @ same
    scale = 1 / np.sqrt(np.maximum(inertia @ reach**2, RANK))
    left, size, right = np.linalg.svd(np.sqrt(inertia)[:, None] * reach * scale, full_matrices=False)
    kept = size > RANK * size[0]
    of_effects = same @ (scale[:, None] * right[kept].T / size[kept])
    return torch.as_tensor(of_effects), torch.as_tensor(left[:, kept] / np.sqrt(inertia)[:, None])


@dataclass(frozen=True)
class LabelledMeans:
    """Mixtures whose means listen to labels, too.

    Attributes
    ----------
    parts
        The mixtures as their cells gave them.
    moved
        The components of each that move.
    contest
        Cells whose labels count.
    logit
        Their log densities plus log frequencies under their rivals before any step, ``(n, n_conditions)``.
    """

    parts: Sequence[Fitted]
    moved: Sequence[list[_Moved]]
    contest: Contest
    logit: Tensor

    @classmethod
    def of(cls, parts: Sequence[Fitted], x: Tensor, group: np.ndarray, *, design: Design) -> LabelledMeans:
        """Of mixtures fitted to cells ``(n, d)`` in groups ``(n,)``; of many cells, an even part has a say."""
        contest = Contest.of(x, group, design)
        if not len(contest.x):
            return cls(parts, [[] for _ in parts], contest, contest.log_prior)
        contest = contest.every(-(-len(contest.x) // MAX_CELLS))
        moved, log_density = zip(*(_moved(part.mixture, contest, design) for part in parts), strict=True)
        return cls(parts, moved, contest, torch.stack(log_density).mean(0) + contest.log_prior)

    @property
    def nothing_moves(self) -> bool:
        """Whether labels have nothing to say."""
        return not any(self.moved)

    def at(self, weight: float) -> list[Fitted]:
        """The mixtures where labels have some weight."""
        if not weight or self.nothing_moves:
            return list(self.parts)
        counts = [component.of_groups.shape[1] for moved in self.moved for component in moved]
        step = torch.zeros(sum(counts), self.contest.x.shape[1], dtype=self.logit.dtype, requires_grad=True)

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = self._loss(step.split(counts), weight)
            value.backward()
            return value

        optimizer = torch.optim.LBFGS(
            [step], max_iter=MAX_ITERATIONS, tolerance_grad=TOLERANCE, line_search_fn="strong_wolfe"
        )
        optimizer.step(loss)
        taken = iter(step.detach().split(counts))
        return [_stepped(part, moved, taken) for part, moved in zip(self.parts, self.moved, strict=True)]

    def _loss(self, steps: Sequence[Tensor], weight: float) -> Tensor:
        """Cross-entropy of the labels by its weight, and what the steps cost, nats."""
        logit, taken = self.logit, iter(steps)
        for moved in filter(None, self.moved):
            gain = torch.cat([component.gain(step) for component, step in zip(moved, taken, strict=False)])
            cells = torch.cat([component.cells for component in moved])
            logit = logit + torch.ones_like(logit).index_add(0, cells, gain).log() / len(self.moved)
        cost = 0.5 * torch.cat([*steps]).square().sum() / len(self.moved)
        return weight * cross_entropy(logit, self.contest.own, reduction="sum") + cost


def _stepped(part: Fitted, moved: list[_Moved], steps: Iterator[Tensor]) -> Fitted:
    """A mixture after the steps of its components that move."""
    effect = part.mixture.mean_effect.copy()
    for component, step in zip(moved, steps, strict=False):
        whitened = component.of_effects @ step
        effect[:, component.index] += torch.linalg.solve(component.whiten, whitened, left=False).numpy()
    return dataclasses.replace(part, mixture=dataclasses.replace(part.mixture, mean_effect=effect))
