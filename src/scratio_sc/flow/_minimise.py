"""Where a smooth function of many numbers is least."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def minimised(loss: Callable[[Tensor], Tensor], start: Tensor, *, max_iterations: int, tolerance: float) -> Tensor:
    """The best place that L-BFGS meets from a start, until the gradient is within the tolerance."""
    place = start.clone().requires_grad_()
    best, least = start, math.inf
    search = torch.optim.LBFGS(
        [place], max_iter=max_iterations, tolerance_grad=tolerance, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        nonlocal best, least
        search.zero_grad()
        value = loss(place)
        value.backward()
        if value.item() < least:  # a search that goes astray ends in NaN
            best, least = place.detach().clone(), value.item()
        return value

    search.step(step)
    return best
