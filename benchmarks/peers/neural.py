"""Neural estimators of the ratio, written from the papers' descriptions.

    python -P neural.py in.npz out.npz METHOD [--steps 1000] [--cells 1000]

METHOD is one of

- ``naive``: a continuous normalising flow, its log density of a cell under one condition and the other by two solves of
  the instantaneous change of variables (Chen et al. 2018; Grathwohl et al. 2019).
- ``ratio_ode``: a velocity and a score network, and one solve for the ratio along the target's flow (scRatio,
  arXiv 2602.24201).
- ``ctsm_v``: conditional time score matching, a vector of time scores, one-sided: from noise to the cells of each
  condition (Yu et al. 2025).

Networks have three hidden layers of 1,024 SELU units and see the cell, the time and the condition; Adam at 1e-4,
batches of 512. ODEs are solved by dopri5 with one Gaussian probe a cell, drawn once for a solve. ``--cells`` cells at
random are judged. Input and output as in scratio.py.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torchdiffeq import odeint

NEAR_DATA = 1e-3
"""How far from the data solves begin and integrals end: scores have no limit there."""
TOLERANCE = 1e-4
N_TIMES = 128


class Network(nn.Module):
    """Vector field ``(n, d)`` of cells ``(n, d)``, time ``(n, 1)`` and one-hot condition ``(n, k)``."""

    def __init__(self, n_dims: int, n_conditions: int, width: int = 1024):
        super().__init__()
        sizes = [n_dims + 1 + n_conditions, width, width, width]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.SELU())]
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_dims))

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """The field."""
        return self.layers(torch.cat([x, t.expand(len(x), 1), condition.expand(len(x), -1)], dim=1))


def velocity_loss(network, x1, condition):
    """Flow matching (Lipman et al. 2023): the velocity of x_t = t x_1 + (1 - t) eps is x_1 - eps."""
    t, eps = torch.rand(len(x1), 1), torch.randn_like(x1)
    return (network(t * x1 + (1 - t) * eps, t, condition) - (x1 - eps)).square().sum(1).mean()


def score_loss(network, x1, condition):
    """Denoising score matching: the network gives -eps, the score is that over 1 - t."""
    t, eps = torch.rand(len(x1), 1), torch.randn_like(x1)
    return (network(t * x1 + (1 - t) * eps, t, condition) + eps).square().sum(1).mean()


def time_score_loss(network, x1, condition):
    """Time score of N(t x_1, (1 - t^2) I), a dimension each, over its root mean square at that time."""
    t = torch.rand(len(x1), 1) * (1 - NEAR_DATA)
    variance, eps = 1 - t**2, torch.randn_like(x1)
    wanted = t / variance * (1 - eps**2) + x1 * eps / variance.sqrt()
    return (network(t * x1 + variance.sqrt() * eps, t, condition) - wanted / time_scale(t)).square().sum(1).mean()


def time_scale(t):
    """Root mean square of the conditional time score of a dimension whose cells have variance 1."""
    variance = 1 - t**2
    return (2 * t**2 + variance).sqrt() / variance


def train(loss, x, y, *, n_conditions, steps, generator):
    """A network after so many steps."""
    network = Network(x.shape[1], n_conditions)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    eye = torch.eye(n_conditions)
    for _ in range(steps):
        batch = torch.randint(len(x), (512,), generator=generator)
        optimizer.zero_grad()
        loss(network, x[batch], eye[y[batch]]).backward()
        optimizer.step()
    return network.requires_grad_(requires_grad=False)


def solve(field, x):
    """Integral of the second output of `field` along the first, from the cells to noise; minus that is the answer."""
    start = (x, torch.zeros(len(x)))
    times = torch.tensor([1 - NEAR_DATA, 0.0])
    with torch.no_grad():
        x0, change = odeint(field, start, times, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")
    return x0[-1], -change[-1]


def with_divergence(field, x, probe):
    """Values ``(n, d)`` and Hutchinson's estimate of the divergence ``(n,)``."""
    value, turned = torch.func.jvp(field, (x,), (probe,))
    return value, (turned * probe).sum(1)


def naive(networks, x, conditions):
    """Log density under the first condition minus that under the second."""
    (velocity,), probe, density = networks, torch.randn_like(x), []
    for condition in conditions:

        def field(t, state, condition=condition):
            value, divergence = with_divergence(lambda z: velocity(z, t, condition), state[0], probe)
            return value, divergence

        x0, change = solve(field, x)
        # log p_1(x) = log p_0(x_0) - int_0^1 div u dt, and `change` is that integral
        density.append(-0.5 * x0.square().sum(1) - change)
    return density[0] - density[1]


def ratio_ode(networks, x, conditions):
    """d/dt log p_a / p_b = div(u_b - u_a) + (u_b - u_a) . s_b along u_a; 0 at t = 0."""
    (velocity, score), (a, b) = networks, conditions
    probe = torch.randn_like(x)

    def field(t, state):
        u_a, div_a = with_divergence(lambda z: velocity(z, t, a), state[0], probe)
        u_b, div_b = with_divergence(lambda z: velocity(z, t, b), state[0], probe)
        s_b = score(state[0], t, b) / (1 - t)
        return u_a, div_b - div_a + ((u_b - u_a) * s_b).sum(1)

    return solve(field, x)[1]


def ctsm_v(networks, x, conditions):
    """Difference of the integrals of the time scores, by Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(N_TIMES)
    (network,), end = networks, 1 - NEAR_DATA
    total = torch.zeros(len(x))
    for node, weight in zip(nodes, weights, strict=True):
        t = torch.full((1, 1), (node + 1) / 2 * end)
        difference = network(x, t, conditions[0]) - network(x, t, conditions[1])
        total += weight / 2 * end * float(time_scale(t)) * difference.sum(1)
    return total


METHODS = {
    "naive": ((velocity_loss,), naive),
    "ratio_ode": ((velocity_loss, score_loss), ratio_ode),
    "ctsm_v": ((time_score_loss,), ctsm_v),
}


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=2)
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=1000)
    options = parser.parse_args()
    given = np.load(options.files[0])
    torch.manual_seed(int(given["seed"]))
    generator = torch.Generator().manual_seed(int(given["seed"]))
    labels, y = np.unique(given["y"], return_inverse=True)
    centre, scale = given["x"].mean(0), given["x"].std(0).mean()
    x, x_test = (torch.tensor((given[name] - centre) / scale, dtype=torch.float32) for name in ("x", "x_test"))
    losses, ratio = METHODS[options.method]
    sizes = {"n_conditions": len(labels), "steps": options.steps, "generator": generator}
    started = time.perf_counter()
    networks = [train(loss, x, torch.tensor(y), **sizes) for loss in losses]
    fitted = time.perf_counter()
    eye = torch.eye(len(labels))
    judged = torch.randperm(len(x_test), generator=generator)[: options.cells].sort().values
    cells = x_test[judged]
    with torch.no_grad():
        columns = [
            ratio(networks, cells, [eye[np.searchsorted(labels, side)][None] for side in contrast])
            for contrast in given["contrasts"]
        ]
    log_ratio = np.full((len(x_test), len(columns)), np.nan)
    log_ratio[judged.numpy()] = torch.stack(columns, dim=1).numpy()
    np.savez(options.files[1], log_ratio=log_ratio, fit_s=fitted - started, score_s=time.perf_counter() - fitted)


if __name__ == "__main__":
    main()
