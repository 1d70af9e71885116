"""A second opinion: tilted mixtures are what they are said to be, slopes those that tell labels best."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal

from scratio_sc.flow import _halves, _tilt
from scratio_sc.flow._components import Components
from scratio_sc.flow._denoising_ratio import N_NODES
from scratio_sc.flow._design import Design
from scratio_sc.flow._member import Member
from scratio_sc.flow._member_scores import member_scores
from scratio_sc.flow._mixture_fit import Mixture
from scratio_sc.flow._scores import of_one
from scratio_sc.flow._storage import from_dict, to_dict
from scratio_sc.flow._tilt import fit_tilt, tilted

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import ConditionalFlow
    from scratio_sc.flow._contrast import SideSpec

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]


def random_mixture(m: int, d: int, n_features: int, *, seed: int) -> Mixture:
    """The same in all groups."""
    rng = np.random.default_rng(seed)
    root = 0.3 * rng.normal(size=(m, d, d)) + np.eye(d)
    parts = rng.dirichlet(np.ones(m)), 2 * rng.normal(size=(m, d)), root @ root.transpose(0, 2, 1)
    return Mixture.start(Components(*map(torch.as_tensor, parts)), n_features)


def standard_normal(mean: float, n_features: int) -> Mixture:
    """One component in one dimension."""
    one = torch.ones(1, dtype=torch.float64)
    return Mixture.start(Components(one, mean * one[:, None], one[:, None, None]), n_features)


def log_density(x: np.ndarray, log_weight: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Of cells ``(n, d)`` under a mixture, weights normalised."""
    each = zip(log_softmax(log_weight), mean, covariance, strict=True)
    return logsumexp([w + multivariate_normal.logpdf(x, mu, cov) for w, mu, cov in each], axis=0)


# --- tilted mixtures


@given(seed=st.integers(0, 10_000), m=st.integers(1, 4), d=st.integers(1, 3))
def test_log_ratio_of_two_tilts_is_linear(seed: int, m: int, d: int) -> None:
    mixture, rng = random_mixture(m, d, 1, seed=seed), np.random.default_rng(seed)
    slope, x = rng.normal(size=(2, d)), rng.normal(size=(5, d))
    parts = mixture.log_weight[None], mixture.mean[None], mixture.covariance
    weight, mean = tilted(*map(torch.as_tensor, parts), slope=torch.as_tensor(slope))
    each = zip(weight.numpy(), mean.numpy(), strict=True)
    first, second = (log_density(x, w, mu, mixture.covariance) for w, mu in each)
    level = np.diff(logsumexp(weight.numpy(), axis=1))[0]
    np.testing.assert_allclose(first - second, x @ (slope[0] - slope[1]) + level, atol=1e-8)


def test_tilt_of_nothing_changes_nothing() -> None:
    mixture = random_mixture(3, 2, 1, seed=0)
    parts = mixture.log_weight[None], mixture.mean[None], mixture.covariance
    weight, mean = tilted(*map(torch.as_tensor, parts), slope=torch.zeros(1, 2, dtype=torch.float64))
    np.testing.assert_array_equal(weight[0], mixture.log_weight)
    np.testing.assert_array_equal(mean[0], mixture.mean)


# --- slopes


def test_slopes_are_those_of_least_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three conditions, two partitions, two dimensions; the optimum found by another method."""
    monkeypatch.setattr(_tilt, "TOLERANCE", 1e-8)
    rng, labels = np.random.default_rng(0), np.repeat(["a", "b", "c"], 100)
    design, group = Design.of(labels[:, None], ("condition",), 1)
    x = rng.normal(size=(300, 2)) + np.array([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.2]])[group]
    mixtures = [random_mixture(m, 2, 3, seed=m) for m in (2, 3)]
    found = fit_tilt(mixtures, torch.as_tensor(x), group, design=design)

    def loss(flat: np.ndarray) -> float:
        effect = flat.reshape(4, 2)
        slope, level = effect[:3] + effect[3], np.zeros(3)
        for one in mixtures:
            bend = np.einsum("cd,mde,ce->cm", slope, one.covariance, slope) / 2
            level += logsumexp(log_softmax(one.log_weight) + slope @ one.mean.T + bend, axis=1) / 2
        joint = x @ slope.T - level - np.log(3)
        told = joint[np.arange(300), group] - logsumexp(joint, axis=1)
        return float(0.5 * np.square(effect * x.std(0, ddof=1)).sum() - told.sum())

    best = minimize(loss, np.zeros(8), method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose(found.ravel(), best.x, atol=2e-4)


def test_conditions_that_do_nothing_have_the_slope_of_all() -> None:
    """Beside one that moves, eight of 40 cells that do not."""
    labels = np.repeat(["ctrl", "strong", *(f"null{i}" for i in range(8))], [600, 400, *[40] * 8])
    design, group = Design.of(labels[:, None], ("condition",), 1)
    x = np.random.default_rng(0).normal(size=(len(labels), 15))
    x[labels == "strong", 0] += 2
    one = Components(torch.ones(1), torch.as_tensor(x.mean(0)[None]), torch.eye(15, dtype=torch.float64)[None])
    slope = fit_tilt([Mixture.start(one, design.n_features)], torch.as_tensor(x), group, design=design)
    assert not slope[:9].any()
    assert slope[9].any()


@pytest.mark.parametrize("extra", [np.zeros(400), np.ones(400), None], ids=["zeros", "ones", "twice"])
def test_coordinates_that_say_nothing_do_not_matter(extra: np.ndarray | None) -> None:
    labels = np.repeat(["a", "b"], 200)
    design, group = Design.of(labels[:, None], ("condition",), 1)
    x = np.random.default_rng(0).normal(2.0 * group - 1, 1)
    both = np.column_stack([x, x - x if extra is None else extra])
    centre = np.array([0.0, both[0, 1]])
    one = torch.ones(1, dtype=torch.float64)
    covariance = torch.diag(torch.tensor([1.0, 1e-8], dtype=torch.float64))[None]
    mixture = Mixture.start(Components(one, torch.as_tensor(centre)[None], covariance), 2)
    slope = fit_tilt([mixture], torch.as_tensor(both), group, design=design)
    assert np.isfinite(slope).all()
    assert slope[1, 0] - slope[0, 0] == pytest.approx(2, abs=0.4)


def test_conditions_that_are_tilts_are_found() -> None:
    """N(-1, 1) and N(1, 1): the log ratio has the slope 2."""
    labels = np.repeat(["a", "b"], 5000)
    design, group = Design.of(labels[:, None], ("condition",), 1)
    x = torch.as_tensor(np.random.default_rng(0).normal(2.0 * group - 1, 1)[:, None])
    slope = fit_tilt([standard_normal(0.0, 2)], x, group, design=design)
    assert slope[1, 0] - slope[0, 0] == pytest.approx(2, abs=0.08)


def test_covariates_have_no_slopes_and_hide_nothing() -> None:
    """Donors lie far apart; within each, the log ratio of the conditions has the slope 1."""
    rng, labels = np.random.default_rng(0), np.tile([("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")], (2000, 1))
    design, group = Design.of(labels, ("condition", "donor"), 1)
    stimulated, donor = labels[:, 0] == "b", labels[:, 1] == "y"
    x = torch.as_tensor((rng.normal(size=len(labels)) + stimulated + 5 * donor)[:, None])
    mean_effect = np.zeros((design.n_features, 1, 1))
    mean_effect[3] = 5  # of the donor "y", after both conditions and the donor "x"
    start = replace(standard_normal(0.5, design.n_features), mean_effect=mean_effect)
    slope = fit_tilt([start], x, group, design=design)
    features = design.features(design.groups)
    assert not slope[2:4].any()
    by_group = features @ slope[:-1, 0]
    assert by_group[1] - by_group[0] == pytest.approx(by_group[3] - by_group[2], abs=0.2)
    assert by_group[2:].mean() - by_group[:2].mean() == pytest.approx(1, abs=0.1)


# --- what flows make of it


def test_ratio_is_the_mean_of_both_opinions(tilted_flow: ConditionalFlow, mixed_cells: np.ndarray) -> None:
    member, design, x = tilted_flow.members[0], tilted_flow.design, mixed_cells[::10] / tilted_flow.scale
    z = member.coordinates(x)
    both, first = (
        groups.mixtures.log_density(z, 0.0, 1) - groups.mixtures.log_density(z, 0.0, 0)
        for groups in (member.groups(design, design.groups), member.described(design, design.groups))
    )
    second = (2 * both - first).numpy()
    slope = np.diff(design.features(design.groups[:2]) @ member.anchor.tilt[:-1], axis=0)[0]
    np.testing.assert_allclose(np.ptp(second - z.numpy() @ slope), 0, atol=1e-4)


def test_second_opinion_has_no_say_in_densities(tilted_flow: ConditionalFlow, mixed_cells: np.ndarray) -> None:
    alone = replace(
        tilted_flow,
        members=[type(m)(replace(m.anchor, tilt=m.anchor.tilt[:0]), m.network, m.device) for m in tilted_flow.members],
    )
    x = mixed_cells[::20]
    for method in ("denoising", "ode"):
        found, expected = (flow.log_likelihood(x[:5], "stim", method=method) for flow in (tilted_flow, alone))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(tilted_flow.sample(8, "stim"), alone.sample(8, "stim"))
    assert (tilted_flow.log_ratio(x, "stim", "ctrl").value != alone.log_ratio(x, "stim", "ctrl").value).any()


def test_errors_of_tables_know_the_mean_of_both_opinions(tilted_flow: ConditionalFlow, mixed_cells: np.ndarray) -> None:
    sides: list[SideSpec] = ["stim", "ctrl"]
    found = member_scores(tilted_flow, mixed_cells, sides, own=None, fold=None, weights=np.ones(N_NODES))
    assert len(found.by_partition) == tilted_flow.members[0].anchor.n_parts
    np.testing.assert_allclose(found.by_partition.mean(0), found.by_member.mean(0), atol=1e-6)


def test_error_of_a_ratio_knows_how_opinions_differ(tilted_flow: ConditionalFlow, mixed_cells: np.ndarray) -> None:
    (scores,) = tilted_flow.scores(mixed_cells[::10], ["stim", "ctrl"])
    assert len(scores.by_partition) == 2 * tilted_flow.members[0].anchor.n_parts
    ratio = scores.by_partition[..., 0] - scores.by_partition[..., 1]
    assert np.abs(ratio[0] - ratio[-1]).mean() > 0.1


def speaks(member: Member) -> Member:
    """The same member with a network that is not silent."""
    network = copy.deepcopy(member.network)
    for expert in (network.coarse, network.fine):
        torch.nn.init.normal_(expert.outlet.weight, std=1e-3, generator=torch.Generator().manual_seed(0))
    return Member(member.anchor, network, member.device)


def test_networks_correct_both_opinions(tilted_flow: ConditionalFlow, mixed_cells: np.ndarray) -> None:
    members, rows = tilted_flow.members, tilted_flow.design.groups
    n_parts = members[0].anchor.n_parts
    assert len(of_one(tilted_flow, members[0], rows).partitions) == n_parts
    speaking = replace(tilted_flow, members=[speaks(members[0]), *members[1:]])
    assert [len(of_one(speaking, member, rows).partitions) for member in speaking.members] == [2 * n_parts] * len(
        members
    )


def test_one_side_is_scored_where_some_networks_are_silent(
    tilted_flow: ConditionalFlow, mixed_cells: np.ndarray
) -> None:
    speaking = replace(tilted_flow, members=[speaks(tilted_flow.members[0]), *tilted_flow.members[1:]])
    for method in ("denoising", "ode"):
        assert np.isfinite(speaking.log_likelihood(mixed_cells[:3], "stim", method=method)).all()


def test_second_opinion_has_no_say_in_what_lies_far_from_a_side(
    tilted_flow: ConditionalFlow, mixed_cells: np.ndarray
) -> None:
    """One side is judged by the density that two are judged by."""
    x = np.concatenate([mixed_cells[::10], 3 * mixed_cells[::10]])
    least = float(np.median([next(tilted_flow.scores(x, ["stim"])).value]))
    unit = tilted_flow.n_dims * np.log(tilted_flow.scale)
    strict = replace(tilted_flow, support=np.full_like(tilted_flow.support, least + unit))
    (alone,), (both,) = strict.scores(x, ["stim"]), strict.scores(x, ["stim", "ctrl"])
    assert 0.3 < alone.far.mean() < 0.7
    np.testing.assert_array_equal(alone.far[:, 0], both.far[:, 0])


@pytest.mark.parametrize(
    ("columns", "numeric", "own_share"),
    [
        (("treatment", "donor"), (), 0.0),
        (("treatment", "donor"), (), 0.5),
        (("treatment", "dose"), ("dose",), 0.0),
        (("dose", "donor"), ("dose",), 0.0),
    ],
)
def test_any_design_and_any_covariances_may_have_a_second_opinion(
    fit: Fit,
    donor_cells: np.ndarray,
    donor_labels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    *,
    columns: tuple[str, ...],
    numeric: tuple[str, ...],
    own_share: float,
) -> None:
    monkeypatch.setattr(_halves.Halves, "second_opinion_serves", lambda *_, **__: True)
    monkeypatch.setattr(_halves, "OWN_SHARES", (own_share,))
    dose = np.where(donor_labels[:, 0] == "stim", 3, np.arange(len(donor_labels)) % 2).astype(str)
    known = {"treatment": donor_labels[:, 0], "donor": donor_labels[:, 1], "dose": dose}
    labels = np.column_stack([known[name] for name in columns])
    flow, fold = fit(donor_cells, labels, columns=columns, n_condition_columns=1, numeric=numeric)
    sides = ({"dose": 3.0}, {"dose": 0.0}) if columns[0] == "dose" else ("stim", "ctrl")
    ratio = flow.log_ratio(donor_cells, *sides, own=labels, fold=fold)
    again = from_dict(to_dict(flow), device="cpu").log_ratio(donor_cells, *sides, own=labels, fold=fold)
    assert flow.members[0].anchor.n_opinions == 2 * flow.members[0].anchor.n_parts
    np.testing.assert_array_equal(again.value, ratio.value)
    stimulated = donor_labels[:, 0] == "stim"
    assert ratio.value[stimulated].mean() > 0.5 > ratio.value[~stimulated].mean()


def test_flow_says_that_it_has_a_second_opinion(tilted_flow: ConditionalFlow, mixed_flow: ConditionalFlow) -> None:
    assert "networks silent, a second opinion>" in repr(tilted_flow)
    assert "networks silent>" in repr(mixed_flow)
