"""The ODE solver: right nodes, right order, clear failures."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from scratio_sc.flow._solve import METHODS, integrate

ORDER = {"dopri5": 5, "tsit5": 5, "midpoint": 2, "euler": 1}
TSIT5_C4 = 0.9800255409045097
NODES: dict[str, list[float]] = {
    "dopri5": [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1],
    "tsit5": [0, 0.161, 0.327, 0.9, TSIT5_C4, 1, 1],
    "midpoint": [0, 1 / 2],
    "euler": [0],
}


def growth(s: Tensor, y: Tensor) -> Tensor:
    """y' = cos(s) y, whose solution is y(0) exp(sin s)."""
    return s.cos() * y


def error_of_growth(n_steps: int, method: str, *, start: float = 0.0, stop: float = 2.0) -> float:
    y0 = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    y = integrate(growth, y0, start=start, stop=stop, n_steps=n_steps, method=method)
    exact = y0 * math.exp(math.sin(stop) - math.sin(start))
    return (y - exact).abs().max().item()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("start", "stop"), [(0.0, 2.0), (3.0, 0.5)])
def test_order_of_convergence_on_a_field_that_depends_on_time(method: str, start: float, stop: float) -> None:
    coarse, fine = (error_of_growth(n, method, start=start, stop=stop) for n in (16, 32))
    assert math.log2(coarse / fine) > ORDER[method] - 0.3


@pytest.mark.parametrize("method", METHODS)
def test_field_is_evaluated_at_the_nodes_of_its_tableau(method: str) -> None:
    asked: list[float] = []

    def record(s: Tensor, y: Tensor) -> Tensor:
        assert s.ndim == 0
        asked.append(s.item())
        return torch.zeros_like(y)

    integrate(record, torch.zeros(1, 1, dtype=torch.float64), start=3.0, stop=1.0, n_steps=2, method=method)
    one_step = [3.0 - c for c in NODES[method]]
    # the last stage of an embedded pair stands at the start of the next step and is not evaluated again
    reused = 1 if len(one_step) == 7 else 0
    expected = one_step + [s - 1.0 for s in one_step][reused:]
    assert asked == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_keeps_its_dtype(dtype: torch.dtype) -> None:
    y = integrate(growth, torch.ones(3, 2, dtype=dtype), start=0.0, stop=1.0, n_steps=3)
    assert y.dtype == dtype
    assert y.shape == (3, 2)


def test_cells_do_not_depend_on_their_neighbours() -> None:
    def field(s: Tensor, y: Tensor) -> Tensor:
        return (s + y).sin()

    y0 = torch.linspace(-1e3, 1e3, 20)[:, None]
    together = integrate(field, y0, start=0.0, stop=1.0, n_steps=5)
    alone = torch.cat([integrate(field, row[None], start=0.0, stop=1.0, n_steps=5) for row in y0])
    torch.testing.assert_close(together, alone)


def test_rk4_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"rk4.*first order.*dopri5"):
        error_of_growth(4, "rk4")


def test_unknown_method_lists_the_accepted_ones() -> None:
    with pytest.raises(ValueError, match=r"'heun'.*'dopri5', 'tsit5', 'midpoint', 'euler'"):
        error_of_growth(4, "heun")


def test_steps_have_to_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        error_of_growth(0, "dopri5")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_field_that_is_not_finite_is_an_error(method: str, value: float) -> None:
    def broken(_: Tensor, y: Tensor) -> Tensor:
        return y * torch.tensor([[value], [1.0]])

    with pytest.raises(RuntimeError, match="not finite for 1 of 2 cells"):
        integrate(broken, torch.ones(2, 1), start=0.0, stop=1.0, n_steps=3, method=method)


def test_endless_solver_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(field: Any, y: Tensor, *_: Any, **__: Any) -> None:
        while True:
            field(torch.tensor(0.0), y)

    monkeypatch.setattr("torchdyn.numerics.odeint", endless)
    with pytest.raises(RuntimeError, match="more than 7 evaluations a step"):
        error_of_growth(4, "dopri5")


def test_lost_final_state_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchdyn.numerics.odeint", lambda _, y, nodes, **__: (nodes, y[None]))
    with pytest.raises(RuntimeError, match="did not reach the end"):
        error_of_growth(4, "dopri5")


def test_torchdyn_is_imported_only_to_solve() -> None:
    code = "import sys, scratio_sc.flow._ode; sys.exit('torchdyn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
