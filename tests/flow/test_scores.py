"""Log densities of cells by members and partitions of a flow, on a cell type that is no Gaussian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import logsumexp

from scratio_sc.flow import ConditionalFlow, fit_flow
from scratio_sc.flow._anchor_plan import N_PARTITIONS
from scratio_sc.flow._batches import Batch
from scratio_sc.flow._contrast import named_levels, side_of
from scratio_sc.flow._denoising_ratio import N_NODES
from scratio_sc.flow._member_scores import member_scores
from scratio_sc.flow._scores import _expected, _Within, denoising_scores
from scratio_sc.flow._standard_error import standard_error
from scratio_sc.flow._withheld import withheld_from

if TYPE_CHECKING:
    from scratio_sc.flow._scores import Scores

ALL = {"own": None, "fold": None, "progress": False}


@pytest.fixture(scope="module")
def bent() -> tuple[ConditionalFlow, np.ndarray]:
    """A flow of two parts of a ring, which Gaussians cut up in several ways, and its cells."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["ctrl", "stim"], 300)
    angle = rng.uniform(0, 2 * np.pi, 600) + 0.3 * (labels == "stim") * rng.standard_normal(600)
    angle[300:] *= 0.8
    x = 5 * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.3 * rng.standard_normal((600, 2))
    flow, _ = fit_flow(x, labels, columns=["condition"], n_condition_columns=1, max_steps=0, n_members=3)
    assert flow.members[0].anchor.n_parts == N_PARTITIONS
    return flow, x[::20]


def scores(flow: ConditionalFlow, x: np.ndarray, *sides: object) -> Scores:
    (found,) = flow.scores(x, list(sides))
    return found


def test_partitions_are_the_mixtures_of_the_members(bent: tuple[ConditionalFlow, np.ndarray]) -> None:
    flow, x = bent
    found = scores(flow, x, "stim")
    expected = np.zeros((N_PARTITIONS, len(x)))
    for member in flow.members:
        cells, groups = member.coordinates(x / flow.scale), member.groups(flow.design, np.array([[1]]))
        each = [part.mixtures.log_density(cells, 0.0, 0).cpu().numpy() for part in groups.partitions]
        expected += np.stack(each) / len(flow.members)
    np.testing.assert_allclose(found.by_partition[..., 0], expected - flow.n_dims * np.log(flow.scale), atol=1e-5)


def test_partitions_and_members_agree_on_average(bent: tuple[ConditionalFlow, np.ndarray]) -> None:
    found = scores(*bent, "stim", "ctrl")
    np.testing.assert_allclose(found.by_partition.mean(0), found.by_member.mean(0), atol=1e-9)


def test_partition_of_a_mixture_is_the_mixture_of_its_sides(bent: tuple[ConditionalFlow, np.ndarray]) -> None:
    each, both = scores(*bent, "stim", "ctrl").by_partition, scores(*bent, ["stim", "ctrl"]).by_partition
    np.testing.assert_allclose(both[..., 0], logsumexp(each, axis=2) - np.log(2), atol=1e-2)


def test_partitions_that_disagree_and_what_is_withheld_are_in_the_standard_error(
    bent: tuple[ConditionalFlow, np.ndarray],
) -> None:
    flow, x = bent
    found = scores(flow, x, "stim", "ctrl")
    ratios = (part[..., 0] - part[..., 1] for part in (found.by_member, found.by_partition))
    sd = flow.log_ratio(x, "stim", "ctrl", bandwidth=0).sd
    withheld = found.withheld[:, 0, 0] + found.withheld[:, 1, 1]
    assert withheld.max() > 0
    np.testing.assert_allclose(sd, standard_error(*ratios, flow.left_out, withheld=withheld), rtol=1e-6)


def test_withheld_is_of_the_shares_within_each_partition(bent: tuple[ConditionalFlow, np.ndarray]) -> None:
    flow, x = bent
    member, rows, change = flow.members[0], np.array([[0], [1]]), []
    for part in member.groups(flow.design, rows).partitions:
        weight = part.mixtures.log_weight.cpu().double().exp().numpy()
        np.testing.assert_allclose(weight.sum(1), 1, atol=1e-5)
        change.append(member.shares(x / flow.scale, part, np.eye(2))[0] - weight[:, None])
    known = {"partition": member.anchor.partition, "features": flow.design.features(rows)}
    expected = withheld_from(np.concatenate(change, axis=2), flow.withheld, **known)
    assert expected.max() > 0
    np.testing.assert_allclose(scores(flow, x, "ctrl", "stim").withheld, expected, rtol=1e-3, atol=1e-6)


def test_both_methods_know_the_partitions(bent: tuple[ConditionalFlow, np.ndarray]) -> None:
    flow, x = bent
    one = ConditionalFlow(**{**vars(flow), "members": flow.members[:1], "left_out": flow.left_out[:1]})
    plain, (along,) = scores(one, x[:4], "stim", "ctrl"), one._ode_scores(x[:4], ["stim", "ctrl"], **ALL)
    ratios = [np.subtract(*np.moveaxis(found.by_partition, -1, 0)) for found in (plain, along)]
    np.testing.assert_allclose(ratios[1], ratios[0], atol=0.02)
    assert np.ptp(ratios[0], axis=0).max() > 0.1


def test_both_methods_know_the_density_of_the_partitions(bent: tuple[ConditionalFlow, np.ndarray]) -> None:
    flow, x = bent
    one = ConditionalFlow(**{**vars(flow), "members": flow.members[:1], "left_out": flow.left_out[:1]})
    plain, (along,) = scores(one, x[:4], "stim"), one._ode_scores(x[:4], ["stim"], **ALL)
    np.testing.assert_allclose(along.by_partition, plain.by_partition, atol=0.05)


def test_scores_of_all_cells_keep_the_partitions(bent: tuple[ConditionalFlow, np.ndarray]) -> None:
    flow, x = bent
    together = member_scores(flow, x, ["stim", "ctrl"], own=None, fold=None, weights=np.ones(N_NODES))
    at_once = scores(flow, x, "stim", "ctrl")
    np.testing.assert_array_equal(together.by_partition, at_once.by_partition)
    np.testing.assert_array_equal(together.withheld, at_once.withheld)


def test_cells_of_levels_that_sides_share_count_once() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((500, 2)), np.repeat(["a", "b"], 250)
    x[:, 0] += labels == "b"
    flow, _ = fit_flow(x, labels, columns=["condition"], n_condition_columns=1, max_steps=0, n_members=2)
    design, between = flow.design, np.array([[0.5, 0.0]]) / flow.scale
    sides = [side_of(design, named_levels(design, side), np.zeros(1, int)) for side in ("a", ["a", "b"])]
    batch = Batch(np.arange(1), np.zeros(1, int), np.ones((2, 1), bool))
    density = denoising_scores(flow, between, batch, sides=sides, weights=np.ones(N_NODES)).value
    within = _Within.of(flow, flow.members[0], between, sides=sides)
    expected = _expected(flow, within, sides=sides, density=density)
    np.testing.assert_allclose(expected, [[250, 500]], rtol=0.15)


def test_levels_of_a_side_count_by_their_cells() -> None:
    """A cell between two types: of one, all cells are of a level of many, of the other, of one of few."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "many", "few"], [300, 300, 30])
    kind = np.where(labels == "a", rng.integers(2, size=630), labels == "few")
    x = rng.standard_normal((630, 2)) + 8.0 * kind[:, None]
    flow, _ = fit_flow(x, labels, max_steps=0, n_members=2)
    sides = [side_of(flow.design, named_levels(flow.design, side), np.zeros(1, int)) for side in ("a", ["many", "few"])]
    within = _Within.of(flow, flow.members[0], x[:1] / flow.scale, sides=sides)
    weight = within.share.round() - within.surplus[:, 0]
    np.testing.assert_allclose(np.sort(weight), [[0.5, 0.5], [30 / 330, 300 / 330]], atol=0.05)
