"""Log ratios, log densities and new cells by following the probability flow between data and noise.

In the coordinates y = x + sigma eps and s = log sigma, a condition's density p smoothed to noise level sigma has score
S, its probability flow is dy/ds = -sigma^2 S, and by the heat equation log p changes along any dy/ds = -sigma^2 V by

    d/ds log p(y_s; sigma) = sigma^2 [div S + (S - V) . S].

The difference of two such rates carries a log ratio along any path. Scores are asked only between `SIGMA_MIN` and
`SIGMA_MAX`; finer and coarser than that, a condition counts as its anchor, in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.func import vjp, vmap

from scratio_sc.flow._network import BOUNDARY
from scratio_sc.flow._path import SIGMA_MAX, SIGMA_MIN
from scratio_sc.flow._solve import Field, integrate

EXACT_DIVERGENCE_DIMS = 100
"""Largest number of dimensions whose divergence is taken exactly; above, one random probe, the same for all cells,
estimates it."""


STRETCHES = ((SIGMA_MIN, BOUNDARY), (BOUNDARY * (1 + 1e-6), SIGMA_MAX))
"""Noise levels of the fine network and of the coarse one, which has those above `BOUNDARY`."""


class SmoothedDensity(Protocol):
    """One condition's density of y = x + sigma eps, at any noise level sigma.

    Rows are independent cells. `score` is asked only for sigma between `SIGMA_MIN` and `SIGMA_MAX`; outside, the
    anchor stands for the condition.
    """

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Gradient ``(n, d)`` of the log density at ``y`` ``(n, d)``, ``sigma`` 0-d; has to work under `torch.func`."""
        ...

    def anchor_log_density(self, y: Tensor, sigma: float) -> Tensor:
        """Log density of the anchor's y at ``y`` ``(n, d)``, ``(n,)``, in nats."""
        ...

    def anchor_sample(self, n: int, sigma: float, generator: torch.Generator) -> Tensor:
        """Draws of the anchor's y, ``(n, d)``."""
        ...

    def anchor_transport(self, y: Tensor, sigma_from: float, sigma_to: float) -> Tensor:
        """Where the anchor's probability flow carries ``y`` ``(n, d)`` between two noise levels, ``(n, d)``."""
        ...


@dataclass(frozen=True)
class OdeOptions:
    """How an ODE is solved.

    Attributes
    ----------
    n_steps
        Steps, half of them below `BOUNDARY` and half above, equal in log sigma in either.
    method
        One of ``"dopri5"``, ``"tsit5"``, ``"midpoint"``, ``"euler"``.
    chunk_size
        Cells solved together. It bounds the memory and does not change the results.
    """

    n_steps: int = 24
    method: str = "dopri5"
    chunk_size: int = 512


DEFAULT_OPTIONS = OdeOptions()

ScoresOfPath = tuple[Tensor, ...]
Pullback = Callable[[Tensor], tuple[Tensor]]
Rates = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""(y, sigma, probe) -> score V of the path (n, d), and the rate along it of the log density or ratio / sigma^2 (n,)."""


def ode_log_ratio(
    x: Tensor,
    target: SmoothedDensity,
    reference: SmoothedDensity,
    *,
    along: SmoothedDensity | None = None,
    generator: torch.Generator | None = None,
    options: OdeOptions = DEFAULT_OPTIONS,
) -> Tensor:
    """Log likelihood ratio log p(x | target) - log p(x | reference) of cells, carried along one probability flow.

    Parameters
    ----------
    x
        Cells, ``(n, d)``.
    target, reference
        The two conditions.
    along
        Condition whose probability flow the cells follow; ``None`` for the target's. Exact scores give the same ratio
        along any, learned ones do not. To follow each cell's own condition, call once per condition with its cells.
    generator
        Source of the random probes, needed for more than `EXACT_DIVERGENCE_DIMS` dimensions.
    options
        Solver, steps and chunks.

    Returns
    -------
    Ratio in nats, ``(n,)``, positive where the cell is more likely under ``target``.
    """
    path = target if along is None else along

    def rates(y: Tensor, sigma: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
        def difference(y: Tensor) -> tuple[Tensor, ScoresOfPath]:
            a, b = target.score(y, sigma), reference.score(y, sigma)
            return a - b, (a, b)

        divergence, (a, b) = _divergence(difference, y, probe)
        v = a if path is target else b if path is reference else path.score(y, sigma)
        return v, divergence + ((a - v) * a - (b - v) * b).sum(1)

    def anchor(y: Tensor, sigma: float) -> Tensor:
        return target.anchor_log_density(y, sigma) - reference.anchor_log_density(y, sigma)

    return _evaluate(x, rates, anchor, generator=generator, options=options)


def ode_log_density(
    x: Tensor,
    density: SmoothedDensity,
    *,
    generator: torch.Generator | None = None,
    options: OdeOptions = DEFAULT_OPTIONS,
) -> Tensor:
    """Log density log p(x | condition) of cells, by the instantaneous change of variables.

    Parameters
    ----------
    x
        Cells, ``(n, d)``.
    density
        The condition.
    generator
        Source of the random probes, needed for more than `EXACT_DIVERGENCE_DIMS` dimensions.
    options
        Solver, steps and chunks.

    Returns
    -------
    Log density in nats, in the units of ``x``, ``(n,)``.
    """

    def rates(y: Tensor, sigma: Tensor, probe: Tensor | None) -> tuple[Tensor, Tensor]:
        def score(y: Tensor) -> tuple[Tensor, ScoresOfPath]:
            s = density.score(y, sigma)
            return s, (s,)

        divergence, (s,) = _divergence(score, y, probe)
        return s, divergence

    return _evaluate(x, rates, density.anchor_log_density, generator=generator, options=options)


@torch.no_grad()
def ode_sample(
    n: int, density: SmoothedDensity, *, generator: torch.Generator, options: OdeOptions = DEFAULT_OPTIONS
) -> Tensor:
    """Draw new cells of a condition: noise, carried along its probability flow to the data.

    Parameters
    ----------
    n
        Number of cells.
    density
        The condition.
    generator
        Source of the noise.
    options
        Solver, steps and chunks.

    Returns
    -------
    Cells, ``(n, d)``.
    """

    def flow(sigma: Tensor, y: Tensor) -> Tensor:
        return -(sigma**2) * density.score(y, sigma)

    chunks = torch.split(density.anchor_sample(n, SIGMA_MAX, generator), options.chunk_size)
    fine = [_integrate(flow, noise, options, sigma_from=SIGMA_MAX, sigma_to=SIGMA_MIN) for noise in chunks]
    return density.anchor_transport(torch.cat(fine), SIGMA_MIN, 0.0)


@torch.no_grad()
def _evaluate(
    x: Tensor,
    rates: Rates,
    anchor: Callable[[Tensor, float], Tensor],
    *,
    generator: torch.Generator | None,
    options: OdeOptions,
) -> Tensor:
    """Join the integral of the rate along the path to the closed forms below `SIGMA_MIN` and above `SIGMA_MAX`."""
    probes = _rademacher(x, generator) if x.shape[1] > EXACT_DIVERGENCE_DIMS else None
    values = []
    for rows in torch.split(torch.arange(len(x), device=x.device), options.chunk_size):
        y0, probe = x[rows], None if probes is None else probes[rows].to(x.dtype)
        y, gained = _follow(y0, rates, probe, options=options)
        closed = anchor(y0, 0.0) - anchor(y0, SIGMA_MIN) + anchor(y, SIGMA_MAX)
        values.append(closed - gained.to(closed.device).to(closed.dtype))  # in turn: not all devices have float64
    return torch.cat(values)


def _follow(y0: Tensor, rates: Rates, probe: Tensor | None, *, options: OdeOptions) -> tuple[Tensor, Tensor]:
    """End ``(n, d)`` at `SIGMA_MAX` of the path from ``y0`` at `SIGMA_MIN`, and the integral ``(n,)`` of the rate."""

    def field(sigma: Tensor, state: Tensor) -> Tensor:
        path_score, rate = rates(state[:, :-1], sigma, probe)
        return sigma**2 * torch.cat([-path_score, rate[:, None]], dim=1)

    state = torch.cat([y0, y0.new_zeros(len(y0), 1)], dim=1)
    end = _integrate(field, state, options, sigma_from=SIGMA_MIN, sigma_to=SIGMA_MAX)
    return end[:, :-1], end[:, -1]


def _integrate(field: Field, y: Tensor, options: OdeOptions, *, sigma_from: float, sigma_to: float) -> Tensor:
    """Solve dy/ds = ``field(sigma, y)`` on each side of `BOUNDARY`, where one network hands over to another.

    No step may straddle the jump between them, nor start with a slope from beyond it.
    """
    n_steps = -(-options.n_steps // 2)
    for low, high in STRETCHES if sigma_from < sigma_to else STRETCHES[::-1]:
        start, stop = (low, high) if sigma_from < sigma_to else (high, low)
        within = _within(field, low, high)
        y = integrate(within, y, start=math.log(start), stop=math.log(stop), n_steps=n_steps, method=options.method)
    return y


def _within(field: Field, low: float, high: float) -> Field:
    """A field of sigma as one of log sigma; rounding may carry the last step out of the noise levels."""
    return lambda s, y: field(s.exp().clamp(low, high), y)


def _divergence(
    field: Callable[[Tensor], tuple[Tensor, ScoresOfPath]], y: Tensor, probe: Tensor | None
) -> tuple[Tensor, ScoresOfPath]:
    """Divergence ``(n,)`` of a field whose rows are independent, and the scores it returns besides.

    Exact, one backward pass a dimension; or with a ``probe`` ``(n, d)`` of +-1 the unbiased estimate probe^T J probe.
    """
    _, pullback, scores = cast("tuple[Tensor, Pullback, ScoresOfPath]", vjp(field, y, has_aux=True))
    if probe is not None:
        return (pullback(probe)[0] * probe).sum(1), scores
    d = y.shape[1]
    basis = torch.eye(d, dtype=y.dtype, device=y.device)[:, None].expand(d, *y.shape)
    (jacobian,) = vmap(pullback)(basis)
    return jacobian.diagonal(dim1=0, dim2=2).sum(1), scores


def _rademacher(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Probe of +-1 that all cells share ``(n, d)``, so that a cell depends on neither neighbours nor chunk."""
    if generator is None:
        msg = f"{x.shape[1]} dimensions are more than {EXACT_DIVERGENCE_DIMS}: pass a generator to draw probes from."
        raise ValueError(msg)
    signs = torch.randint(2, x.shape[1:], generator=generator, device=generator.device, dtype=torch.int8)
    return (2 * signs - 1).to(x.device).expand(x.shape)
