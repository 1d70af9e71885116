"""Means that tell conditions apart: labels have a say in how far components move, beside where their cells lie.

Where cells lie is all there is to know if components are Gaussian. Where they are not, labels know better what tells
conditions apart, and the best is a compromise (Bouchard & Triggs 2004; Lasserre, Bishop & Minka 2006): to the moves
that cells and shrinkage gave (`_shrinkage`), steps s_gk are added that maximise

    w sum_i log p(c_i | x_i) - 1/2 sum_gk (n_gk + d) |Sigma_k^-1/2 s_gk|^2 ,

what they say of the condition c_i of a cell, among those of the same covariates, less the price of leaving the place
where the n_gk cells of group g in component k put the mean, as if there were d more. The second sum is the mean of the
partitions'. Levels that share a mean go on sharing it, and what did not move stays.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from scratio_sc.flow._components import ROWS_AT_ONCE, whitening
from scratio_sc.flow._contest import Contest
from scratio_sc.flow._minimise import minimised

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._mixture_fit import Fitted, Mixture

MIN_HEARD = 1e-3
"""Share in a cell below which a component has no say in its condition."""
FAR = 5.0
"""Distance from a component, in that of its typical cells, beyond which a cell is not asked: it would decide alone."""
MAX_ITERATIONS = 20
TOLERANCE = 1e-2
"""Gradient, in standard errors of the steps, at which the search ends."""
MIN_RANK = 1e-3
"""Size of a step, next to the largest one, below which it repeats others."""
TINY = 1e-12


@dataclass(frozen=True)
class _Moving:
    """A component whose mean moves, and the cells that it has a say in.

    Attributes
    ----------
    index
        Which component of its partition.
    of_effects, of_groups
        How far a unit of each step moves the effects of features ``(n_features, n_steps)`` and the groups
        ``(n_groups, n_steps)``. A unit costs half a nat.
    whiten
        Makes the component's covariance the identity, ``(d, d)``.
    move
        Whitened moves of the groups before any step, ``(n_groups, d)``.
    cells
        Which cells of the contest, ``(k,)``.
    apart
        Their whitened distances from the component's mean, ``(k, d)``.
    rivals, share
        The rivals of these cells, and the component's share in them under each, ``(k, n_conditions)``.
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


def _moving(mixture: Mixture, contest: Contest, design: Design) -> tuple[list[_Moving], Tensor]:
    """Components that move, and log densities of the cells under their rivals ``(n, n_conditions)``."""
    features, (m, d) = design.features(design.groups), mixture.mean.shape
    effect = np.where(design.contested[:, None, None], mixture.mean_effect, 0)
    whiten = whitening(torch.linalg.cholesky(torch.as_tensor(mixture.covariance)))
    flat, mean = whiten.permute(1, 0, 2).flatten(1), torch.as_tensor(mixture.mean)[:, None]
    center = (mean @ whiten).flatten()
    move = torch.as_tensor(mixture.means(features) - mixture.mean).swapaxes(0, 1) @ whiten
    pull = whiten @ move.mT
    weight = torch.as_tensor(mixture.log_weights(features)) + whiten.diagonal(dim1=1, dim2=2).log().sum(1)
    level, pull = weight - (0.5 * move.square().sum(2) + (mean @ pull)[:, 0]).T, pull.permute(1, 2, 0).flatten(1)
    inertia = torch.full((design.n_groups, m), float(d), dtype=weight.dtype)
    moves = torch.as_tensor(effect.any((0, 2)))
    heard: list[tuple[Tensor, ...]] = []
    log_density = []
    for start in range(0, len(contest.x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        x, rivals, own = contest.x[rows], contest.rivals[rows], contest.own[rows, None]
        apart = torch.addmm(-center, x, flat).unflatten(1, (m, d))
        square = apart.square().sum(2)
        # the densities of groups differ by what is linear in the cells
        joint = torch.addmm(level.flatten(), x, pull).unflatten(1, level.shape)
        joint = joint.gather(1, rivals[..., None].expand(-1, -1, m)).sub_(0.5 * square[:, None])
        log_density.append(joint.logsumexp(2))
        share = joint.sub_(log_density[-1][..., None]).exp_()
        inertia.index_add_(0, rivals.gather(1, own)[:, 0], share.gather(1, own[..., None].expand(-1, -1, m))[:, 0])
        hears = (share.amax(1) > MIN_HEARD) & (square < FAR**2 * d) & moves
        component, cells = torch.nonzero(hears.T, as_tuple=True)
        heard.append((component, start + cells, apart[cells, component], rivals[cells], share[cells, :, component]))
    moving = []
    for k, heard_of in enumerate(_by_component(heard, m)):
        if moves[k]:
            steps = _steps(effect[:, k], features, inertia[:, k].numpy())
            moving.append(_Moving(k, *steps, whiten[k], move[k], *heard_of))
    return moving, torch.cat(log_density)


def _by_component(heard: list[tuple[Tensor, ...]], m: int) -> Iterator[tuple[Tensor, ...]]:
    """What blocks of cells have heard of some of ``m`` components, the first entry of each block, of one by one."""
    component, *parts = map(torch.cat, zip(*heard, strict=True))
    order, sizes = component.argsort(stable=True), torch.bincount(component, minlength=m).tolist()
    return zip(*(part[order].split(sizes) for part in parts), strict=True)


def _steps(effect: np.ndarray, features: np.ndarray, inertia: np.ndarray) -> tuple[Tensor, Tensor]:
    """How far each step moves effects ``(n_features, n_steps)`` and groups of so many cells ``(n_groups, n_steps)``.

    Effects ``(n_features, d)`` that are equal stay so: shrinkage made them one number. Steps are orthogonal by what
    they cost, sum_g inertia_g |s_g|^2 / 2. Where effects amount to the same for all groups, each takes as much of it
    as its standard error allows.
    """
    nonzero = np.flatnonzero(effect.any(1))
    _, tied = np.unique(effect[nonzero], axis=0, return_inverse=True)
    same = np.zeros((len(effect), tied.max() + 1))
    same[nonzero, tied.reshape(-1)] = 1
    reach = features @ same
    scale = 1 / np.sqrt(np.maximum(inertia @ reach**2, TINY))
    left, size, right = np.linalg.svd(np.sqrt(inertia)[:, None] * reach * scale, full_matrices=False)
    kept = size > MIN_RANK * size[0]
    of_effects = same @ (scale[:, None] * right[kept].T / size[kept])
    return torch.as_tensor(of_effects), torch.as_tensor(left[:, kept] / np.sqrt(inertia)[:, None])


@dataclass(frozen=True)
class LabelledMeans:
    """Mixtures whose means listen to labels, too.

    Attributes
    ----------
    parts
        The mixtures as their cells gave them.
    moving
        The components of each that move where conditions compete.
    contest
        The cells whose labels are asked.
    logit
        Their log densities plus log frequencies under their rivals before any step, ``(n, n_conditions)``.
    """

    parts: Sequence[Fitted]
    moving: Sequence[list[_Moving]]
    contest: Contest
    logit: Tensor

    @classmethod
    def of(cls, parts: Sequence[Fitted], x: Tensor, group: np.ndarray, *, design: Design) -> LabelledMeans:
        """Of mixtures and cells ``(n, d)`` in groups ``(n,)``."""
        contest = Contest.of(x, group, design)
        moving, log_density = zip(*(_moving(part.mixture, contest, design) for part in parts), strict=True)
        return cls(parts, moving, contest, torch.stack(log_density).mean(0) + contest.log_prior)

    @property
    def log_loss(self) -> np.ndarray:
        """Log-loss of the conditions of the cells before any step, nats, ``(n,)``, as the contest asks them."""
        loss: np.ndarray = cross_entropy(self.logit, self.contest.own, reduction="none").numpy()
        return loss

    def at(self, weight: float) -> list[Fitted]:
        """The mixtures where labels have some weight."""
        n_steps = sum(component.of_groups.shape[1] for moving in self.moving for component in moving)
        step = torch.zeros(n_steps, self.contest.x.shape[1], dtype=self.logit.dtype)
        if weight and n_steps:
            loss = partial(self._loss, weight=weight)
            step = minimised(loss, step, max_iterations=MAX_ITERATIONS, tolerance=TOLERANCE)
        taken = self._steps(step)
        return [_stepped(*each) for each in zip(self.parts, self.moving, taken, strict=True)]

    def _steps(self, step: Tensor) -> list[list[Tensor]]:
        """Steps ``(n_steps, d)`` of each component of each partition."""
        each = iter(step.split([component.of_groups.shape[1] for moving in self.moving for component in moving]))
        return [[next(each) for _ in moving] for moving in self.moving]

    def _loss(self, step: Tensor, *, weight: float) -> Tensor:
        """Cross-entropy of the labels by its weight, and what steps ``(n_steps, d)`` cost, nats."""
        logit = self.logit
        for moving, steps in zip(self.moving, self._steps(step), strict=True):
            if moving:
                gain = torch.cat([component.gain(each) for component, each in zip(moving, steps, strict=True)])
                density = torch.ones_like(logit).index_add(0, torch.cat([each.cells for each in moving]), gain)
                logit = logit + density.clamp(min=TINY).log() / len(self.parts)
        cost = 0.5 * step.square().sum() / len(self.parts)
        return weight * cross_entropy(logit, self.contest.own, reduction="sum") + cost


def _stepped(part: Fitted, moving: list[_Moving], steps: list[Tensor]) -> Fitted:
    """A mixture after the steps of its components that move."""
    effect = part.mixture.mean_effect.copy()
    for component, step in zip(moving, steps, strict=True):
        whitened = component.of_effects @ step
        effect[:, component.index] += torch.linalg.solve(component.whiten, whitened, left=False).numpy()
    return dataclasses.replace(part, mixture=dataclasses.replace(part.mixture, mean_effect=effect))
