"""Neighbourhoods of cells, found without labels: the components of mixtures, and the branches in which they merge."""

from __future__ import annotations

import numpy as np
import torch

from scratio_sc.flow._anchor_plan import JUDGE_SHARE, N_PARTITIONS
from scratio_sc.flow._components import Components, find_components, gaussian_groups, merge_tree
from scratio_sc.flow._device import usual_torch
from scratio_sc.flow._folds import copies_of
from scratio_sc.flow._outliers import outliers
from scratio_sc.flow._threads import one_torch_thread

MIN_CELLS = 20
MAX_TREE_CELLS = 20_000
LARGEST = 0.3
"""Share of all cells above which a branch is no neighbourhood."""
N_PIECES = 8
"""Pieces that a cloud without types is cut into."""


@usual_torch()
@one_torch_thread()
def find_neighbourhoods(x: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Which neighbourhoods ``(n, k)`` (bool) each cell ``(n, d)`` is in: one at least.

    The cells are partitioned several times, from different starts. Each time a cell is in its likeliest component and
    in the branches of the merge tree that hold it, so that there are fine and coarse neighbourhoods.
    """
    looked_at = ~outliers(x)
    cells = torch.as_tensor((x - x[looked_at].mean(0)) / (np.sqrt(x[looked_at].var(0).mean()) or 1.0))
    copy = copies_of(cells.numpy())
    parts = [_partition(cells, torch.as_tensor(looked_at), copy=copy, rng=rng) for _ in range(N_PARTITIONS)]
    found = np.concatenate(parts, axis=1)
    large = found[:, found.sum(0) >= MIN_CELLS]
    kept: np.ndarray = np.unique(large, axis=1)
    alone = ~kept.any(1)
    return np.column_stack([kept, alone]) if alone.any() else kept


def _partition(x: torch.Tensor, looked_at: torch.Tensor, *, copy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    apart = torch.as_tensor(rng.random(len(x))[copy] < JUDGE_SHARE)
    if not (looked_at & ~apart).any():
        return _pieces(x, rng=rng)
    fitted, judge = x[looked_at & ~apart], x[looked_at & apart]
    components = find_components(fitted, judge, rivals=gaussian_groups(fitted, np.zeros(len(fitted))), rng=rng)
    if len(components.weight) == 1:
        return _pieces(x, rng=rng)
    return _components_and_branches(x, components, rng=rng)


def _components_and_branches(x: torch.Tensor, components: Components, *, rng: np.random.Generator) -> np.ndarray:
    share = components.responsibilities(x).numpy()
    likeliest = np.eye(share.shape[1], dtype=bool)[share.argmax(1)]
    looked_at = x if len(x) <= MAX_TREE_CELLS else x[torch.as_tensor(rng.permutation(len(x))[:MAX_TREE_CELLS])]
    branches = likeliest @ (merge_tree(looked_at, components) != 0).T
    return np.concatenate([likeliest, branches[:, branches.mean(0) <= LARGEST]], axis=1)


def _pieces(x: torch.Tensor, *, rng: np.random.Generator) -> np.ndarray:
    """Nearest of some cells ``(n, k)``."""
    centres = x[torch.as_tensor(rng.permutation(len(x))[:N_PIECES])]
    nearest: np.ndarray = torch.cdist(x, centres).argmin(1).numpy()
    return np.eye(len(centres), dtype=bool)[nearest]
