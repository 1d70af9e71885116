"""Weights on the nodes, and the cut that held-out cells choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from scratio_sc.flow._bandwidth import HeldOut, choose_cut, cut_at, cut_weights
from scratio_sc.flow._denoising_ratio import nodes

N_NODES = 8
BANDWIDTHS = nodes().bandwidth
positions = st.floats(0, N_NODES)


def held_out(parts: np.ndarray, condition: np.ndarray, *, log_prior: float = np.log(0.5)) -> HeldOut:
    return with_prior(parts, condition, np.full(parts.shape[:2], log_prior))


def with_prior(parts: np.ndarray, condition: np.ndarray, log_prior: np.ndarray) -> HeldOut:
    """Held-out scores by one member."""
    return HeldOut(parts, condition, log_prior, by_member=np.empty((1, 0, *parts.shape[1:])), excess=0.0)


def by_members(logits: np.ndarray, *, excess: float = 1.0) -> HeldOut:
    """Log ratios ``(n_members, n)`` of two conditions that are equally frequent, in one node."""
    by_member = np.stack([np.zeros_like(logits), logits], axis=2)[..., None]
    parts, n = by_member.mean(0), logits.shape[1]
    return HeldOut(parts, np.zeros(n, int), np.full((n, 2), np.log(0.5)), by_member=by_member, excess=excess)


def signal_at(node: int, *, noise_at: int | None = None, n: int = 2000) -> HeldOut:
    """Two conditions whose ratio N(+-1, 2) is exact and lies in one node, with noise at another."""
    rng = np.random.default_rng(0)
    condition = rng.integers(2, size=n)
    parts = np.zeros((n, 2, N_NODES))
    parts[:, 1, node] = rng.normal(2.0 * condition - 1.0, np.sqrt(2.0))
    if noise_at is not None:
        parts[:, 1, noise_at] = rng.normal(0.0, 3.0, n)
    return held_out(parts, condition)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(position=positions)
def test_cut_weights_fall_from_one_to_zero(position: float) -> None:
    weights = cut_weights(position, N_NODES)
    assert np.all((weights >= 0) & (weights <= 1))
    assert np.all(np.diff(weights) <= 0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(position=positions)
def test_cut_weights_sum_to_the_position(position: float) -> None:
    assert cut_weights(position, N_NODES).sum() == pytest.approx(position)


def test_cut_within_a_node_keeps_a_share_of_it() -> None:
    np.testing.assert_allclose(cut_weights(2.25, 4), [1, 1, 0.25, 0])


def test_no_bandwidth_keeps_every_node() -> None:
    np.testing.assert_array_equal(cut_weights(cut_at(0.0, BANDWIDTHS), N_NODES), np.ones(N_NODES))


def test_endless_bandwidth_keeps_no_node() -> None:
    np.testing.assert_allclose(cut_weights(cut_at(1e9, BANDWIDTHS), N_NODES), 0, atol=1e-6)


@pytest.mark.parametrize("node", range(N_NODES - 1))
def test_bandwidth_of_a_node_keeps_it_and_all_coarser_ones(node: int) -> None:
    assert cut_at(BANDWIDTHS[node], BANDWIDTHS) == pytest.approx(node + 1)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(first=st.floats(0, 100), second=st.floats(0, 100))
def test_wider_bandwidth_keeps_less(first: float, second: float) -> None:
    fine, coarse = sorted([first, second])
    assert cut_at(fine, BANDWIDTHS) >= cut_at(coarse, BANDWIDTHS)


def test_log_loss_is_that_of_bayes_rule() -> None:
    rng = np.random.default_rng(0)
    parts, condition, weights = rng.normal(size=(5, 3, 4)), rng.integers(3, size=5), rng.random(4)
    prior = np.log([0.2, 0.3, 0.5])
    density = np.exp(prior) * np.exp((parts * weights).sum(2))
    expected = -np.log(density[np.arange(5), condition] / density.sum(1)).mean()
    assert with_prior(parts, condition, np.tile(prior, (5, 1))).log_loss(weights) == pytest.approx(expected)


def test_prior_log_loss_is_the_entropy_of_the_frequencies() -> None:
    condition = np.repeat([0, 1], [25, 75])
    prior = np.tile(np.log([0.25, 0.75]), (100, 1))
    held = with_prior(np.ones((100, 2, N_NODES)), condition, prior)
    assert held.prior_log_loss() == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))


def test_condition_without_cells_is_no_rival() -> None:
    held = with_prior(np.ones((4, 2, N_NODES)), np.zeros(4, int), np.tile([0.0, -np.inf], (4, 1)))
    assert held.log_loss(np.ones(N_NODES)) == 0


def test_some_conditions_compete_among_themselves() -> None:
    rng = np.random.default_rng(0)
    parts, condition = rng.normal(size=(6, 3, 2)), np.array([0, 1, 2, 2, 1, 0])
    held = held_out(parts, condition, log_prior=np.log(1 / 3)).of(np.array([0, 2]))
    joint = parts[[0, 2, 3, 5]].sum(2)[:, [0, 2]]
    own = joint[np.arange(4), [0, 1, 1, 0]]
    assert held.log_loss(np.ones(2)) == pytest.approx((logsumexp(joint, axis=1) - own).mean())


def test_cut_is_the_finest_where_the_finest_node_carries_the_signal() -> None:
    assert choose_cut(signal_at(N_NODES - 1)) > N_NODES - 0.5


@pytest.mark.parametrize("node", [0, 3])
def test_cut_stops_before_nodes_that_are_pure_noise(node: int) -> None:
    cut = choose_cut(signal_at(node, noise_at=node + 1))
    assert node + 0.5 < cut <= node + 1


def test_cut_weighs_what_averaging_members_would_save() -> None:
    """A fine node of which members disagree is noise to one of them, and signal to their average."""
    rng = np.random.default_rng(0)
    n, n_members, condition = 4000, 50, rng.integers(2, size=4000)
    by_member = np.zeros((n_members, n, 2, 2))
    by_member[:, :, 1, 0] = rng.normal(2.0 * condition - 1.0, np.sqrt(2.0))
    by_member[:, :, 1, 1] = rng.normal(0.5 * condition - 0.25, np.sqrt(0.5)) + rng.normal(0, 1, (n_members, n))
    prior = np.full((n, 2), np.log(0.5))
    cuts = [choose_cut(HeldOut(by_member[0], condition, prior, by_member, excess)) for excess in (0.0, 0.98)]
    assert cuts[0] < cuts[1] == 2


def test_averaging_members_that_agree_gains_nothing() -> None:
    assert by_members(np.ones((3, 5))).averaging_gain(np.ones(1)) == 0


def test_averaging_one_member_gains_nothing() -> None:
    assert by_members(np.ones((1, 5))).averaging_gain(np.ones(1)) == 0


def test_averaging_gains_half_the_variance_times_the_curvature_of_the_log_loss() -> None:
    """In one dimension: p (1 - p) v / 2, with v the variance of the log ratio between members."""
    logit = np.linspace(-2, 2, 5)
    logits = logit + np.array([[0.1], [-0.1], [0.3], [-0.3]])
    p = 1 / (1 + np.exp(-logit))
    expected = np.mean(0.5 * p * (1 - p) * np.var(logits, axis=0, ddof=1)) * 0.75
    assert by_members(logits, excess=0.75).averaging_gain(np.ones(1)) == pytest.approx(expected)


def test_averaging_gain_is_what_the_log_loss_gains() -> None:
    rng = np.random.default_rng(0)
    n, n_members = 5000, 8
    truth = rng.normal(0, 1, n)
    condition = (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(int)
    held = by_members(truth + 0.3 * rng.standard_normal((n_members, n)), excess=1 - 1 / n_members)
    single = np.mean([held_out(part, condition).log_loss(np.ones(1)) for part in held.by_member])
    average = held_out(held.parts, condition).log_loss(np.ones(1))
    assert held.averaging_gain(np.ones(1)) == pytest.approx(single - average, rel=0.1)


def test_cut_is_the_finest_without_held_out_cells() -> None:
    assert choose_cut(held_out(np.empty((0, 2, N_NODES)), np.empty(0, int))) == N_NODES


def test_cut_is_the_finest_where_one_condition_has_no_rival() -> None:
    assert choose_cut(held_out(np.ones((5, 1, N_NODES)), np.zeros(5, int))) == N_NODES
