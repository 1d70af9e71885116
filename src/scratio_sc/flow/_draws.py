"""New cells, drawn from the density of a side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scratio_sc.flow._device import usual_torch
from scratio_sc.flow._member import MemberDensity
from scratio_sc.flow._ode import ode_sample
from scratio_sc.flow._scores import of_one

if TYPE_CHECKING:
    from scratio_sc.flow._contrast import Side
    from scratio_sc.flow._flow import ConditionalFlow


@usual_torch()
def draw_cells(flow: ConditionalFlow, n: int, side: Side, *, rng: np.random.Generator) -> np.ndarray:
    """Cells in the embedding of the fit, ``(n, d)``, as many by each partition of each member."""
    row = rng.choice(len(side.rows), size=n, p=np.exp(side.log_weights))
    parts = [(member, groups) for member in flow.members for groups in of_one(flow, member, side.rows).partitions]
    which = rng.permutation(n) % len(parts)
    out = np.empty((n, flow.n_dims))
    for p, (member, groups) in enumerate(parts):
        for c in range(len(side.rows)):
            cells = np.flatnonzero((which == p) & (row == c))
            if len(cells):
                generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
                cloud = ode_sample(len(cells), MemberDensity(member, groups, c), generator=generator)
                out[cells] = member.embedding(cloud) * flow.scale
    return out
