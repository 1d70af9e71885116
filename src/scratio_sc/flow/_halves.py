"""Half of the cells against the other: what serves the cells that were not fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import logsumexp
from torch.nn.functional import cross_entropy

from scratio_sc.flow._anchor import of_cells
from scratio_sc.flow._calibration import MIN_JUDGED
from scratio_sc.flow._contest import Contest
from scratio_sc.flow._discriminative import LabelledMeans
from scratio_sc.flow._folds import places_in_groups
from scratio_sc.flow._gain import CLEARLY, is_clear
from scratio_sc.flow._mixture_fit import Fitted, Mixture
from scratio_sc.flow._tilt import Tilt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._moved_types import MovedTypes

OWN_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
LABEL_WEIGHTS = (0.3, 1.0, 3.0, 10.0)
LEAST_TOLD = 0.1
"""Share of the log-loss of held-out cells that united components have to save: fewer of them see less."""
LEAST_ADDED = 0.02
"""Share of the log-loss of held-out cells, or of what is told of it, that a second opinion has to save."""
MAX_ELEMENTS = 2_000_000
"""Numbers in the means of all groups above which there is no second opinion: it would take too long."""
MAX_JUDGED, MAX_CONTESTED, MAX_SCORES = 5_000, 20_000, 60_000
MIN_CONTESTED = 20
"""Cells to judge by that two groups need: where nearly all are of one, a model too sure of it looks right."""
TRIAL_SWEEPS = 3


@dataclass(frozen=True)
class Candidate:
    """A mixture, its fit to half of the cells, its own share, and log densities of cells of the other half ``(n,)``.

    And its types, where they are fewer than its components were.
    """

    mixture: Mixture
    fitted: Fitted
    own_share: float
    density: np.ndarray
    types: MovedTypes | None = None


@dataclass(frozen=True)
class Halves:
    """Cells to fit and cells to judge by, with the groups of both."""

    x: Tensor
    group: np.ndarray
    judge: Tensor
    judge_group: np.ndarray
    design: Design

    @classmethod
    def of(cls, x: Tensor, group: np.ndarray, design: Design, *, copy: np.ndarray, rng: np.random.Generator) -> Halves:
        """Half of the cells of each group against the other half, each in that of the first of its copies ``(n,)``."""
        half = np.zeros(len(x), bool)
        order = rng.permutation(len(x))
        order, size = order[np.argsort(group[order], kind="stable")], np.bincount(group, minlength=design.n_groups)
        half[order] = places_in_groups(size) % 2 == 0
        half = half[copy]
        judged = rng.permutation(np.flatnonzero(~half))[:MAX_CONTESTED]
        return cls(x[torch.as_tensor(half)], group[half], x[torch.as_tensor(judged)], group[judged], design)

    def candidate(self, mixture: Mixture) -> Candidate:
        """A mixture with the own share of least log-loss of the groups.

        The share is 0 unless another is clearly better (one standard error), as cells of two groups at least judge: own
        covariances have many parameters.
        """
        fitted = Fitted.of(mixture, self.x, self.group, design=self.design, n_sweeps=TRIAL_SWEEPS)
        alike = self.design.numbers and self.design.n_label_combinations == 1
        contested = (np.bincount(self.judge_group[:MAX_JUDGED]) >= MIN_CONTESTED).sum() > 1
        shares = OWN_SHARES if len(fitted.scatter) and contested and not alike else OWN_SHARES[:1]
        losses, densities = zip(*(self._judged(fitted, share, MAX_JUDGED) for share in shares), strict=True)
        best = int(np.argmin(np.sum(losses, axis=1)))
        best = best if is_clear(losses[0] - losses[best]) else 0
        return Candidate(mixture, fitted, shares[best], densities[best])

    def better(self, rival: Candidate, best: Candidate) -> bool:
        """Whether a rival explains the cells to judge by better, and tells their groups better."""
        explained, told, _ = self._gains(rival, best)
        return is_clear(explained) and is_clear(told)

    def united_serve(self, united: Candidate, best: Candidate, *, moving: bool) -> bool:
        """Whether united components tell the groups of the cells to judge by clearly better, and explain them no worse.

        By a tenth of what is left to tell. If all united components move: or explain them clearly better, and tell
        them no worse.
        """
        explained, told, left = self._gains(united, best)
        if any(is_clear(-gain, n_errors=CLEARLY) for gain in (explained, told)):
            return False
        tells = is_clear(told, n_errors=CLEARLY, least=LEAST_TOLD * left)
        return tells or (moving and is_clear(explained, n_errors=CLEARLY))

    def _gains(self, rival: Candidate, best: Candidate) -> tuple[np.ndarray, np.ndarray, float]:
        """What a rival gains in log density of the cells to judge by, and in log-loss of their groups, ``(n,)``.

        And the mean log-loss before.
        """
        n = max(MAX_SCORES // self.design.n_groups, MAX_JUDGED)
        (loss, density), (loss_before, density_before) = (
            self._judged(one.fitted, one.own_share, n) for one in (rival, best)
        )
        return density - density_before, loss_before - loss, float(loss_before.mean()) if len(loss_before) else 0.0

    def _judged(self, fitted: Fitted, share: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Log-loss of the groups of the first cells to judge by, and log density of each under its own, ``(n,)``."""
        own = np.arange(min(n, len(self.judge))), self.judge_group[:n]
        density = fitted.log_densities(self.judge[:n], self.design, own_share=share)
        joint = density + np.log(np.maximum(np.bincount(self.group, minlength=self.design.n_groups), 0.5))
        return logsumexp(joint, axis=1) - joint[own], density[own]

    def fitted(self, parts: Sequence[Fitted], types: Sequence[MovedTypes]) -> list[Fitted]:
        """Partitions fitted to the cells of the first half."""
        return of_cells(parts, types, self.x, group=self.group, design=self.design)

    def best_label_weight(self, parts: Sequence[Fitted]) -> float:
        """Weight of the labels of least log-loss of the conditions, of those that are clearly better than none."""
        means = LabelledMeans.of(parts, self.x, self.group, design=self.design)
        if not (any(means.moving) and len(self.judge)):
            return 0.0

        def losses(weight: float) -> np.ndarray:
            return LabelledMeans.of(means.at(weight), self.judge, self.judge_group, design=self.design).log_loss

        without, best, most = losses(0.0), 0.0, 0.0
        for weight in LABEL_WEIGHTS:
            gain = without - losses(weight)
            if is_clear(gain, n_errors=CLEARLY) and gain.mean() > most:
                best, most = weight, gain.mean()
        return best

    def second_opinion_serves(self, parts: Sequence[Fitted], *, own_share: float, label_weight: float) -> bool:
        """Whether the mean with a second opinion tells the conditions of the cells to judge by clearly better.

        By a share of what is left to tell or, where conditions hardly differ, of what is told; and better than half of
        the ratios would, for smaller ratios alone may serve.
        """
        n_elements = self.design.n_groups * sum(part.mixture.mean.size for part in parts)
        if len(self.judge) < MIN_JUDGED or n_elements > MAX_ELEMENTS or not self.design.contested.any():
            return False
        if label_weight:
            parts = LabelledMeans.of(parts, self.x, self.group, design=self.design).at(label_weight)
        n = max(MAX_SCORES // self.design.n_groups, MAX_JUDGED)
        contest = Contest.of(self.judge[:n], self.judge_group[:n], self.design)
        density = np.mean([part.log_densities(contest.x, self.design, own_share=own_share) for part in parts], axis=0)
        first = torch.as_tensor(density).gather(1, contest.rivals) + contest.log_prior
        tilt = Tilt.of([part.mixture for part in parts], self.design)
        second = tilt.logit(tilt.fit(self.x, self.group, self.design), contest)
        frequency, alone, halved, both = (
            cross_entropy(logit, contest.own, reduction="none").numpy()
            for logit in (contest.log_prior, first, 0.5 * (first + contest.log_prior), 0.5 * (first + second))
        )
        least = LEAST_ADDED * min(alone.mean(), (frequency - alone).mean())
        return all(is_clear(rival - both, n_errors=CLEARLY, least=least) for rival in (alone, halved))
