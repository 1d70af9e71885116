"""One member: coordinates, groups and the scores of its densities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scratio_sc.flow._design import Design
from scratio_sc.flow._member import MemberDensity

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
    groups = member.groups(DESIGN, DESIGN.groups)
    np.testing.assert_allclose(groups.gaussians.mean, MEAN)
    np.testing.assert_allclose(groups.gaussians.variance, [VARIANCE, VARIANCE])


def test_groups_follow_the_rows_asked_for(member: Member) -> None:
    groups = member.groups(DESIGN, DESIGN.groups[[1, 0, 1]])
    np.testing.assert_allclose(groups.gaussians.mean, MEAN[[1, 0, 1]])
    np.testing.assert_allclose(groups.features, np.eye(2)[[1, 0, 1]])


def test_groups_of_an_own_covariance_have_their_own_basis(curved_flow: ConditionalFlow) -> None:
    member, design = curved_flow.members[0], curved_flow.design
    gaussians = member.groups(design, design.groups).gaussians
    np.testing.assert_allclose(gaussians.basis, member.anchor.own_basis, atol=1e-6)
    np.testing.assert_allclose(gaussians.variance, member.anchor.own_variance, rtol=1e-6)


def test_combination_never_observed_has_the_shared_covariance(donor_flow: ConditionalFlow) -> None:
    member, design = donor_flow.members[0], donor_flow.design
    never = np.array([[1, 2]])
    gaussians = member.groups(design, never).gaussians
    np.testing.assert_allclose(gaussians.variance, [member.anchor.variance], rtol=1e-6)
    np.testing.assert_allclose(gaussians.mean, design.features(never) @ member.anchor.effect, atol=1e-6)


def test_taken_groups_are_some_of_the_groups(member: Member) -> None:
    groups = member.groups(DESIGN, DESIGN.groups)
    taken = groups.take(torch.tensor([1]))
    torch.testing.assert_close(taken.features, groups.features[1:])
    torch.testing.assert_close(taken.gaussians.mean, groups.gaussians.mean[1:])


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
def test_score_of_a_silent_member_is_that_of_its_gaussian(member: Member, sigma: float) -> None:
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
        denoised = groups.gaussians.denoise(y, sigma, 1) + correction
        score = MemberDensity(member, groups, 1).score(y, sigma)
    assert correction.abs().max() > 0
    torch.testing.assert_close(score, (denoised - y) / sigma**2, rtol=1e-4, atol=1e-4)


def test_density_speaks_for_its_own_group(member: Member) -> None:
    groups, y = member.groups(DESIGN, DESIGN.groups), randn(5, 2)
    for c in range(2):
        density = MemberDensity(member, groups, c)
        torch.testing.assert_close(density.gaussian_log_density(y, 0.5), groups.gaussians.log_density(y, 0.5, c))
        moved = groups.gaussians.transport(y, c, sigma_from=2.0, sigma_to=0.5)
        torch.testing.assert_close(density.gaussian_transport(y, 2.0, 0.5), moved)
        drawn = density.gaussian_sample(2000, 0.0, torch.Generator().manual_seed(0))
        np.testing.assert_allclose(drawn.mean(0), MEAN[c], atol=0.15)
