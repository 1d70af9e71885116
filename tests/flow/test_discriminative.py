"""Labels have a say in how far components move: what is maximised, and what stays as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from scratio_sc.flow import _contest, _discriminative
from scratio_sc.flow._design import Design
from scratio_sc.flow._discriminative import LabelledMeans
from scratio_sc.flow._mixture_fit import Fitted, Mixture, Prior
from scratio_sc.flow._weight_effects import EffectPrior

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
    return Fitted(
        mixture,
        np.zeros((1, m, d, d)),
        np.zeros((1, m)),
        np.zeros((1, 2), int),
        Prior([EffectPrior.broad(m)], np.eye(m)),
        np.zeros((n_features, m, m)),
        np.zeros((n_features, m)),
    )


def moved_levels(n_levels: int, m: int, d: int, *, seed: int = 0) -> np.ndarray:
    return 0.4 * np.random.default_rng(seed).normal(size=(n_levels, m, d))


def cells(n: int, d: int = 2, *, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(2 * np.random.default_rng(seed).normal(size=(n, d)))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """All components are heard by all cells, and the search goes on to the end."""
    monkeypatch.setattr(_discriminative, "MIN_HEARD", 0.0)
    monkeypatch.setattr(_discriminative, "FAR", np.inf)
    monkeypatch.setattr(_discriminative, "TOLERANCE", 1e-7)
    monkeypatch.setattr(_discriminative, "MAX_ITERATIONS", 500)


# --- who competes


def log_loss(labels: np.ndarray, columns: tuple[str, ...], *, seed: int = 0) -> np.ndarray:
    """Of cells that lie where no component moves."""
    design, group = designed(labels, columns)
    part = mixture_of(np.zeros((design.n_features, 2, 2)), seed=seed)
    return LabelledMeans.of([part], cells(len(labels)), group, design=design).log_loss


def test_log_loss_is_that_of_the_own_condition() -> None:
    """By frequencies alone, where weights are the same."""
    design, group = designed(np.repeat(THREE, [1, 2, 1], axis=0))
    part = mixture_of(np.zeros((3, 2, 2)))
    same = dataclasses.replace(part, mixture=dataclasses.replace(part.mixture, weight_effect=np.zeros((3, 2))))
    found = LabelledMeans.of([same], cells(4), group, design=design).log_loss
    np.testing.assert_allclose(found, -np.log([0.25, 0.5, 0.5, 0.25]))


def test_log_loss_is_by_the_densities_of_the_groups() -> None:
    design, group = designed(np.repeat(THREE, [3, 2, 4], axis=0))
    parts = [mixture_of(moved_levels(3, m, 2, seed=m), seed=m) for m in (2, 3)]
    steps = [np.zeros((3, m, 2)) for m in (2, 3)]
    found = LabelledMeans.of(parts, cells(9), group, design=design).log_loss
    assert -found.sum() == pytest.approx(objective(parts, steps, cells(9).numpy(), group, 1.0))


def test_conditions_compete_among_cells_of_the_same_covariates() -> None:
    """Without a rival there is nothing to lose."""
    labels = np.array([("a", "x"), ("b", "x"), ("c", "y"), ("a", "y"), ("a", "z")])
    found = log_loss(labels, ("condition", "donor"))
    assert (found == 0).tolist() == [False, False, False, False, True]


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
    monkeypatch.setattr(_discriminative, "MIN_HEARD", 0.0)
    (slow,) = LabelledMeans.of([part], x, group, design=design).at(1.0)
    np.testing.assert_allclose(fast.mixture.mean_effect, slow.mixture.mean_effect, atol=5e-3)


# --- what stays


def test_labels_without_weight_change_nothing() -> None:
    design, group = designed(np.repeat(THREE, 10, axis=0))
    part = mixture_of(moved_levels(3, 2, 2))
    (found,) = LabelledMeans.of([part], cells(30), group, design=design).at(0.0)
    np.testing.assert_array_equal(found.mixture.mean_effect, part.mixture.mean_effect)


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
    assert not any(means.moving)
    assert not means.at(3.0)[0].mixture.mean_effect.any()


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
    assert not any(means.moving)


# --- how steps are shared out, and speed


def test_step_costs_half_the_square_of_its_length() -> None:
    """In nats, for the cells of the groups and as many more as there are dimensions."""
    design, group = designed(np.repeat(PAIRS, [5, 20, 30, 40], axis=0), ("condition", "donor"))
    part = mixture_of(moved_levels(design.n_features, 1, 2))
    ((component,),) = LabelledMeans.of([part], cells(95), group, design=design).moving
    inertia = torch.as_tensor(design.sizes + 2.0)
    gram = component.of_groups.T * inertia @ component.of_groups
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-10)


def test_groups_move_as_the_effects_add_up() -> None:
    """Though condition and combination say the same of a group twice."""
    design, group = designed(np.repeat(PAIRS, [5, 20, 30, 40], axis=0), ("condition", "donor"))
    part = mixture_of(moved_levels(design.n_features, 1, 2))
    ((component,),) = LabelledMeans.of([part], cells(95), group, design=design).moving
    assert component.of_groups.shape == (4, 4)
    np.testing.assert_allclose(
        design.features(design.groups) @ component.of_effects.numpy(), component.of_groups, atol=1e-10
    )


def test_step_costs_what_cells_without_rivals_lose_too() -> None:
    """Many cells of "a" in a donor without "b"."""
    design, group = designed(np.repeat([*PAIRS[:2], ("a", "z")], [20, 20, 500], axis=0), ("condition", "donor"))
    moves = np.zeros((design.n_features, 1, 2))
    moves[:2] = moved_levels(2, 1, 2)
    ((component,),) = LabelledMeans.of([mixture_of(moves)], cells(540), group, design=design).moving
    inertia = torch.as_tensor(design.sizes + 2.0)
    gram = component.of_groups.T * inertia @ component.of_groups
    np.testing.assert_allclose(gram, np.eye(2), atol=1e-10)


def test_of_many_cells_the_same_part_of_every_group_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    design, group = designed(np.tile(THREE, (20, 1)))
    monkeypatch.setattr(_contest, "MAX_CELLS", 30)
    monkeypatch.setattr(_contest, "MIN_CELLS", 0)
    means = LabelledMeans.of([mixture_of(moved_levels(3, 2, 2))], cells(60), group, design=design)
    np.testing.assert_array_equal(means.contest.own, np.repeat([0, 1, 2], 10))


# --- cells that would decide alone


@pytest.mark.parametrize("far", [100.0, 300.0, 1e4])
def test_cell_far_from_all_others_changes_nothing(far: float) -> None:
    """But for what it says of the frequencies."""
    design, group = designed(np.repeat(THREE, 100, axis=0))
    x, part = cells(300), mixture_of(moved_levels(3, 2, 2))
    x[0] = 0
    (found,) = LabelledMeans.of([part], x, group, design=design).at(3.0)
    x[0] = far
    (beside,) = LabelledMeans.of([part], x, group, design=design).at(3.0)
    assert np.abs(found.mixture.mean_effect - part.mixture.mean_effect).max() > 0.05
    np.testing.assert_allclose(beside.mixture.mean_effect, found.mixture.mean_effect, atol=0.05)


def test_search_that_goes_astray_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps are the best that were tried, whatever came after."""
    monkeypatch.setattr(_discriminative, "FAR", np.inf)
    design, group = designed(np.repeat(THREE, 100, axis=0))
    x, part = cells(300), mixture_of(moved_levels(3, 2, 2))
    x[0] = 1000.0
    (found,) = LabelledMeans.of([part], x, group, design=design).at(3.0)
    assert np.abs(found.mixture.mean_effect).max() < 10
