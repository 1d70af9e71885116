"""Initial value problems, solved by torchdyn in fixed steps.

torchdyn controls its adaptive step over the whole batch (a cell's answer then depends on its neighbours), never ends on
a field that returns NaN, and loses the final state on some reversed spans. Fixed steps forward over [0, 1] do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]
"""Right-hand side f(s, y) of dy/ds = f(s, y), with ``s`` 0-d and ``y`` of shape ``(n, k)``."""

METHODS = ("dopri5", "tsit5", "midpoint", "euler")
MAX_EVALS_PER_STEP = 7


class _FixedStep:
    """A torchdyn method in fixed steps: the last stage of a step serves as the next first one."""

    stepping_class = "fixed"

    def __init__(self, method: Any) -> None:
        self.method = method
        self.last_stage: Tensor | None = None

    def sync_device_dtype(self, y: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        self.method.sync_device_dtype(y, nodes)
        return y, nodes

    def step(  # noqa: PLR0917  torchdyn passes them by position
        self, field: Field, y: Tensor, r: Tensor, dr: Tensor, **_: Any
    ) -> tuple[None, Tensor, None]:
        self.last_stage, y, *_ = self.method.step(field, y, r, dr, k1=self.last_stage)
        return None, y, None


def integrate(field: Field, y0: Tensor, *, start: float, stop: float, n_steps: int, method: str = "dopri5") -> Tensor:
    """Solve dy/ds = field(s, y) from ``start`` to ``stop`` (either may be the larger) in equal steps.

    Parameters
    ----------
    field
        Right-hand side; called with a 0-d ``s`` and a state like ``y0``.
    y0
        State at ``start``, ``(n, k)``, of any floating dtype, on any device.
    start, stop
        Ends of the interval.
    n_steps
        Number of steps: 6 evaluations each (one more in all) for dopri5 and tsit5, 2 for midpoint, 1 for euler.
    method
        One of `METHODS`, of order 5, 5, 2 and 1.

    Returns
    -------
    State at ``stop``, ``(n, k)``.
    """
    _check(n_steps, method)
    # torchdyn takes half a second to import, and only these lines need it
    from torchdyn.numerics import odeint  # type: ignore[import-untyped]
    from torchdyn.numerics.solvers.ode import str_to_solver  # type: ignore[import-untyped]

    n_evals = 0

    def unit_field(r: Tensor, y: Tensor) -> Tensor:
        nonlocal n_evals
        n_evals += 1
        if n_evals > MAX_EVALS_PER_STEP * n_steps:
            msg = f"The solver {method!r} asked for more than {MAX_EVALS_PER_STEP} evaluations a step."
            raise RuntimeError(msg)
        return (stop - start) * field(start + (stop - start) * r, y)

    stepper = _FixedStep(str_to_solver(method, y0.dtype))
    nodes = torch.linspace(0, 1, n_steps + 1, dtype=y0.dtype, device=y0.device)
    _, states = odeint(unit_field, y0, nodes, solver=stepper, save_at=nodes[[0, -1]])
    if len(states) != 2:
        msg = f"The solver {method!r} did not reach the end of the interval in {n_steps} steps."
        raise RuntimeError(msg)
    _check_finite(states[1], method)
    return states[1]


def _check(n_steps: int, method: str) -> None:
    if method == "rk4":
        msg = (
            "method='rk4' is refused: torchdyn evaluates its stages at the wrong times, so it is only first order for "
            "a field that depends on time. Use 'dopri5'."
        )
        raise ValueError(msg)
    if method not in METHODS:
        msg = f"Unknown method {method!r}. Accepted are {', '.join(map(repr, METHODS))}."
        raise ValueError(msg)
    if n_steps < 1:
        msg = f"n_steps has to be at least 1, not {n_steps}."
        raise ValueError(msg)


def _check_finite(y: Tensor, method: str) -> None:
    bad = (~y.isfinite()).any(dim=-1).sum().item()
    if bad:
        msg = (
            f"The solution of {method!r} is not finite for {bad} of {len(y)} cells: the field returned NaN or inf, or "
            "the steps are too long. Check the input, or raise n_steps."
        )
        raise RuntimeError(msg)
