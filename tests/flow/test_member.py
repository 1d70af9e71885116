"""One member: coordinates, groups and the scores of its densities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scratio_sc.flow._design import Design
from scratio_sc.flow._member import MemberDensity
from scratio_sc.flow._proportions import log_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from scratio_sc.flow import ConditionalFlow
    from scratio_sc.flow._member import Member

DESIGN, _ = Design.of(np.array([["a"], ["b"]]), ("condition",), 1)
MEAN, VARIANCE = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([1.5, 0.5])


@pytest.fixture
def member(make_member: Callable[..., Member]) -> Member:
    return make_member(DESIGN, MEAN, VARIANCE)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_embedding_is_the_inverse_of_coordinates(flow: ConditionalFlow, cells: np.ndarray) -> None:
    first = flow.members[0]
    np.testing.assert_allclose(first.embedding(first.coordinates(cells)), cells, atol=1e-4)


def test_coordinates_keep_distances(flow: ConditionalFlow, cells: np.ndarray) -> None:
    z = flow.members[0].coordinates(cells).numpy()
    expected = np.linalg.norm(cells[1:] - cells[0], axis=1)
    np.testing.assert_allclose(np.linalg.norm(z[1:] - z[0], axis=1), expected, rtol=1e-4)


def test_groups_are_the_gaussians_of_the_anchor(member: Member) -> None:
    mixtures = member.groups(DESIGN, DESIGN.groups).mixtures
    np.testing.assert_allclose(mixtures.mean, MEAN[:, None])
    np.testing.assert_allclose(mixtures.variance, VARIANCE[None, None])
    np.testing.assert_array_equal(mixtures.log_weight, 0)


def test_groups_of_one_component_along_the_axes_have_no_rotation(member: Member) -> None:
    assert member.groups(DESIGN, DESIGN.groups).mixtures.rotation is None


def test_groups_follow_the_rows_asked_for(member: Member) -> None:
    groups = member.groups(DESIGN, DESIGN.groups[[1, 0, 1]])
    np.testing.assert_allclose(groups.mixtures.mean[:, 0], MEAN[[1, 0, 1]])
    np.testing.assert_allclose(groups.features, np.eye(2)[[1, 0, 1]])


def test_groups_have_the_weights_and_means_of_the_anchor(mixed_flow: ConditionalFlow) -> None:
    member, design = mixed_flow.members[0], mixed_flow.design
    anchor, mixtures = member.anchor, member.groups(design, design.groups).mixtures
    assert len(anchor.mean) > 1
    log_weight = log_weights(anchor.log_weight + anchor.weight_effect, anchor.partition)
    np.testing.assert_allclose(mixtures.log_weight, log_weight, rtol=1e-5)
    np.testing.assert_allclose(mixtures.mean, anchor.mean + anchor.mean_effect, atol=1e-5)


def test_groups_of_own_covariances_have_their_own_axes(curved_flow: ConditionalFlow) -> None:
    member, design = curved_flow.members[0], curved_flow.design
    mixtures = member.groups(design, design.groups).mixtures
    assert mixtures.rotation is not None
    np.testing.assert_allclose(mixtures.rotation, member.anchor.own_rotation, atol=1e-6)
    np.testing.assert_allclose(mixtures.variance, member.anchor.own_variance, rtol=1e-6)


def test_combination_never_observed_has_the_shared_covariance(donor_flow: ConditionalFlow) -> None:
    member, design = donor_flow.members[0], donor_flow.design
    variance = member.groups(design, np.array([[1, 2]])).mixtures.variance
    np.testing.assert_allclose(variance, member.anchor.variance[None], rtol=1e-6)


def test_combination_never_observed_has_the_mean_that_its_columns_add_up_to(donor_flow: ConditionalFlow) -> None:
    member, design = donor_flow.members[0], donor_flow.design
    anchor, never = member.anchor, np.array([[1, 2]])
    expected = anchor.mean + np.einsum("gf,fmd->gmd", design.features(never), anchor.mean_effect)
    np.testing.assert_allclose(member.groups(design, never).mixtures.mean, expected, atol=1e-6)


def test_cells_nearby_are_those_of_the_type_of_a_cell(
    mixed_flow: ConditionalFlow, mixed_cells: np.ndarray, labels: np.ndarray
) -> None:
    """A cell amid one of the types."""
    member, design = mixed_flow.members[0], mixed_flow.design
    centres = np.array([[0.0, 0, 0], [6, 0, 0], [0, 6, 0]])
    kind = np.linalg.norm(mixed_cells[:, None] - centres, axis=2).argmin(1)
    expected = np.bincount(kind) * (len(mixed_flow.members) - 1) / len(mixed_flow.members)  # it left a fold out
    groups = member.groups(design, design.groups)
    (share,), _ = member.shares(centres / mixed_flow.scale, groups, np.ones((1, design.n_groups)))
    found = share @ member.anchor.size.sum(0)
    np.testing.assert_allclose(found, expected, atol=12)


def test_taken_groups_are_some_of_the_groups(member: Member) -> None:
    groups = member.groups(DESIGN, DESIGN.groups)
    taken = groups.take(torch.tensor([1]))
    torch.testing.assert_close(taken.features, groups.features[1:])
    torch.testing.assert_close(taken.mixtures.mean, groups.mixtures.mean[1:])


@pytest.mark.parametrize("sigma", [0.02, 1.0, 50.0])
def test_noisy_cells_are_whitened_to_unit_variance(member: Member, sigma: float) -> None:
    spread = torch.tensor(VARIANCE + MEAN.var(0), dtype=torch.float32)
    y = (spread + sigma**2).sqrt()[None]
    torch.testing.assert_close(member.whiten(y, torch.tensor([[sigma]])), torch.ones(1, 2))


@pytest.mark.parametrize("sigma", [0.02, 1.0, 50.0])
def test_output_scale_is_the_posterior_deviation_of_a_cell(member: Member, sigma: float) -> None:
    expected = (1 / (1 / VARIANCE + 1 / sigma**2)) ** 0.5
    np.testing.assert_allclose(member.output_scale(torch.tensor([[sigma]])).numpy(), [expected], rtol=1e-5)


def test_untrained_network_adds_nothing(member: Member) -> None:
    residual = member.residual(randn(5, 2), torch.tensor(1.0), torch.eye(2)[0])
    assert torch.equal(residual, torch.zeros(5, 2))


@pytest.mark.parametrize("sigma", [0.02, 1.0, 50.0])
def test_score_of_a_silent_member_is_that_of_its_anchor(member: Member, sigma: float) -> None:
    density = MemberDensity(member, member.groups(DESIGN, DESIGN.groups), 1)
    y = randn(5, 2)
    expected = (MEAN[1] - y.numpy()) / (VARIANCE + sigma**2)
    score = density.score(y, torch.tensor(sigma)).detach()
    np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-6)


def test_score_is_the_denoiser_minus_the_cell_over_the_noise(flow: ConditionalFlow) -> None:
    member, sigma = flow.members[0], torch.tensor(0.5)
    groups = member.groups(flow.design, flow.design.groups)
    y = randn(5, 3)
    with torch.no_grad():
        correction = member.residual(y, sigma, groups.features[1])
        denoised = groups.mixtures.denoise(y, 0.5)[1] + correction
        score = MemberDensity(member, groups, 1).score(y, sigma)
    assert correction.abs().max() > 0
    torch.testing.assert_close(score, (denoised - y) / sigma**2, rtol=1e-4, atol=1e-4)


def test_density_speaks_for_its_own_group(member: Member) -> None:
    groups, y = member.groups(DESIGN, DESIGN.groups), randn(5, 2)
    for c in range(2):
        density = MemberDensity(member, groups, c)
        torch.testing.assert_close(density.anchor_log_density(y, 0.5), groups.mixtures.log_density(y, 0.5, c))
        moved = groups.mixtures.transport(y, c, sigma_from=2.0, sigma_to=0.5)
        torch.testing.assert_close(density.anchor_transport(y, 2.0, 0.5), moved)
        drawn = density.anchor_sample(2000, 0.0, torch.Generator().manual_seed(0))
        np.testing.assert_allclose(drawn.mean(0), MEAN[c], atol=0.15)
