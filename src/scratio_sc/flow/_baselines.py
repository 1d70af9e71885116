"""Baselines that a ratio has to beat: a Gaussian for each condition, beside what covariates add."""

from __future__ import annotations

import numpy as np
import torch

from scratio_sc.flow._components import component_log_density, gaussian_groups

BASELINES = ("lda", "qda")
"""Gaussian conditions with a shared covariance, and with covariances of their own."""
UNSEEN = -1e4
"""Log density under a condition without cells in the other folds."""


def score_baselines(
    x: np.ndarray, condition: np.ndarray, stratum: np.ndarray, *, cells: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Log likelihood of some cells by the `BASELINES`, fitted to the other folds ``(n, n_conditions, n_baselines)``.

    Of cells ``(n_cells, d)``, each with a condition and a stratum of equal covariates ``(n_cells,)``. The mean of a
    condition within a stratum is that of the condition and what the stratum adds, the same for all conditions.
    """
    n_conditions = int(condition.max()) + 1
    out = np.full((len(cells), n_conditions, len(BASELINES)), UNSEEN, np.float32)
    for f in np.unique(fold[cells]):
        mine, seen = fold[cells] == f, fold != f
        added = _added(x[seen], condition[seen], stratum[seen], n_strata=int(stratum.max()) + 1)
        rivals = gaussian_groups(torch.as_tensor(x[seen] - added[stratum[seen]]), condition[seen])
        own = torch.as_tensor(x[cells[mine]] - added[stratum[cells[mine]]])
        for b, rival in enumerate(rivals):
            density = component_log_density(own, rival.mean, rival.covariance)
            out[np.ix_(mine, np.unique(condition[seen]), np.array([b]))] = density.numpy()[..., None]
    return out


def _added(x: np.ndarray, condition: np.ndarray, stratum: np.ndarray, *, n_strata: int) -> np.ndarray:
    """What strata add to the means of conditions ``(n_strata, d)``, by least squares; 0 where there is one only."""
    n_conditions = int(condition.max()) + 1
    if n_strata == 1:
        return np.zeros((1, x.shape[1]))
    size = np.bincount(condition * n_strata + stratum, minlength=n_conditions * n_strata).reshape(n_conditions, -1)
    of_condition, of_stratum = (
        np.stack([np.bincount(code, weights=column, minlength=n) for column in x.T], axis=1)
        for code, n in ((condition, n_conditions), (stratum, n_strata))
    )
    if n_conditions < n_strata:
        mean = _beside(size, of_condition, of_stratum)
        return (of_stratum - size.T @ mean) / np.maximum(size.sum(0), 1)[:, None]
    return _beside(size.T, of_stratum, of_condition)


def _beside(size: np.ndarray, total: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Effects ``(k, d)`` of levels beside those of other ones, by least squares, from sums of cells of each.

    Of ``size (k, l)`` cells. The others' effects are eliminated: (N_k - N N_l^-1 N^T) effects = sums - N N_l^-1 others.
    """
    share = size / np.maximum(size.sum(0), 1)
    left = np.diag(size.sum(1)) - share @ size.T
    effects: np.ndarray = np.linalg.lstsq(left, total - share @ other, rcond=None)[0]
    return effects
