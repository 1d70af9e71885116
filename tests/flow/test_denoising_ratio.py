"""The denoising identity against densities in closed form, and the noise it is averaged over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from scratio_sc.flow import _denoising_ratio
from scratio_sc.flow._denoising_ratio import (
    N_COARSE,
    N_NODES,
    Directions,
    anchor_parts,
    draw_directions,
    node_log_likelihoods,
    nodes,
)
from scratio_sc.flow._design import Design
from scratio_sc.flow._network import Experts, ResidualNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from scratio_sc.flow import ConditionalFlow
    from scratio_sc.flow._member import Member

    Denoiser = Callable[[Tensor, Tensor], Tensor]

DESIGN, _ = Design.of(np.array([["a"], ["b"]]), ("condition",), 1)


N_FINE = N_NODES - N_COARSE


def drawn(n_dims: int, n_parts: int = 1, *, seed: int = 0) -> list[Directions]:
    return draw_directions(n_dims, n_parts, rng=np.random.default_rng(seed))


def directions(n_dims: int, n_parts: int = 1, *, seed: int = 0) -> np.ndarray:
    """Directions of the fine nodes, by part."""
    return np.stack([part.fine for part in drawn(n_dims, n_parts, seed=seed)])


def draw(n: int, d: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


# --- the noise


@pytest.mark.parametrize("d", [2, 3, 5, 8, 20, 50])
def test_directions_are_antithetic(d: int) -> None:
    half, mirrored = np.split(directions(d), 2, axis=2)
    np.testing.assert_array_equal(mirrored, -half)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(d=st.integers(2, 40), seed=st.integers(0, 1000))
def test_average_of_the_outer_products_is_the_identity(d: int, seed: int) -> None:
    (vectors,) = directions(d, seed=seed)
    second = np.einsum("nmi,nmj->nij", vectors, vectors) / vectors.shape[1]
    np.testing.assert_allclose(second, np.tile(np.eye(d), (N_FINE, 1, 1)), atol=1e-10)


@pytest.mark.parametrize("d", [2, 3, 5, 8])
def test_average_of_the_fourth_power_of_the_length_is_that_of_noise_in_few_dimensions(d: int) -> None:
    (vectors,) = directions(d)
    np.testing.assert_allclose((vectors**2).sum(2).__pow__(2).mean(1), d * (d + 2))


@pytest.mark.parametrize("d", [20, 50])
def test_directions_of_many_dimensions_are_one_rotation(d: int) -> None:
    (vectors,) = directions(d)
    half = vectors[:, : vectors.shape[1] // 2]
    np.testing.assert_allclose(half @ half.transpose(0, 2, 1), np.tile(d * np.eye(d), (N_FINE, 1, 1)), atol=1e-10)


def test_one_dimension_has_directions() -> None:
    assert np.isfinite(directions(1)).all()


def test_nodes_have_directions_of_their_own() -> None:
    (vectors,) = directions(3)
    assert len(np.unique(vectors[:, 0], axis=0)) == N_FINE


@pytest.mark.parametrize(("d", "n_parts"), [(2, 4), (4, 2), (8, 4), (20, 4), (20, 1)])
def test_parts_hold_every_vector_once(d: int, n_parts: int) -> None:
    whole, parts = directions(d), directions(d, n_parts)
    assert len(parts) == n_parts
    together = np.concatenate(list(parts), axis=1)
    for node in range(N_FINE):
        np.testing.assert_array_equal(np.unique(together[node], axis=0), np.unique(whole[0, node], axis=0))
        assert len(together[node]) == len(whole[0, node])


@pytest.mark.parametrize(("d", "n_parts"), [(3, 4), (50, 4), (20, 3)])
def test_no_vector_is_left_out_where_parts_cannot_be_equal(d: int, n_parts: int) -> None:
    whole, together = directions(d)[0], np.concatenate(list(directions(d, n_parts)), axis=1)
    np.testing.assert_array_equal(np.unique(together[0], axis=0), np.unique(whole[0], axis=0))


@pytest.mark.parametrize(("d", "n_parts"), [(2, 2), (2, 8), (4, 4), (4, 8), (8, 2), (8, 8), (10, 2), (15, 3)])
def test_parts_of_few_dimensions_have_the_lengths_of_noise(d: int, n_parts: int) -> None:
    for part in directions(d, n_parts):
        square = (part**2).sum(2)
        np.testing.assert_allclose(square.mean(1), d)
        np.testing.assert_allclose((square**2).mean(1), d * (d + 2))


def test_parts_of_one_dimension_have_short_and_long_vectors() -> None:
    for part in directions(1, 2):
        assert (part**2).mean() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("d", "n_parts", "coarse", "fine"), [(20, 4, 3, 5), (50, 1, 8, 50), (3, 2, 9, 9)])
def test_coarse_nodes_have_half_of_a_part_in_many_dimensions(d: int, n_parts: int, coarse: int, fine: int) -> None:
    for part in drawn(d, n_parts):
        assert (part.coarse.shape, part.fine.shape) == ((N_COARSE, 2 * coarse, d), (N_FINE, 2 * fine, d))


@pytest.mark.parametrize("n_parts", [3, 40])
def test_every_part_is_antithetic(n_parts: int) -> None:
    for part in directions(2, n_parts):
        assert part.shape[1] >= 2
        np.testing.assert_allclose(part.mean(1), 0, atol=1e-12)


def test_same_seed_draws_the_same_directions() -> None:
    np.testing.assert_array_equal(directions(3, seed=1), directions(3, seed=1))


def test_another_seed_draws_other_directions() -> None:
    assert not np.isclose(directions(3, seed=1), directions(3, seed=2)).any()


# --- the Gaussian part


@pytest.fixture(params=["shared covariance", "own covariances"])
def anchors(
    request: pytest.FixtureRequest, anchor_flow: ConditionalFlow, curved_flow: ConditionalFlow
) -> ConditionalFlow:
    return anchor_flow if request.param == "shared covariance" else curved_flow


def test_bands_of_the_anchor_sum_to_the_gaussian_log_density(anchors: ConditionalFlow) -> None:
    member = anchors.members[0]
    groups = member.groups(anchors.design, anchors.design.groups)
    x = torch.as_tensor(2 * draw(50, 3), dtype=torch.float32)
    expected = torch.stack([groups.mixtures.log_density(x, 0.0, c) for c in range(3)], dim=1)
    torch.testing.assert_close(anchor_parts(x, groups).sum(-1), expected, atol=1e-9, rtol=1e-9)


def test_bands_of_the_anchor_sum_to_the_gaussian_seen_through_a_kernel(anchors: ConditionalFlow) -> None:
    member = anchors.members[0]
    groups = member.groups(anchors.design, anchors.design.groups)
    x = torch.as_tensor(2 * draw(50, 3), dtype=torch.float32)
    partial = anchor_parts(x, groups).cumsum(-1)
    for node, h in enumerate(nodes().bandwidth[:-1]):
        expected = groups.mixtures.smoothed_log_densities(x, [float(h)])[:, 1, 0]
        torch.testing.assert_close(partial[:, 1, node], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("weights", [[1.0] * 8, [1.0] * 5 + [0.0] * 3, [1.0, 1.0, 0.7, 0.7, 0.7, 0.2, 0.0, 0.0]])
def test_nodes_of_equal_weights_may_be_taken_together(anchors: ConditionalFlow, weights: list[float]) -> None:
    member = anchors.members[0]
    groups = member.groups(anchors.design, anchors.design.groups)
    x = torch.as_tensor(2 * draw(50, 3), dtype=torch.float32)
    each, together = anchor_parts(x, groups), anchor_parts(x, groups, weights=np.array(weights))
    for asked in (weights, np.ones(8)):
        weight = torch.as_tensor(asked, dtype=torch.float64)
        torch.testing.assert_close(together @ weight, each @ weight, atol=1e-9, rtol=1e-9)
    assert int(together.any(0).any(0).sum()) == len(set(weights))


# --- the network's part: a wrong anchor, and a network that knows the truth


@pytest.fixture
def teach(monkeypatch: pytest.MonkeyPatch) -> Callable[[Member, list[Denoiser]], None]:
    """Make the network of a member say exactly what turns its anchor into the denoisers given, one a group."""

    def teach_it(member: Member, denoisers: list[Denoiser]) -> None:
        mixtures = member.groups(DESIGN, DESIGN.groups).mixtures

        def anchor_denoiser(y: Tensor, sigma: Tensor, c: int) -> Tensor:
            return torch.stack([mixtures.denoise(y[:, i], float(s))[c] for i, s in enumerate(sigma.flatten())], dim=1)

        def trunk(_: ResidualNetwork, z: Tensor, log_sigma: Tensor) -> tuple[Tensor, Tensor]:
            sigma = log_sigma.exp()
            return z * (member.spread + sigma**2).sqrt(), sigma

        def head(_: ResidualNetwork, hidden: tuple[Tensor, Tensor], features: Tensor) -> Tensor:
            (y, sigma), c = hidden, int(features.argmax())
            return (denoisers[c](y, sigma) - anchor_denoiser(y, sigma, c)) / member.output_scale(sigma)

        monkeypatch.setattr(Experts, "silent", False)
        monkeypatch.setattr(ResidualNetwork, "noise_code", lambda _, log_sigma: log_sigma[..., None])
        monkeypatch.setattr(ResidualNetwork, "group_code", lambda _, __, features: features)
        monkeypatch.setattr(ResidualNetwork, "trunk", trunk)
        monkeypatch.setattr(ResidualNetwork, "head", head)

    return teach_it


def gaussian_denoiser(mean: np.ndarray, covariance: np.ndarray) -> Denoiser:
    """Posterior mean of a cell of N(mean, covariance) seen through noise."""
    variance, basis = (torch.as_tensor(part, dtype=torch.float32) for part in np.linalg.eigh(covariance))
    mu = torch.as_tensor(mean, dtype=torch.float32)

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        return mu + (y - mu) @ basis * (variance / (variance + sigma**2)) @ basis.T

    return denoise


def mixture_denoiser(means: np.ndarray, variance: float) -> Denoiser:
    """The same for equal parts of spherical bumps ``means (k, d)``."""
    mu = torch.as_tensor(means, dtype=torch.float32)

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        total = variance + sigma**2
        gap = y[..., None, :] - mu
        share = (-gap.square().sum(-1) / (2 * total)).softmax(-1)
        posterior = mu + gap * (variance / total)[..., None]
        return (share[..., None] * posterior).sum(-2)

    return denoise


def score(member: Member, x: np.ndarray) -> np.ndarray:
    """Log likelihoods ``(n, 2)``."""
    groups = member.groups(DESIGN, DESIGN.groups)
    return node_log_likelihoods(member, x, groups, directions=drawn(x.shape[1])[0]).mean(0).sum(2)


TRUE_MEAN = np.array([[0.4, -0.3, 0.0], [-0.5, 0.2, 0.3]])
ROOT = np.array([[1.1, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.2, 0.1, 0.8]])
CURVED = ROOT @ ROOT.T
WRONG_MEAN, WRONG_VARIANCE = np.zeros((2, 3)), np.array([1.5, 1.0, 0.7])


@pytest.mark.parametrize(
    ("anchor_mean", "anchor_variance", "true_covariance"),
    [
        (WRONG_MEAN, np.array([1.5, 1.0, 0.7]), np.diag([1.5, 1.0, 0.7])),
        (TRUE_MEAN, np.array([1.5, 1.0, 0.7]), np.diag([1.0, 1.0, 1.0])),
        (WRONG_MEAN, WRONG_VARIANCE, CURVED),
    ],
    ids=["wrong mean", "wrong variance", "wrong mean and covariance"],
)
def test_network_that_corrects_a_wrong_anchor_gives_the_true_log_density(
    make_member: Callable[..., Member],
    teach: Callable[[Member, list[Denoiser]], None],
    anchor_mean: np.ndarray,
    anchor_variance: np.ndarray,
    true_covariance: np.ndarray,
) -> None:
    member = make_member(DESIGN, anchor_mean, anchor_variance)
    x = draw(100, 3) @ np.linalg.cholesky(true_covariance).T
    expected = np.stack([multivariate_normal(mean, true_covariance).logpdf(x) for mean in TRUE_MEAN], axis=1)
    assert np.abs(score(member, x) - expected).mean() > 0.05
    teach(member, [gaussian_denoiser(mean, true_covariance) for mean in TRUE_MEAN])
    np.testing.assert_allclose(score(member, x), expected, atol=1e-2)


BUMPS = [np.array([[-1.5, 0.0], [1.5, 0.0]]), np.array([[0.0, -1.5], [0.0, 1.5]])]
BUMP_VARIANCE = 0.3


def mixture_log_density(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    each = [multivariate_normal(mean, BUMP_VARIANCE * np.eye(2)).logpdf(x) for mean in means]
    return logsumexp(each, axis=0) - np.log(len(means))


def test_network_that_knows_a_mixture_gives_its_log_ratio(
    make_member: Callable[..., Member], teach: Callable[[Member, list[Denoiser]], None]
) -> None:
    """Two bumps side by side against two on top of each other: to an anchor of one covariance, the same."""
    member = make_member(DESIGN, np.zeros((2, 2)), np.full(2, 1.4))
    rng = np.random.default_rng(0)
    x = np.concatenate([means[rng.integers(2, size=100)] for means in BUMPS])
    x = x + np.sqrt(BUMP_VARIANCE) * rng.standard_normal(x.shape)
    truth = mixture_log_density(x, BUMPS[0]) - mixture_log_density(x, BUMPS[1])
    teach(member, [mixture_denoiser(means, BUMP_VARIANCE) for means in BUMPS])
    ratio = np.subtract(*score(member, x).T)
    assert np.sqrt(np.mean((ratio - truth) ** 2)) < 0.1 * truth.std()


# --- cells in chunks


@pytest.mark.parametrize("rows", [1, 1000])
def test_results_do_not_depend_on_the_rows_in_a_chunk(
    monkeypatch: pytest.MonkeyPatch, flow: ConditionalFlow, rows: int
) -> None:
    member, x, noise = flow.members[0], draw(50, 3), drawn(3)[0]
    groups = member.groups(flow.design, flow.design.groups)
    whole = node_log_likelihoods(member, x, groups, directions=noise)
    monkeypatch.setattr(_denoising_ratio, "ROWS_PER_CHUNK", rows)
    chunked = node_log_likelihoods(member, x, groups, directions=noise)
    np.testing.assert_allclose(chunked.sum(3), whole.sum(3), atol=1e-5, rtol=1e-5)


def test_network_rows_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch, flow: ConditionalFlow) -> None:
    seen, original = [], ResidualNetwork.trunk

    def trunk(self: ResidualNetwork, z: Tensor, noise_code: Tensor) -> Tensor:
        seen.append(z.shape[:-1].numel())
        return original(self, z, noise_code)

    monkeypatch.setattr(ResidualNetwork, "trunk", trunk)
    monkeypatch.setattr(_denoising_ratio, "ROWS_PER_CHUNK", 1000)
    member = flow.members[0]
    groups = member.groups(flow.design, flow.design.groups)
    node_log_likelihoods(member, draw(40, 3), groups, directions=drawn(3)[0])
    assert max(seen) <= 1000


def test_no_cells_have_no_log_likelihoods(flow: ConditionalFlow) -> None:
    member = flow.members[0]
    groups = member.groups(flow.design, flow.design.groups)
    parts = node_log_likelihoods(member, np.empty((0, 3)), groups, directions=drawn(3)[0])
    assert parts.shape == (1, 0, 3, N_NODES)
