"""Gaussian groups seen through noise, against scipy and matrix formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from scratio_sc.flow._gaussians import Gaussians

D, K = 3, 2
SIGMAS = [0.02, 1.0, 50.0]


def random_gaussians(*, own_basis: bool, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(K, D, D, generator=g, dtype=torch.float64)).Q if own_basis else None
    mean, variance = torch.randn(2, K, D, generator=g, dtype=torch.float64)
    return Gaussians(mean, 0.2 + variance**2, basis)


def covariance(groups: Gaussians, c: int) -> np.ndarray:
    v = np.eye(D) if groups.basis is None else groups.basis[c].numpy()
    return v @ np.diag(groups.variance[c].numpy()) @ v.T


def cells(n: int = 20) -> Tensor:
    return 2 * torch.randn(n, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def scipy_log_density(groups: Gaussians, y: np.ndarray, sigma: float, c: int) -> np.ndarray:
    return multivariate_normal(groups.mean[c].numpy(), covariance(groups, c) + sigma**2 * np.eye(D)).logpdf(y)


@pytest.fixture(params=[False, True], ids=["shared basis", "own basis"])
def groups(request: pytest.FixtureRequest) -> Gaussians:
    return random_gaussians(own_basis=request.param)


@pytest.mark.parametrize("sigma", [0.0, *SIGMAS])
@pytest.mark.parametrize("c", range(K))
def test_log_density_is_that_of_scipy(groups: Gaussians, sigma: float, c: int) -> None:
    y = cells()
    expected = scipy_log_density(groups, y.numpy(), sigma, c)
    np.testing.assert_allclose(groups.log_density(y, sigma, c).numpy(), expected)


def test_log_density_of_single_precision_cells_is_computed_in_double_precision(groups: Gaussians) -> None:
    assert groups.log_density(cells().float(), 1.0, 0).dtype == torch.float64


@pytest.mark.parametrize("h", SIGMAS)
def test_smoothed_log_density_is_the_average_of_log_densities_seen_through_noise(groups: Gaussians, h: float) -> None:
    """The average over +-sqrt(d) e_j is the Gaussian one, because a log density is quadratic."""
    x = cells().numpy()
    noise = np.sqrt(D) * np.concatenate([np.eye(D), -np.eye(D)])
    expected = np.mean([scipy_log_density(groups, x + h * eps, h, 1) for eps in noise], axis=0)
    np.testing.assert_allclose(groups.smoothed_log_density(cells(), h, 1).numpy(), expected)


def test_smoothed_log_density_without_noise_is_the_log_density(groups: Gaussians) -> None:
    y = cells()
    torch.testing.assert_close(groups.smoothed_log_density(y, 0.0, 0), groups.log_density(y, 0.0, 0))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_denoiser_is_the_posterior_mean(groups: Gaussians, sigma: float) -> None:
    y, mean = cells().numpy(), groups.mean[1].numpy()
    gain = covariance(groups, 1) @ np.linalg.inv(covariance(groups, 1) + sigma**2 * np.eye(D))
    expected = mean + (y - mean) @ gain.T
    denoised = groups.denoise(cells(), torch.full((20, 1), sigma, dtype=torch.float64), 1)
    np.testing.assert_allclose(denoised.numpy(), expected)


def test_rows_are_denoised_under_their_own_groups(groups: Gaussians) -> None:
    y, sigma = cells(), torch.linspace(0.1, 3, 20, dtype=torch.float64)[:, None]
    group = torch.arange(20) % K
    expected = torch.stack([groups.denoise(y[i], sigma[i], int(group[i])) for i in range(20)])
    torch.testing.assert_close(groups.denoise_groups(y, sigma, group), expected)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_score_is_the_gradient_of_the_log_density(groups: Gaussians, sigma: float) -> None:
    y = cells().requires_grad_()
    (expected,) = torch.autograd.grad(groups.log_density(y, sigma, 0).sum(), y)
    torch.testing.assert_close(groups.score(y.detach(), torch.tensor(sigma, dtype=torch.float64), 0), expected)


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_samples_have_the_mean_and_covariance(groups: Gaussians, sigma: float) -> None:
    n = 20_000
    x = groups.sample(n, sigma, 1, generator=torch.Generator().manual_seed(0)).numpy()
    total = covariance(groups, 1) + sigma**2 * np.eye(D)
    bound = 5 * np.sqrt(total.max() / n)
    np.testing.assert_allclose(x.mean(0), groups.mean[1].numpy(), atol=bound)
    np.testing.assert_allclose(np.cov(x.T), total, atol=5 * np.sqrt(2 / n) * total.max())


def test_transport_keeps_the_log_density_up_to_the_change_of_volume(groups: Gaussians) -> None:
    y = cells()
    there = groups.transport(y, 1, sigma_from=3.0, sigma_to=0.5)
    change = groups.log_density(there, 0.5, 1) - groups.log_density(y, 3.0, 1)
    torch.testing.assert_close(change, change[:1].expand(20))


def test_transport_goes_by_any_level_in_between(groups: Gaussians) -> None:
    y = cells()
    stop = groups.transport(y, 0, sigma_from=3.0, sigma_to=1.0)
    detour = groups.transport(stop, 0, sigma_from=1.0, sigma_to=0.0)
    torch.testing.assert_close(groups.transport(y, 0, sigma_from=3.0, sigma_to=0.0), detour)


def test_taken_groups_are_the_same_groups(groups: Gaussians) -> None:
    taken = groups.take(torch.tensor([1]))
    torch.testing.assert_close(taken.log_density(cells(), 1.0, 0), groups.log_density(cells(), 1.0, 1))
