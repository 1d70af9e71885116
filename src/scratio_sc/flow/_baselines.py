"""Baselines that a ratio has to beat: a Gaussian for each condition, beside what covariates add."""

from __future__ import annotations

import numpy as np
import torch

from scratio_sc.flow._components import component_log_density, gaussian_groups

BASELINES = ("lda", "qda")
"""Gaussian conditions with a shared covariance, and with covariances of their own."""
UNSEEN = -1e4
"""Log density under a condition without cells in the other folds."""
N_SWEEPS = 20


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
    shape = int(condition.max()) + 1, n_strata
    out = np.zeros((n_strata, x.shape[1]))
    if n_strata == 1:
        return out
    both = condition * n_strata + stratum
    size = np.bincount(both, minlength=shape[0] * shape[1]).reshape(shape)
    total = np.stack([np.bincount(both, weights=column, minlength=size.size) for column in x.T], axis=1)
    total = total.reshape(*shape, -1)
    of_condition, of_stratum = (np.maximum(size.sum(axis), 1)[:, None] for axis in (1, 0))
    for _ in range(N_SWEEPS):
        mean = (total.sum(1) - size @ out) / of_condition
        out = (total.sum(0) - size.T @ mean) / of_stratum
    return out
