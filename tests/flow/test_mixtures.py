"""Gaussian mixtures of groups seen through noise, against scipy and matrix formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal
from torch import Tensor

from scratio_sc.flow._mixtures import Mixtures

D, K = 3, 2
SIGMAS = [0.02, 1.0, 50.0]
KINDS = {
    "one component along the axes": {"m": 1, "rotated": False, "own": False},
    "one shared component": {"m": 1, "rotated": True, "own": False},
    "one own component": {"m": 1, "rotated": True, "own": True},
    "shared components": {"m": 4, "rotated": True, "own": False},
    "own components": {"m": 4, "rotated": True, "own": True},
}


def random_mixtures(*, m: int, rotated: bool, own: bool, seed: int = 0) -> Mixtures:
    """Groups with weights and means of their own; ``own``: covariances too."""
    g = torch.Generator().manual_seed(seed)
    k = K if own else 1
    rotation = torch.linalg.qr(torch.randn(k, m, D, D, generator=g, dtype=torch.float64)).Q if rotated else None
    log_weight = torch.randn(K, m, generator=g, dtype=torch.float64).log_softmax(1)
    mean = 1.5 * torch.randn(K, m, D, generator=g, dtype=torch.float64)
    variance = 0.2 + torch.randn(k, m, D, generator=g, dtype=torch.float64) ** 2
    return Mixtures(log_weight, mean, variance, rotation, (m,))


@pytest.fixture(params=KINDS)
def groups(request: pytest.FixtureRequest) -> Mixtures:
    return random_mixtures(**KINDS[request.param])


@pytest.fixture(params=[kind for kind, options in KINDS.items() if options["m"] == 1])
def gaussians(request: pytest.FixtureRequest) -> Mixtures:
    return random_mixtures(**KINDS[request.param])


def weight(groups: Mixtures, c: int) -> np.ndarray:
    return groups.log_weight[c].exp().numpy()


def covariances(groups: Mixtures, c: int) -> np.ndarray:
    """Covariances ``(m, d, d)`` of a group's components."""
    own = c if len(groups.variance) > 1 else 0
    variance = groups.variance[own].numpy()
    v = np.eye(D) if groups.rotation is None else groups.rotation[own].numpy()
    return v * variance[:, None] @ np.swapaxes(v, -1, -2)


def cells(n: int = 20) -> Tensor:
    return 2 * torch.randn(n, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def scipy_log_joint(groups: Mixtures, y: np.ndarray, sigma: float, c: int) -> np.ndarray:
    """Log of weight times density of each component, ``(n, m)``."""
    each = [
        multivariate_normal(mean, covariance + sigma**2 * np.eye(D)).logpdf(y)
        for mean, covariance in zip(groups.mean[c].numpy(), covariances(groups, c), strict=True)
    ]
    return np.stack(each, axis=-1) + groups.log_weight[c].numpy()


def scipy_log_density(groups: Mixtures, y: np.ndarray, sigma: float, c: int) -> np.ndarray:
    return logsumexp(scipy_log_joint(groups, y, sigma, c), axis=-1)


# --- the density


@pytest.mark.parametrize("sigma", [0.0, *SIGMAS])
@pytest.mark.parametrize("c", range(K))
def test_log_density_is_that_of_scipy(groups: Mixtures, sigma: float, c: int) -> None:
    y = cells()
    expected = scipy_log_density(groups, y.numpy(), sigma, c)
    np.testing.assert_allclose(groups.log_density(y, sigma, c).numpy(), expected)


def test_log_density_of_single_precision_cells_is_computed_in_double_precision(groups: Mixtures) -> None:
    assert groups.log_density(cells().float(), 1.0, 0).dtype == torch.float64


@pytest.mark.parametrize("h", SIGMAS)
def test_smoothed_log_density_is_the_average_of_log_densities_seen_through_noise(gaussians: Mixtures, h: float) -> None:
    """The average over +-sqrt(d) e_j is the Gaussian one, because the log density of one component is quadratic."""
    x = cells().numpy()
    noise = np.sqrt(D) * np.concatenate([np.eye(D), -np.eye(D)])
    expected = np.mean([scipy_log_density(gaussians, x + h * eps, h, 1) for eps in noise], axis=0)
    np.testing.assert_allclose(gaussians.smoothed_log_densities(cells(), [h])[:, 1, 0].numpy(), expected)


def test_smoothed_log_density_without_noise_is_the_log_density(groups: Mixtures) -> None:
    y = cells()
    torch.testing.assert_close(groups.smoothed_log_densities(y, [0.0])[:, 0, 0], groups.log_density(y, 0.0, 0))


def test_log_densities_seen_through_several_kernels_are_those_of_each(groups: Mixtures) -> None:
    x, widths = cells(), [2.0, 0.5, 0.0]
    together = groups.smoothed_log_densities(x, widths)
    torch.testing.assert_close(together, torch.cat([groups.smoothed_log_densities(x, [h]) for h in widths], dim=2))


def apart(gap: float = 40.0) -> Mixtures:
    """Two components so far apart that every cell belongs to one of them alone."""
    mean = torch.tensor([[[-gap, 0.0, 0.0], [gap, 0.0, 0.0]]], dtype=torch.float64)
    variance = torch.tensor([[[1.0, 2.0, 0.5], [0.3, 1.0, 1.5]]], dtype=torch.float64)
    return Mixtures(torch.tensor([[0.3, 0.7]], dtype=torch.float64).log(), mean, variance, None, (2,))


def test_smoothed_log_density_of_components_far_apart_is_that_of_the_nearer_one() -> None:
    both, x, h = apart(), cells() + torch.tensor([40.0, 0, 0]), 0.8
    one = Mixtures(torch.zeros(1, 1, dtype=torch.float64), both.mean[:, 1:], both.variance[:, 1:], None, (1,))
    torch.testing.assert_close(both.smoothed_log_densities(x, [h]), one.smoothed_log_densities(x, [h]) + np.log(0.7))


def test_groups_that_share_some_means_have_their_own_log_densities() -> None:
    """Nothing of one group's is left in the next one's."""
    groups, x = random_mixtures(m=4, rotated=True, own=False), cells()
    mean = groups.mean.clone()
    mean[1, :2] = mean[0, :2]
    groups = replace(groups, mean=mean)
    expected = torch.stack([groups.log_density(x, 0.0, c) for c in range(K)], dim=1)
    torch.testing.assert_close(groups.smoothed_log_densities(x, [0.0])[..., 0], expected)


# --- the denoiser


def posterior_mean(groups: Mixtures, y: np.ndarray, sigma: float, c: int) -> np.ndarray:
    """Component by component mu + Sigma (Sigma + sigma^2 I)^-1 (y - mu), by the share of each."""
    share = softmax(scipy_log_joint(groups, y, sigma, c), axis=-1)
    out = np.zeros_like(y)
    for k, (mean, covariance) in enumerate(zip(groups.mean[c].numpy(), covariances(groups, c), strict=True)):
        gain = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(D))
        out += share[:, [k]] * (mean + (y - mean) @ gain.T)
    return out


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("c", range(K))
def test_denoiser_is_the_posterior_mean(groups: Mixtures, sigma: float, c: int) -> None:
    denoised = groups.denoise(cells(), sigma)[c]
    np.testing.assert_allclose(denoised.numpy(), posterior_mean(groups, cells().numpy(), sigma, c))


def test_denoiser_is_the_average_of_draws_weighted_by_their_noise() -> None:
    """Brute force: E[x | y] over many draws of x."""
    groups = random_mixtures(m=4, rotated=True, own=True)
    x = groups.sample(200_000, 0.0, 0, generator=torch.Generator().manual_seed(0))
    y = groups.mean[0, :2] + 0.5
    share = (-torch.cdist(y, x).square() / 2).softmax(1)
    torch.testing.assert_close(groups.denoise(y, 1.0)[0], share @ x, atol=0.03, rtol=0)


def test_cells_are_denoised_in_any_shape(groups: Mixtures) -> None:
    y = cells(24)
    torch.testing.assert_close(groups.denoise(y.view(4, 3, 2, D), 0.4)[1], groups.denoise(y, 0.4)[1].view(4, 3, 2, D))


def test_rows_are_denoised_under_their_own_groups(groups: Mixtures) -> None:
    y, sigma = cells(), torch.linspace(0.1, 3, 20, dtype=torch.float64)[:, None]
    group = torch.arange(20) % K
    expected = torch.stack([groups.denoise(y[i], float(sigma[i]))[int(group[i])] for i in range(20)])
    torch.testing.assert_close(groups.denoise_groups(y, sigma, group), expected)


def test_more_rows_than_are_denoised_at_once_are_denoised_alike(groups: Mixtures) -> None:
    y, sigma, group = cells(300), torch.linspace(0.1, 3, 300, dtype=torch.float64)[:, None], torch.arange(300) % K
    whole = groups.denoise_groups(y, sigma, group)
    torch.testing.assert_close(groups.denoise_groups(y[-40:], sigma[-40:], group[-40:]), whole[-40:])


def test_no_rows_are_denoised_to_none(groups: Mixtures) -> None:
    none = cells(0)
    assert groups.denoise_groups(none, none[:, :1], torch.arange(0)).shape == (0, D)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_score_is_the_gradient_of_the_log_density(groups: Mixtures, sigma: float) -> None:
    y = cells().requires_grad_()
    (expected,) = torch.autograd.grad(groups.log_density(y, sigma, 0).sum(), y)
    torch.testing.assert_close(groups.score(y.detach(), torch.tensor(sigma, dtype=torch.float64), 0), expected)


def test_score_is_the_denoiser_minus_the_cell_over_the_noise(groups: Mixtures) -> None:
    y, sigma = cells(), 0.7
    expected = (groups.denoise(y, sigma)[1] - y) / sigma**2
    torch.testing.assert_close(groups.score(y, torch.tensor(sigma, dtype=torch.float64), 1), expected)


# --- the shares


def mahalanobis(groups: Mixtures, x: np.ndarray, c: int, k: int) -> np.ndarray:
    """Squared distances of cells from a component of one group."""
    own = min(c, len(groups.variance) - 1)
    rotation = np.eye(x.shape[1]) if groups.rotation is None else groups.rotation[own, k].numpy()
    covariance = rotation @ np.diag(groups.variance[own, k].numpy()) @ rotation.T
    apart = x - groups.mean[c, k].numpy()
    return (apart * np.linalg.solve(covariance, apart.T).T).sum(1)


def test_distances_are_of_the_groups_that_cells_belong_to(groups: Mixtures) -> None:
    x, of_group = cells().numpy(), np.stack([np.eye(K)[1], np.arange(1, K + 1) / (K * (K + 1) / 2)])
    _, (alone, together) = groups.shares(cells(), torch.as_tensor(of_group))
    each = np.stack([scipy_log_joint(groups, x, 0.0, c) for c in range(K)])
    belongs = softmax(each + np.log(of_group[1])[:, None, None], axis=0)
    for k in range(each.shape[2]):
        distance = np.stack([mahalanobis(groups, x, c, k) for c in range(K)])
        np.testing.assert_allclose(alone[:, k], distance[1])
        np.testing.assert_allclose(together[:, k], (belongs[..., k] * distance).sum(0))


def test_shares_are_the_posterior_of_the_components_over_all_groups(groups: Mixtures) -> None:
    of_group = np.arange(1, K + 1) / (K * (K + 1) / 2)
    each = [scipy_log_joint(groups, cells().numpy(), 0.0, c) + np.log(part) for c, part in enumerate(of_group)]
    found, _ = groups.shares(cells(), torch.as_tensor(np.stack([of_group, np.eye(K)[1]])))
    expected = [softmax(logsumexp(each, axis=0), axis=1), softmax(each[1], axis=1)]
    np.testing.assert_allclose(found.numpy(), expected)


# --- samples


@settings(max_examples=5, deadline=None, derandomize=True)
@given(sigma=st.sampled_from([0.0, 2.0]), own=st.booleans(), seed=st.integers(0, 1000))
def test_samples_have_the_mean_and_covariance(sigma: float, own: bool, seed: int) -> None:
    n, groups = 20_000, random_mixtures(m=3, rotated=True, own=own, seed=seed)
    x = groups.sample(n, sigma, 1, generator=torch.Generator().manual_seed(seed)).numpy()
    w, means = weight(groups, 1), groups.mean[1].numpy()
    mean = w @ means
    total = np.einsum("m,mde->de", w, covariances(groups, 1)) + sigma**2 * np.eye(D)
    total += np.einsum("m,md,me->de", w, means - mean, means - mean)
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * np.sqrt(total.max() / n))
    np.testing.assert_allclose(np.cov(x.T), total, atol=5 * np.sqrt(2 / n) * total.max())


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_samples_of_one_component_have_its_mean_and_covariance(gaussians: Mixtures, sigma: float) -> None:
    n = 20_000
    x = gaussians.sample(n, sigma, 1, generator=torch.Generator().manual_seed(0)).numpy()
    total = covariances(gaussians, 1)[0] + sigma**2 * np.eye(D)
    np.testing.assert_allclose(x.mean(0), gaussians.mean[1, 0].numpy(), atol=5 * np.sqrt(total.max() / n))
    np.testing.assert_allclose(np.cov(x.T), total, atol=5 * np.sqrt(2 / n) * total.max())


def test_samples_are_shared_out_by_the_weights() -> None:
    x = apart().sample(5000, 0.0, 0, generator=torch.Generator().manual_seed(0))
    assert (x[:, 0] < 0).double().mean().item() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 5000))


def test_same_generator_draws_the_same_samples(groups: Mixtures) -> None:
    first, second = (groups.sample(5, 1.0, 0, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


# --- transport


def test_transport_keeps_the_log_density_up_to_the_change_of_volume(gaussians: Mixtures) -> None:
    y = cells()
    there = gaussians.transport(y, 1, sigma_from=3.0, sigma_to=0.5)
    change = gaussians.log_density(there, 0.5, 1) - gaussians.log_density(y, 3.0, 1)
    torch.testing.assert_close(change, change[:1].expand(20))


def test_transport_goes_by_any_level_in_between(gaussians: Mixtures) -> None:
    y = cells()
    stop = gaussians.transport(y, 0, sigma_from=3.0, sigma_to=1.0)
    detour = gaussians.transport(stop, 0, sigma_from=1.0, sigma_to=0.0)
    torch.testing.assert_close(gaussians.transport(y, 0, sigma_from=3.0, sigma_to=0.0), detour)


def test_transport_between_components_far_apart_is_that_of_the_nearer_one() -> None:
    both, x = apart(), cells() + torch.tensor([40.0, 0, 0])
    one = Mixtures(torch.zeros(1, 1, dtype=torch.float64), both.mean[:, 1:], both.variance[:, 1:], None, (1,))
    moved, expected = (each.transport(x, 0, sigma_from=0.5, sigma_to=0.0) for each in (both, one))
    torch.testing.assert_close(moved, expected)


def test_transport_of_a_component_that_is_there_twice_is_that_of_one() -> None:
    """As of partitions of the cells that agree."""
    one, x = random_mixtures(m=1, rotated=True, own=True), cells()
    assert one.rotation is not None
    weight, *rest = (part.repeat_interleave(2, 1) for part in (one.log_weight, one.mean, one.variance, one.rotation))
    twice = Mixtures(weight - np.log(2), *rest, (1, 1))
    moved, expected = (each.transport(x, 0, sigma_from=0.5, sigma_to=0.0) for each in (twice, one))
    torch.testing.assert_close(moved, expected)


# --- several partitions


PARTITIONS = (1, 3)


@pytest.fixture(params=[False, True])
def partitioned(request: pytest.FixtureRequest) -> tuple[Mixtures, list[Mixtures]]:
    """Partitions of one and of three components in equal shares, and each by itself."""
    parts = [random_mixtures(m=m, rotated=True, own=request.param, seed=m) for m in PARTITIONS]
    weight, mean, variance, rotation = (
        torch.cat([getattr(part, name) for part in parts], dim=1)
        for name in ("log_weight", "mean", "variance", "rotation")
    )
    return Mixtures(weight - np.log(2), mean, variance, rotation, PARTITIONS), parts


@pytest.mark.parametrize("sigma", SIGMAS)
def test_log_density_is_the_mean_of_those_of_the_partitions(
    partitioned: tuple[Mixtures, list[Mixtures]], sigma: float
) -> None:
    together, parts = partitioned
    expected = torch.stack([part.log_density(cells(), sigma, 1) for part in parts]).mean(0)
    torch.testing.assert_close(together.log_density(cells(), sigma, 1), expected)


def test_smoothed_log_densities_are_means_of_those_of_the_partitions(
    partitioned: tuple[Mixtures, list[Mixtures]],
) -> None:
    together, parts = partitioned
    expected = torch.stack([part.smoothed_log_densities(cells(), [2.0, 0.0]) for part in parts]).mean(0)
    torch.testing.assert_close(together.smoothed_log_densities(cells(), [2.0, 0.0]), expected)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_denoised_cells_are_means_of_those_of_the_partitions(
    partitioned: tuple[Mixtures, list[Mixtures]], sigma: float
) -> None:
    together, parts = partitioned
    expected = torch.stack([part.denoise(cells(), sigma)[1] for part in parts]).mean(0)
    torch.testing.assert_close(together.denoise(cells(), sigma)[1], expected)
    rows = together.denoise_groups(cells(), torch.full((20, 1), sigma, dtype=torch.float64), torch.ones(20, dtype=int))
    torch.testing.assert_close(rows, expected)


def test_shares_are_equal_for_every_partition(partitioned: tuple[Mixtures, list[Mixtures]]) -> None:
    together, parts = partitioned
    of_group = torch.ones(len(together.log_weight))
    expected = torch.cat([part.shares(cells(), of_group)[0] for part in parts], dim=2) / 2
    torch.testing.assert_close(together.shares(cells(), of_group)[0], expected)


# --- where matrix products are reduced


def test_rows_are_denoised_in_full_precision_where_matrix_products_are_reduced(groups: Mixtures) -> None:
    single = replace(groups, **{name: part.float() for name, part in vars(groups).items() if isinstance(part, Tensor)})
    y, sigma, group = cells().float(), torch.linspace(0.1, 3, 20)[:, None], torch.arange(20) % K
    with torch.autocast("cpu", torch.bfloat16):
        reduced = single.denoise_groups(y, sigma, group)
    assert torch.equal(reduced, single.denoise_groups(y, sigma, group))


# --- some of the groups


def test_taken_groups_are_the_same_groups(groups: Mixtures) -> None:
    taken = groups.take(torch.tensor([1]))
    torch.testing.assert_close(taken.log_density(cells(), 1.0, 0), groups.log_density(cells(), 1.0, 1))
