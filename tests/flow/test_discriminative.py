"""Labels have a say in how far components move: what is maximised, and what stays as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from scratio_sc.flow import _discriminative
from scratio_sc.flow._design import Design
from scratio_sc.flow._discriminative import Contest, LabelledMeans
from scratio_sc.flow._mixture_fit import Fitted, Mixture, Prior

THREE = np.array([["a"], ["b"], ["c"]])
PAIRS = np.array([("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")])


def designed(labels: np.ndarray, columns: tuple[str, ...] = ("condition",)) -> tuple[Design, np.ndarray]:
    return Design.of(labels, columns[: labels.shape[1]], 1)


def mixture_of(moves: np.ndarray, *, seed: int = 0) -> Fitted:
    """A mixture of which components move, effects ``(n_features, m, d)``."""
    rng, (n_features, m, d) = np.random.default_rng(seed), moves.shape
    root = 0.3 * rng.normal(size=(m, d, d)) + np.eye(d)
    mean, covariance = 2 * rng.normal(size=(m, d)), root @ root.transpose(0, 2, 1)
    weight_effect = 0.2 * rng.normal(size=(n_features, m))
    mixture = Mixture(np.zeros(m, np.int64), rng.normal(size=m), weight_effect, mean, moves, covariance)
    return Fitted(mixture, np.zeros((1, m, d, d)), np.zeros((1, m)), Prior(np.zeros((1, m, m)), np.eye(m)))


def moved_levels(n_levels: int, m: int, d: int, *, seed: int = 0) -> np.ndarray:
    return 0.4 * np.random.default_rng(seed).normal(size=(n_levels, m, d))


def cells(n: int, d: int = 2, *, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(2 * np.random.default_rng(seed).normal(size=(n, d)))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """No component is too small to be heard, and the search goes on to the end."""
    monkeypatch.setattr(_discriminative, "MIN_SHARE", 0.0)
    monkeypatch.setattr(_discriminative, "TOLERANCE", 1e-7)
    monkeypatch.setattr(_discriminative, "MAX_ITERATIONS", 500)


# --- who competes


def test_conditions_compete_among_cells_of_the_same_covariates() -> None:
    labels = np.array([("a", "x"), ("b", "x"), ("b", "x"), ("a", "y"), ("b", "y"), ("a", "z")])
    design, group = designed(labels, ("condition", "donor"))
    contest = Contest.of(cells(6), group, design)
    assert len(contest.x) == 5  # nobody competes with the cell of z
    np.testing.assert_array_equal(design.groups[contest.rivals[:3].numpy()][..., 1], 0)
    np.testing.assert_allclose(contest.log_prior[:3].exp(), np.tile([1 / 3, 2 / 3], (3, 1)))
    np.testing.assert_array_equal(contest.own, [0, 1, 1, 0, 1])


def test_log_loss_is_that_of_the_own_condition_among_its_rivals() -> None:
    design, group = designed(np.repeat(THREE, [1, 2, 1], axis=0))
    density = np.random.default_rng(0).normal(size=(4, 3))
    loss = Contest.of(cells(4), group, design).log_loss(torch.as_tensor(density))
    joint = density + np.log([0.25, 0.5, 0.25])
    np.testing.assert_allclose(loss, logsumexp(joint, axis=1) - joint[np.arange(4), group])


def test_condition_that_covariates_lack_is_no_rival() -> None:
    labels = np.array([("a", "x"), ("b", "x"), ("c", "y"), ("a", "y")])
    design, group = designed(labels, ("condition", "donor"))
    contest = Contest.of(cells(4), group, design)
    np.testing.assert_array_equal(contest.log_prior[0].isinf(), [False, False, True])
    assert contest.log_loss(torch.zeros(4, 4, dtype=torch.float64)) == pytest.approx(np.log(2))


# --- what is maximised


def objective(parts: list[Fitted], steps: list[np.ndarray], x: np.ndarray, group: np.ndarray, weight: float) -> float:
    """As the module's docstring has it, for three groups that are the levels of one column."""
    sizes, n, d = np.bincount(group), len(x), x.shape[1]
    log_density, cost = np.zeros((n, 3)), 0.0
    for part, step in zip(parts, steps, strict=True):
        mixture = part.mixture
        for g in range(3):
            logit = mixture.log_weight + mixture.weight_effect[g]

            def joint(means: np.ndarray, logit: np.ndarray = logit, mixture: Mixture = mixture) -> np.ndarray:
                each = [
                    multivariate_normal(mean, covariance).logpdf(x)
                    for mean, covariance in zip(means, mixture.covariance, strict=True)
                ]
                return np.stack(each, axis=1) + logit - logsumexp(logit)

            before = joint(mixture.mean + mixture.mean_effect[g])
            log_density[:, g] += logsumexp(joint(mixture.mean + mixture.mean_effect[g] + step[g]), axis=1) / len(parts)
            share = np.exp(before - logsumexp(before, axis=1, keepdims=True))
            held = share[group == g].sum(0) + d
            distance = np.einsum("md,mde,me->m", step[g], np.linalg.inv(mixture.covariance), step[g])
            cost += 0.5 * float(held @ distance) / len(parts)
    total = log_density + np.log(sizes / n)
    return weight * float((total[np.arange(n), group] - logsumexp(total, axis=1)).sum()) - cost


@pytest.mark.parametrize("weight", [0.3, 3.0])
@pytest.mark.usefixtures("exact")
def test_steps_maximise_what_labels_say_less_what_cells_lose(weight: float) -> None:
    """Neither a longer nor a shorter step in any direction is better."""
    design, group = designed(np.repeat(THREE, [70, 50, 30], axis=0))
    x = cells(150)
    parts = [mixture_of(moved_levels(3, m, 2, seed=m), seed=m) for m in (2, 3)]
    found = LabelledMeans.of(parts, x, group, design=design).at(weight)
    steps = [after.mixture.mean_effect - before.mixture.mean_effect for before, after in zip(parts, found, strict=True)]
    best, rng = objective(parts, steps, x.numpy(), group, weight), np.random.default_rng(0)
    assert best > objective(parts, [0 * step for step in steps], x.numpy(), group, weight) + 1
    for _ in range(10):
        aside = [step + 1e-3 * rng.normal(size=step.shape) for step in steps]
        assert objective(parts, aside, x.numpy(), group, weight) < best


@pytest.mark.usefixtures("exact")
def test_steps_turn_with_the_embedding() -> None:
    design, group = designed(np.repeat(THREE, 40, axis=0))
    x, part = cells(120, 3), mixture_of(moved_levels(3, 2, 3))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = dataclasses.replace(
        part.mixture,
        mean=part.mixture.mean @ turn,
        mean_effect=part.mixture.mean_effect @ turn,
        covariance=turn.T @ part.mixture.covariance @ turn,
    )
    (found,) = LabelledMeans.of([part], x, group, design=design).at(1.0)
    there = dataclasses.replace(part, mixture=turned)
    (again,) = LabelledMeans.of([there], x @ torch.as_tensor(turn), group, design=design).at(1.0)
    np.testing.assert_allclose(again.mixture.mean_effect, found.mixture.mean_effect @ turn, atol=1e-5)


@pytest.mark.usefixtures("exact")
def test_partition_twice_is_as_good_as_once() -> None:
    design, group = designed(np.repeat(THREE, 40, axis=0))
    x, part = cells(120), mixture_of(moved_levels(3, 2, 2))
    (once,) = LabelledMeans.of([part], x, group, design=design).at(1.0)
    twice = LabelledMeans.of([part, part], x, group, design=design).at(1.0)
    for each in twice:
        np.testing.assert_allclose(each.mixture.mean_effect, once.mixture.mean_effect, atol=1e-5)


def test_component_too_small_to_be_heard_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    design, group = designed(np.repeat(THREE, 100, axis=0))
    x, part = cells(300), mixture_of(moved_levels(3, 3, 2))
    (fast,) = LabelledMeans.of([part], x, group, design=design).at(1.0)
    monkeypatch.setattr(_discriminative, "MIN_SHARE", 0.0)
    (slow,) = LabelledMeans.of([part], x, group, design=design).at(1.0)
    np.testing.assert_allclose(fast.mixture.mean_effect, slow.mixture.mean_effect, atol=5e-3)


# --- what stays


def test_labels_without_weight_change_nothing() -> None:
    design, group = designed(np.repeat(THREE, 10, axis=0))
    part = mixture_of(moved_levels(3, 2, 2))
    assert LabelledMeans.of([part], cells(30), group, design=design).at(0.0) == [part]


def test_components_that_do_not_move_are_left_alone() -> None:
    moves = moved_levels(3, 3, 2)
    moves[:, 1] = 0
    design, group = designed(np.repeat(THREE, 30, axis=0))
    (found,) = LabelledMeans.of([mixture_of(moves)], cells(90), group, design=design).at(3.0)
    np.testing.assert_array_equal(found.mixture.mean_effect[:, 1], 0)
    assert (found.mixture.mean_effect[:, [0, 2]] != moves[:, [0, 2]]).all()


def test_where_nothing_moves_labels_have_nothing_to_say() -> None:
    design, group = designed(np.repeat(THREE, 10, axis=0))
    means = LabelledMeans.of([mixture_of(np.zeros((3, 2, 2)))], cells(30), group, design=design)
    assert means.nothing_moves
    assert means.at(3.0) == list(means.parts)


def test_levels_that_share_a_mean_go_on_sharing_it() -> None:
    moves = moved_levels(3, 2, 2)
    moves[1] = moves[0]
    design, group = designed(np.repeat(THREE, 30, axis=0))
    (found,) = LabelledMeans.of([mixture_of(moves)], cells(90), group, design=design).at(3.0)
    np.testing.assert_array_equal(found.mixture.mean_effect[1], found.mixture.mean_effect[0])
    assert not np.allclose(found.mixture.mean_effect[2], moves[2])


def test_covariates_move_as_their_cells_do() -> None:
    design, group = designed(np.repeat(PAIRS, 30, axis=0), ("condition", "donor"))
    moves = moved_levels(design.n_features, 2, 2)
    (found,) = LabelledMeans.of([mixture_of(moves)], cells(120), group, design=design).at(1.0)
    np.testing.assert_array_equal(found.mixture.mean_effect[2:4], moves[2:4])
    assert (found.mixture.mean_effect[:2] != moves[:2]).all()


def test_without_rivals_labels_have_nothing_to_say() -> None:
    """Every donor has one condition."""
    nested = np.repeat([("a", "x"), ("b", "y")], 20, axis=0)
    design, group = designed(nested, ("condition", "donor"))
    means = LabelledMeans.of([mixture_of(moved_levels(design.n_features, 2, 2))], cells(40), group, design=design)
    assert means.nothing_moves


# --- how steps are shared out, and speed


def test_step_costs_half_the_square_of_its_length() -> None:
    """In nats, for the cells of the groups and as many more as there are dimensions."""
    design, group = designed(np.repeat(PAIRS, [5, 20, 30, 40], axis=0), ("condition", "donor"))
    part = mixture_of(moved_levels(design.n_features, 1, 2))
    ((moved,),) = LabelledMeans.of([part], cells(95), group, design=design).moved
    inertia = torch.as_tensor(design.sizes + 2.0)
    gram = moved.of_groups.T * inertia @ moved.of_groups
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-10)


def test_groups_move_as_the_effects_add_up() -> None:
    """Though condition and combination say the same of a group twice."""
    design, group = designed(np.repeat(PAIRS, [5, 20, 30, 40], axis=0), ("condition", "donor"))
    part = mixture_of(moved_levels(design.n_features, 1, 2))
    ((moved,),) = LabelledMeans.of([part], cells(95), group, design=design).moved
    assert moved.of_groups.shape == (4, 4)
    np.testing.assert_allclose(design.features(design.groups) @ moved.of_effects.numpy(), moved.of_groups, atol=1e-10)


def test_of_many_cells_an_even_part_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    design, group = designed(np.repeat(THREE, 10, axis=0))
    monkeypatch.setattr(_discriminative, "MAX_CELLS", 12)
    means = LabelledMeans.of([mixture_of(moved_levels(3, 2, 2))], cells(30), group, design=design)
    np.testing.assert_array_equal(means.contest.x, cells(30)[::3])
