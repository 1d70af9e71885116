"""Weights on the nodes, and the ones that held-out cells choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from scratio_sc.flow._bandwidth import choose_weights, cut_at, cut_weights
from scratio_sc.flow._baselines import BASELINES
from scratio_sc.flow._denoising_ratio import N_COARSE, nodes
from scratio_sc.flow._held_out import HeldOut

N_NODES = 8
BANDWIDTHS = nodes().bandwidth
positions = st.floats(0, N_NODES)


def held_out(parts: np.ndarray, condition: np.ndarray, *, log_prior: float = np.log(0.5)) -> HeldOut:
    return with_prior(parts, condition, np.full(parts.shape[:2], log_prior))


def with_prior(parts: np.ndarray, condition: np.ndarray, log_prior: np.ndarray) -> HeldOut:
    baselines = np.zeros((*parts.shape[:2], len(BASELINES)))
    return HeldOut(parts, condition, log_prior, baselines=baselines, kept=np.ones(parts.shape[1]), group=condition)


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
    assert with_prior(parts, condition, np.tile(prior, (5, 1))).losses(weights).mean() == pytest.approx(expected)


def test_prior_log_loss_is_the_entropy_of_the_frequencies() -> None:
    condition = np.repeat([0, 1], [25, 75])
    prior = np.tile(np.log([0.25, 0.75]), (100, 1))
    held = with_prior(np.ones((100, 2, N_NODES)), condition, prior)
    assert held.losses(np.zeros(N_NODES)).mean() == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))


def test_condition_without_cells_is_no_rival() -> None:
    held = with_prior(np.ones((4, 2, N_NODES)), np.zeros(4, int), np.tile([0.0, -np.inf], (4, 1)))
    assert held.losses(np.ones(N_NODES)).mean() == 0


def test_some_conditions_compete_among_themselves() -> None:
    rng = np.random.default_rng(0)
    parts, condition = rng.normal(size=(6, 3, 2)), np.array([0, 1, 2, 2, 1, 0])
    held = held_out(parts, condition, log_prior=np.log(1 / 3)).of(np.array([0, 2]))
    joint = parts[[0, 2, 3, 5]].sum(2)[:, [0, 2]]
    own = joint[np.arange(4), [0, 1, 1, 0]]
    assert held.losses(np.ones(2)).mean() == pytest.approx((logsumexp(joint, axis=1) - own).mean())


def noise_at(node: int, scale: float = 1.0, *, n: int = 2000) -> HeldOut:
    """Two conditions with nothing to tell them apart but noise in one node."""
    rng = np.random.default_rng(0)
    parts = np.zeros((n, 2, N_NODES))
    parts[:, 1, node] = rng.normal(0.0, scale, n)
    return held_out(parts, rng.integers(2, size=n))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), scale=st.floats(0, 3), n=st.integers(1, 50))
def test_chosen_weights_fall_from_one(seed: int, scale: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    parts = scale * rng.standard_normal((n, 3, N_NODES))
    weights = choose_weights(held_out(parts, rng.integers(3, size=n), log_prior=np.log(1 / 3)))
    assert np.all(weights[:N_COARSE] == 1)
    assert np.all(weights >= 0)
    assert np.all(np.diff(weights) <= 0)


def test_every_node_is_kept_where_the_finest_carries_the_signal() -> None:
    np.testing.assert_allclose(choose_weights(signal_at(N_NODES - 1)), 1, atol=1e-6)


@pytest.mark.parametrize("node", [N_COARSE - 1, N_COARSE, N_NODES - 2])
def test_weights_stop_before_nodes_that_are_pure_noise(node: int) -> None:
    weights = choose_weights(signal_at(node, noise_at=node + 1))
    np.testing.assert_allclose(weights, np.arange(N_NODES) <= node, atol=1e-6)


def test_weights_stop_before_noise_that_is_weak() -> None:
    weights = choose_weights(noise_at(4))
    np.testing.assert_allclose(weights[4:], 0, atol=1e-6)


def mean_of_cuts(coarsest: int) -> np.ndarray:
    return np.mean([cut_weights(position, N_NODES) for position in range(coarsest, N_NODES + 1)], axis=0)


def test_cuts_that_predict_alike_are_averaged() -> None:
    weights = choose_weights(held_out(np.zeros((10, 2, N_NODES)), np.zeros(10, int)))
    np.testing.assert_allclose(weights, mean_of_cuts(N_COARSE))


@pytest.mark.parametrize(
    ("n", "gain", "spread", "left_out"),
    [(100, 0.0015, 0.02, False), (100, 0.0015, 0.0, True), (4, 0.03, 0.2, True)],
    ids=["within chance", "beyond chance", "within chance but large"],
)
def test_cut_that_is_clearly_or_much_worse_is_left_out(n: int, gain: float, spread: float, *, left_out: bool) -> None:
    condition = np.arange(n) // 2 % 2
    parts = np.zeros((n, 2, N_NODES))
    parts[np.arange(n), condition, N_COARSE] = gain + spread * np.tile([-1, 1], n // 2)
    np.testing.assert_allclose(choose_weights(held_out(parts, condition)), mean_of_cuts(N_COARSE + left_out))


def test_cells_whose_condition_is_certain_keep_every_node() -> None:
    """A coarser cut predicts them as well, but would change their ratio."""
    parts, condition = np.zeros((200, 2, N_NODES)), np.repeat([0, 1], 100)
    parts[np.arange(200), condition, :] = 5.0
    np.testing.assert_allclose(choose_weights(held_out(parts, condition)), 1, atol=1e-6)


def test_certain_cell_does_not_outweigh_all_others() -> None:
    """Its ratio changes by 5 nats, which is more than the finest costs others: but that is what they are wrong by."""
    rng = np.random.default_rng(0)
    parts, condition = np.zeros((700, 2, N_NODES)), rng.integers(2, size=700)
    parts[np.arange(700), condition, 0] = 1.0
    parts[:, 0, N_COARSE:] = rng.standard_normal((700, N_NODES - N_COARSE))
    coarse = choose_weights(held_out(parts, condition))
    parts[0, condition[0]] = 5.0
    np.testing.assert_array_equal(choose_weights(held_out(parts, condition)), coarse)
    np.testing.assert_array_equal(coarse, cut_weights(N_COARSE, N_NODES))


def test_order_of_conditions_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    parts, condition, order = rng.normal(size=(40, 3, N_NODES)), rng.integers(3, size=40), np.array([2, 0, 1])
    there = held_out(parts[:, order], np.argsort(order)[condition], log_prior=np.log(1 / 3))
    here = held_out(parts, condition, log_prior=np.log(1 / 3))
    np.testing.assert_allclose(choose_weights(there), choose_weights(here))


def test_conditions_that_a_cell_cannot_have_do_not_choose_the_cut() -> None:
    """Nor do cells without a choice between conditions, however certain."""
    signal = signal_at(2)
    others = 5.0 * np.random.default_rng(1).standard_normal((len(signal.parts), 1, N_NODES))
    parts = np.concatenate([signal.parts, others], axis=1)
    log_prior = np.tile([np.log(0.5), np.log(0.5), -np.inf], (len(parts), 1))
    alone = np.tile([0.0, -np.inf, -np.inf], (300, 1))
    confounded = with_prior(
        np.concatenate([parts, 5.0 * parts[:300]]),
        np.concatenate([signal.condition, np.zeros(300, int)]),
        np.concatenate([log_prior, alone]),
    )
    np.testing.assert_array_equal(choose_weights(confounded.of(np.arange(3))), choose_weights(signal))


def test_every_node_is_kept_without_held_out_cells() -> None:
    weights = choose_weights(held_out(np.empty((0, 2, N_NODES)), np.empty(0, int)))
    np.testing.assert_array_equal(weights, np.ones(N_NODES))


def test_every_node_is_kept_where_one_condition_has_no_rival() -> None:
    weights = choose_weights(held_out(np.ones((5, 1, N_NODES)), np.zeros(5, int)))
    np.testing.assert_array_equal(weights, np.ones(N_NODES))
