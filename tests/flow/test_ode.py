"""Ratios, densities and samples along the probability flow, against densities known in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scratio_sc.flow import _ode
from scratio_sc.flow._network import BOUNDARY
from scratio_sc.flow._ode import OdeOptions, SmoothedDensity, ode_log_density, ode_log_ratio, ode_sample
from scratio_sc.flow._path import SIGMA_MAX, SIGMA_MIN

COARSE = OdeOptions(n_steps=6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, covariance), exact at every noise level."""

    mean: Tensor
    covariance: Tensor

    def cholesky(self, sigma: float | Tensor) -> Tensor:
        lower: Tensor = torch.linalg.cholesky(self.covariance + sigma**2 * torch.eye(len(self.mean)))
        return lower

    def smoothed_log_density(self, y: Tensor, sigma: float | Tensor) -> Tensor:
        chol = self.cholesky(sigma)
        z: Tensor = torch.linalg.solve_triangular(chol, (y - self.mean).T, upper=False)
        log_norm: Tensor = (math.tau**0.5 * chol.diagonal()).log().sum()
        return -log_norm - (z**2).sum(0) / 2

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        precision: Tensor = torch.linalg.inv(self.covariance + sigma**2 * torch.eye(len(self.mean)))
        return (self.mean - y) @ precision

    def anchor_log_density(self, y: Tensor, sigma: float) -> Tensor:
        return Gaussian(self.mean.double(), self.covariance.double()).smoothed_log_density(y.double(), sigma)

    def anchor_sample(self, n: int, sigma: float, generator: torch.Generator) -> Tensor:
        return self.mean + torch.randn(n, len(self.mean), generator=generator) @ self.cholesky(sigma).T

    def anchor_transport(self, y: Tensor, sigma_from: float, sigma_to: float) -> Tensor:
        variance, basis = torch.linalg.eigh(self.covariance)
        scale: Tensor = ((variance + sigma_to**2) / (variance + sigma_from**2)).sqrt()
        transport: Tensor = basis * scale @ basis.T
        return self.mean + (y - self.mean) @ transport


@dataclass(frozen=True)
class Mixture(Gaussian):
    """Two Gaussian bumps, exact in the trained range and taken for one Gaussian outside."""

    bumps: tuple[Gaussian, Gaussian]
    weights: Tensor

    @classmethod
    def of(cls, *bumps: Gaussian, share: float) -> Mixture:
        weights = torch.tensor([share, 1 - share])
        mean = share * bumps[0].mean + (1 - share) * bumps[1].mean
        gap = bumps[0].mean - bumps[1].mean
        within = share * bumps[0].covariance + (1 - share) * bumps[1].covariance
        return cls(mean, within + share * (1 - share) * torch.outer(gap, gap), (bumps[0], bumps[1]), weights)

    def joint(self, y: Tensor, sigma: float | Tensor) -> Tensor:
        return torch.stack([bump.smoothed_log_density(y, sigma) for bump in self.bumps], 1) + self.weights.log()

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        scores = torch.stack([bump.score(y, sigma) for bump in self.bumps], 1)
        return (self.joint(y, sigma).softmax(1)[:, :, None] * scores).sum(1)

    def log_density(self, y: Tensor) -> Tensor:
        return self.joint(y, 0.0).logsumexp(1)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        first = torch.rand(n, 1, generator=generator) < self.weights[0]
        left, right = (bump.anchor_sample(n, 0.0, generator) for bump in self.bumps)
        return torch.where(first, left, right)


def random_gaussian(d: int, seed: int, *, low: float = 0.1, shift: float = 1.0) -> Gaussian:
    """Random axes, variances from ``low`` to 10, and a mean ``shift`` away from 0."""
    g = generator(seed)
    axes: Tensor = torch.linalg.qr(torch.randn(d, d, generator=g)).Q
    variance = torch.logspace(math.log10(low), 1, d)[torch.randperm(d, generator=g)]
    mean = torch.randn(d, generator=g)
    return Gaussian(shift * mean / mean.norm(), axes * variance @ axes.T)


def pair_of_mixtures() -> tuple[Mixture, Mixture]:
    left, right = Gaussian(torch.tensor([-2.0, 0.0]), 0.3 * torch.eye(2)), random_gaussian(2, 1, low=0.3, shift=2.0)
    return Mixture.of(left, right, share=0.3), Mixture.of(left, right, share=0.7)


def cells_of(*densities: Gaussian, n: int = 60) -> Tensor:
    return torch.cat([density.anchor_sample(n, 0.0, generator(7)) for density in densities])


def exact_ratio(x: Tensor, target: Gaussian, reference: Gaussian) -> Tensor:
    return target.anchor_log_density(x, 0.0) - reference.anchor_log_density(x, 0.0)


@pytest.mark.parametrize("d", [1, 5, 20])
@pytest.mark.parametrize("field", ["target", "reference", "other"])
def test_ratio_of_gaussians_is_exact_along_every_field(d: int, field: str) -> None:
    target, reference = random_gaussian(d, 1, shift=2.0), random_gaussian(d, 2, shift=-2.0)
    along = {"target": None, "reference": reference, "other": random_gaussian(d, 3)}[field]
    x = cells_of(target, reference)
    ratio = ode_log_ratio(x, target, reference, along=along)
    torch.testing.assert_close(ratio, exact_ratio(x, target, reference), atol=1e-3, rtol=0)


def test_ratio_of_gaussians_is_exact_for_narrow_directions_along_own_fields() -> None:
    target, reference = random_gaussian(5, 1, low=0.01, shift=2.0), random_gaussian(5, 2, low=0.01, shift=-2.0)
    for own in (target, reference):
        x = cells_of(own)
        ratio = ode_log_ratio(x, target, reference, along=own)
        truth = exact_ratio(x, target, reference)
        assert truth.abs().max() > 100
        torch.testing.assert_close(ratio, truth, atol=1e-3, rtol=0)


@pytest.mark.parametrize("d", [1, 5, 20])
def test_log_density_of_a_gaussian_is_exact(d: int) -> None:
    density = random_gaussian(d, 1, low=0.01, shift=2.0)
    x = cells_of(density)
    torch.testing.assert_close(ode_log_density(x, density), density.anchor_log_density(x, 0.0), atol=1e-3, rtol=0)


def test_samples_of_a_gaussian_have_its_mean_and_covariance() -> None:
    density, n = random_gaussian(4, 1, shift=3.0), 20_000
    x = ode_sample(n, density, generator=generator())
    deviation = density.covariance.diagonal().sqrt()
    torch.testing.assert_close((x.mean(0) - density.mean) / deviation, torch.zeros(4), atol=4 / n**0.5, rtol=0)
    correlation = x.T.cov() / deviation / deviation[:, None]
    torch.testing.assert_close(correlation, density.covariance / deviation / deviation[:, None], atol=0.05, rtol=0)


@pytest.mark.parametrize("swap", [False, True])
def test_ratio_of_mixtures_is_right(swap: bool) -> None:
    target, reference = pair_of_mixtures()
    x = torch.cat([target.draw(100, generator()), reference.draw(100, generator(1))])
    along = reference if swap else target
    ratio = ode_log_ratio(x, target, reference, along=along)
    truth = target.log_density(x) - reference.log_density(x)
    assert truth.std() > 0.5
    torch.testing.assert_close(ratio, truth.double(), atol=0.01, rtol=0)


def test_log_density_of_a_mixture_is_right() -> None:
    density, _ = pair_of_mixtures()
    x = density.draw(200, generator())
    torch.testing.assert_close(ode_log_density(x, density), density.log_density(x).double(), atol=0.02, rtol=0)


def test_samples_of_a_mixture_fill_both_bumps() -> None:
    narrow = (Gaussian(torch.tensor([m]), torch.tensor([[0.04]])) for m in (-1.0, 2.0))
    x = ode_sample(4000, Mixture.of(*narrow, share=0.3), generator=generator())[:, 0]
    left = x < 0.5
    assert left.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert x[left].mean().item() == pytest.approx(-1.0, abs=0.02)
    assert x[left].std().item() == pytest.approx(0.2, abs=0.02)
    assert x[~left].mean().item() == pytest.approx(2.0, abs=0.02)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), d=st.integers(1, 4))
def test_ratio_is_antisymmetric_and_transitive(seed: int, d: int) -> None:
    a, b, c = (random_gaussian(d, 3 * seed + i) for i in range(3))
    x = cells_of(a, n=10)

    def ratio(target: SmoothedDensity, reference: SmoothedDensity) -> Tensor:
        return ode_log_ratio(x, target, reference, along=a, options=COARSE)

    torch.testing.assert_close(ratio(a, b), -ratio(b, a), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(ratio(a, b) + ratio(b, c), ratio(a, c), atol=1e-3, rtol=1e-4)
    assert ratio(b, b).abs().max() == 0


@pytest.mark.parametrize("d", [3, 101])
def test_results_do_not_depend_on_the_chunks(d: int) -> None:
    target, reference = random_gaussian(d, 1), random_gaussian(d, 2)
    x = cells_of(target, reference, n=5)
    small, large = OdeOptions(n_steps=6, chunk_size=3), OdeOptions(n_steps=6, chunk_size=100)

    def results(options: OdeOptions) -> tuple[Tensor, ...]:
        return (
            ode_log_ratio(x, target, reference, generator=generator(), options=options),
            ode_log_density(x, target, generator=generator(), options=options),
            ode_sample(10, target, generator=generator(), options=options),
        )

    torch.testing.assert_close(results(small), results(large), atol=1e-3, rtol=1e-5)


def test_no_cells_give_no_ratios() -> None:
    target, reference = pair_of_mixtures()
    assert ode_log_ratio(torch.empty(0, 2), target, reference, options=COARSE).shape == (0,)
    assert ode_sample(0, target, generator=generator(), options=COARSE).shape == (0, 2)


def test_score_is_asked_only_in_the_trained_range() -> None:
    asked: list[float] = []

    class Recorded(Gaussian):
        def score(self, y: Tensor, sigma: Tensor) -> Tensor:
            assert sigma.ndim == 0
            asked.append(sigma.item())
            return super().score(y, sigma)

    density = Recorded(torch.zeros(2), torch.eye(2))
    ode_log_density(torch.zeros(1, 2), density)
    ode_sample(1, density, generator=generator())
    low, high = torch.tensor([SIGMA_MIN, SIGMA_MAX]).tolist()
    assert min(asked) == pytest.approx(low)
    assert max(asked) == pytest.approx(high)
    assert all(low <= sigma <= high for sigma in asked)


def test_a_jump_between_the_networks_costs_no_accuracy() -> None:
    """The coarse network does not go on where the fine one ends."""

    class Jumping(Gaussian):
        def score(self, y: Tensor, sigma: Tensor) -> Tensor:
            return super().score(y, sigma) * (1.3 if sigma > BOUNDARY else 1.0)

    density, x = Jumping(torch.zeros(2), torch.eye(2)), torch.randn(20, 2, generator=generator())
    found, exact = (ode_log_density(x, density, options=OdeOptions(n_steps=n)) for n in (24, 400))
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


def test_probes_are_exact_for_independent_dimensions() -> None:
    d = 120
    target, reference = (Gaussian(torch.full((d,), m), v * torch.eye(d)) for m, v in ((0.1, 1.0), (0.0, 1.2)))
    x = cells_of(target, n=8)
    ratio = ode_log_ratio(x, target, reference, generator=generator())
    torch.testing.assert_close(ratio, exact_ratio(x, target, reference), atol=1e-3, rtol=0)


def test_probes_are_unbiased_and_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    target, reference = random_gaussian(3, 1), random_gaussian(3, 2)
    x = cells_of(target, n=1)
    without_probes = ode_log_ratio(x, target, reference, options=COARSE)
    monkeypatch.setattr(_ode, "EXACT_DIVERGENCE_DIMS", 2)

    def ratio(seed: int) -> Tensor:
        return ode_log_ratio(x, target, reference, generator=generator(seed), options=COARSE)

    estimates = torch.cat([ratio(seed) for seed in range(60)])
    assert estimates.std() > 0.1
    assert (estimates.mean() - without_probes).abs() < 4 * estimates.std() / len(estimates) ** 0.5
    assert torch.equal(ratio(0), ratio(0))


def test_probes_are_drawn_only_above_the_limit() -> None:
    density = random_gaussian(2, 1)
    g = generator()
    before = g.get_state()
    ode_log_density(torch.zeros(1, 2), density, generator=g, options=COARSE)
    assert torch.equal(g.get_state(), before)
    wide = Gaussian(torch.zeros(101), torch.eye(101))
    with pytest.raises(ValueError, match=r"101 dimensions are more than 100: pass a generator"):
        ode_log_density(torch.zeros(1, 101), wide, options=COARSE)


def test_global_random_state_and_gradients_are_left_alone() -> None:
    target, reference = pair_of_mixtures()
    before = torch.get_rng_state()
    ratio = ode_log_ratio(torch.zeros(2, 2, requires_grad=True), target, reference, options=COARSE)
    ode_sample(2, target, generator=generator(), options=COARSE)
    assert torch.equal(torch.get_rng_state(), before)
    assert not ratio.requires_grad
    assert torch.is_grad_enabled()


def test_broken_score_is_an_error() -> None:
    class Broken(Gaussian):
        def score(self, y: Tensor, sigma: Tensor) -> Tensor:
            return torch.full_like(y, math.nan) * y

    with pytest.raises(RuntimeError, match="not finite for 3 of 3 cells"):
        ode_log_density(torch.zeros(3, 2), Broken(torch.zeros(2), torch.eye(2)), options=COARSE)
