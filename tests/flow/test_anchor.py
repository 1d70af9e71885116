"""The anchor: the right mixtures, groups that differ as far as cells can tell, coordinates that follow the cells."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import ortho_group

from scratio_sc.flow import _anchor_plan, _components, _halves, _mixture_fit
from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._anchor_plan import N_PARTITIONS, AnchorPlan
from scratio_sc.flow._design import Design
from scratio_sc.flow._folds import copies_of
from scratio_sc.flow._halves import OWN_SHARES
from scratio_sc.flow._proportions import log_weights


def design_of(labels: np.ndarray) -> tuple[Design, np.ndarray]:
    labels = labels.reshape(len(labels), -1)
    return Design.of(labels, [f"column{j}" for j in range(labels.shape[1])], labels.shape[1])


def plan_of(x: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> AnchorPlan:
    design, group = design_of(labels)
    return AnchorPlan.of(x, group, design, copy=copies_of(x), rng=np.random.default_rng(seed))


def fit(x: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Anchor:
    design, group = design_of(labels)
    return Anchor.fit(x, group, design, plan=plan_of(x, labels, seed=seed))[0]


def means(anchor: Anchor) -> np.ndarray:
    """Means of the components of each level ``(k, m, d)`` in the embedding."""
    return anchor.center + (anchor.mean + anchor.mean_effect) @ anchor.basis.T


def covariances(anchor: Anchor) -> np.ndarray:
    """Covariances of the components of each level ``(k, m, d, d)`` in the embedding."""
    variance, rotation = anchor.variance[None], anchor.rotation[None]
    if anchor.own_share:
        variance, rotation = anchor.own_variance, anchor.own_rotation
    inner = rotation * variance[..., None, :] @ np.swapaxes(rotation, -1, -2)
    out = anchor.basis @ inner @ anchor.basis.T
    return np.broadcast_to(out, (len(anchor.mean_effect), *out.shape[1:]))


def weights(anchor: Anchor) -> np.ndarray:
    """Weights of the components of each level ``(k, m)``."""
    return np.exp(log_weights(anchor.log_weight + anchor.weight_effect, anchor.partition))


def group_moments(anchor: Anchor) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(k, d)`` and covariance ``(k, d, d)`` of each level."""
    w, mu = weights(anchor), means(anchor)
    mean = np.einsum("km,kmd->kd", w, mu)
    gap = mu - mean[:, None]
    within = np.einsum("km,kmde->kde", w, covariances(anchor))
    return mean, within + np.einsum("km,kmd,kme->kde", w, gap, gap)


def draw(n: int, *, scale: float = 1.0, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((n, 3)) * [2.0, 1.0, 0.5]


LABELS = np.repeat(["a", "b"], 300)
SHIFTED = np.concatenate([draw(300), draw(300, shift=2.0, seed=1)])
SCALED = np.concatenate([draw(300), draw(300, scale=3.0, seed=1)])
CENTRES = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])


def types(shares: dict[str, list[float]], *, n: int = 300, seed: int = 0) -> np.ndarray:
    """Cells of three types, in the shares of each group."""
    counts = [np.round(np.multiply(share, n)).astype(int) for share in shares.values()]
    kind = np.concatenate([np.repeat(np.arange(3), count) for count in counts])
    return CENTRES[kind] + np.random.default_rng(seed).standard_normal((len(kind), 3))


UNEQUAL = {"a": [0.6, 0.3, 0.1], "b": [0.2, 0.2, 0.6]}
MIXED = types(UNEQUAL)
ROUND = np.random.default_rng(0).uniform(0, 2 * np.pi, 600)
BENT = np.column_stack([5 * np.cos(ROUND), 5 * np.sin(ROUND), np.zeros(600)]) + 0.3 * draw(600)
KINDS = pytest.mark.parametrize("x", [SHIFTED, SCALED, MIXED], ids=["shifted", "scaled", "mixed"])


# --- Gaussian groups


def test_gaussian_groups_have_one_component() -> None:
    assert len(fit(SHIFTED, LABELS).mean) == len(fit(SCALED, LABELS).mean) == 1


def test_means_of_shifted_groups_are_found() -> None:
    expected = [SHIFTED[:300].mean(0), SHIFTED[300:].mean(0)]
    np.testing.assert_allclose(group_moments(fit(SHIFTED, LABELS))[0], expected, atol=0.1)


def test_groups_that_are_alike_share_their_mean() -> None:
    """Mostly: some pairs of halves differ by chance."""
    gaps = []
    for seed in range(11):
        x = np.concatenate([draw(300, seed=2 * seed), draw(300, seed=2 * seed + 1)])
        gaps.append(np.ptp(group_moments(fit(x, LABELS))[0], axis=0).max())
    assert np.mean(np.array(gaps) == 0) > 0.8


def test_groups_of_one_shape_share_their_covariance() -> None:
    anchor = fit(SHIFTED, LABELS)
    within = (np.cov(SHIFTED[:300].T) + np.cov(SHIFTED[300:].T)) / 2
    np.testing.assert_allclose(covariances(anchor)[0, 0], within, atol=0.3)
    assert anchor.own_share < 0.5


def test_groups_of_different_shapes_keep_their_own_covariances() -> None:
    found = covariances(fit(SCALED, LABELS))[:, 0]
    np.testing.assert_allclose(np.trace(found[1]) / np.trace(found[0]), 9.0, rtol=0.3)


@KINDS
def test_own_share_is_one_of_those_on_offer(x: np.ndarray) -> None:
    assert fit(x, LABELS).own_share in OWN_SHARES


@KINDS
def test_own_covariances_are_kept_only_where_they_are_used(x: np.ndarray) -> None:
    anchor = fit(x, LABELS)
    assert len(anchor.own_variance) == len(anchor.own_rotation) == (2 if anchor.own_share else 0)


@KINDS
def test_moments_of_groups_are_those_of_their_cells(x: np.ndarray) -> None:
    mean, covariance = group_moments(fit(x, LABELS))
    for g, cells in enumerate((x[:300], x[300:])):
        np.testing.assert_allclose(mean[g], cells.mean(0), atol=0.3)
        expected = np.cov(cells.T)
        np.testing.assert_allclose(covariance[g], expected, atol=0.1 * expected.max() + 0.2)


# --- mixtures


def test_groups_of_several_types_are_mixtures_of_them() -> None:
    anchor = fit(MIXED, LABELS)
    assert anchor.n_parts == 1
    nearest = np.linalg.norm(means(anchor)[0][:, None] - CENTRES, axis=2)
    assert nearest.min(0).max() < 0.5


def test_weights_of_every_group_sum_to_one() -> None:
    np.testing.assert_allclose(weights(fit(MIXED, LABELS)).sum(1), 1)


def test_weights_are_found_where_groups_differ_in_their_proportions_alone() -> None:
    anchor = fit(MIXED, LABELS)
    kind = np.linalg.norm(means(anchor)[0][:, None] - CENTRES, axis=2).argmin(1)
    share = np.stack([weights(anchor)[:, kind == k].sum(1) for k in range(3)], axis=1)
    np.testing.assert_allclose(share, list(UNEQUAL.values()), atol=0.08)


def test_types_stay_where_groups_differ_in_their_proportions_alone() -> None:
    """Mostly: a type of few cells may move by chance."""
    moved = [np.ptp(fit(types(UNEQUAL, seed=seed), LABELS).mean_effect, axis=0).max(1) for seed in range(5)]
    assert np.mean(np.concatenate(moved) == 0) > 0.8


def test_groups_of_equal_proportions_have_almost_equal_weights() -> None:
    share = {"a": [0.5, 0.3, 0.2], "b": [0.5, 0.3, 0.2]}
    found = weights(fit(types(share), LABELS))
    np.testing.assert_allclose(found[0], found[1], atol=0.02)


def many_types(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Twelve types in a plane, which take turns in being more frequent among the cells of "a" or of "b"."""
    rng, kind = np.random.default_rng(0), np.arange(n) % 12
    centres = np.stack(np.divmod(np.arange(12), 4), axis=1) * 8.0
    labels = np.where(rng.random(n) < 0.2 + 0.6 * (kind % 2), "a", "b")
    return centres[kind] + rng.standard_normal((n, 2)), labels


@pytest.mark.parametrize(("cells_each", "n_found"), [(300, 12), (1_000, 4)], ids=["many cells", "few cells"])
def test_many_types_are_found_where_there_are_cells_for_them(
    cells_each: int, n_found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_anchor_plan, _components):
        monkeypatch.setattr(module, "MAX_COMPONENTS", 4)
    monkeypatch.setattr(_anchor_plan, "CELLS_EACH", cells_each)
    plan = plan_of(*many_types(1_500))
    assert [len(part.mixture.mean) for part in plan.parts] == pytest.approx([n_found] * len(plan.parts), abs=1)


def test_more_components_that_tell_nothing_of_groups_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_anchor_plan, _components):
        monkeypatch.setattr(module, "MAX_COMPONENTS", 4)
    monkeypatch.setattr(_anchor_plan, "CELLS_EACH", 300)
    x, labels = many_types(1_500)
    plans = [plan_of(x, np.random.default_rng(seed).permutation(labels)) for seed in range(6)]
    assert np.sum([len(plan.parts[0].mixture.mean) > 4 for plan in plans]) <= 2


@pytest.mark.filterwarnings("error")
def test_groups_of_one_cell_leave_none_to_judge_by() -> None:
    rng = np.random.default_rng(0)
    donor, kind = np.divmod(np.arange(300), 15)
    labels = np.column_stack([np.tile(["a", "b"], 150), donor.astype(str), kind.astype(str)])
    x = rng.standard_normal((300, 2)) + 8.0 * np.column_stack([kind % 3, np.zeros(300)])
    x[(labels[:, 0] == "b") & (kind % 3 == 0), 1] += 3
    plan = plan_of(x, labels)
    assert [len(part.mixture.mean) for part in plan.parts] == [3] * len(plan.parts)
    assert plan.label_weight == 0


def test_partitions_too_large_for_own_covariances_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = ring(150, seed=1)[0], np.repeat(["a", "b"], 150)
    x[150:] *= [0.3, 1.0, 3.0]
    usual = plan_of(x, labels)
    sizes = [len(part.mixture.mean) for part in usual.parts]
    assert usual.own_share > 0
    assert max(sizes) > sizes[0]
    monkeypatch.setattr(_mixture_fit, "MAX_OWN_ELEMENTS", 2 * sizes[0] * 9)
    plan = plan_of(x, labels)
    assert len(plan.parts) < len(usual.parts)
    design, group = design_of(labels)
    assert len(Anchor.fit(x, group, design, plan=plan)[0].own_variance) == 2


def ring(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells on a ring, on one side of which those of "b" have moved, and their labels."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, 2 * n), 5 + 0.6 * rng.standard_normal(2 * n)
    x = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), 0.5 * rng.standard_normal(2 * n)])
    moved = (np.arange(2 * n) >= n) & (x[:, 0] > 0)
    return x + np.where(moved[:, None], [1.0, 0, 1], 0), np.repeat(["a", "b"], n)


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_labels_count_where_components_are_no_gaussians(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two components are too few for a ring."""
    monkeypatch.setattr(_components, "MAX_COMPONENTS", 2)
    monkeypatch.setattr(_halves, "OWN_SHARES", (0.0,))
    assert plan_of(*ring(600, seed=seed)).label_weight > 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_where_components_are_gaussian_their_cells_say_enough(seed: int) -> None:
    x = types(UNEQUAL, n=600, seed=seed)
    responding = (np.arange(1200) >= 600) & (np.linalg.norm(x - CENTRES[2], axis=1) < 5)
    x += np.where(responding[:, None], [1.0, 0, 1], 0)
    assert plan_of(x, np.repeat(["a", "b"], 600)).label_weight == 0


def test_labels_move_means_as_far_as_the_plan_has_it() -> None:
    x = types(UNEQUAL)
    x[300:] += [1.0, 0, 1]
    design, group = design_of(LABELS)
    plan = plan_of(x, LABELS)
    anchors = [
        Anchor.fit(x, group, design, plan=dataclasses.replace(plan, label_weight=weight))[0]
        for weight in (0.0, 0.3, 3.0)
    ]
    near, far = (np.abs(anchor.mean_effect - anchors[0].mean_effect).max() for anchor in anchors[1:])
    assert 0 < 2 * near < far
    for anchor in anchors:
        np.testing.assert_array_equal(anchor.weight_effect, anchors[0].weight_effect)


def test_one_partition_is_enough_where_another_start_finds_the_same() -> None:
    assert fit(types(UNEQUAL, n=500), np.repeat(["a", "b"], 500)).n_parts == 1


def test_partitions_that_differ_are_all_kept() -> None:
    assert fit(BENT, LABELS).n_parts == N_PARTITIONS


def test_partitions_have_equal_shares() -> None:
    anchor = fit(BENT, LABELS)
    share = np.stack([weights(anchor)[:, anchor.partition == p].sum(1) for p in range(anchor.n_parts)])
    np.testing.assert_allclose(share, 1 / anchor.n_parts)


# --- coordinates


def test_spread_is_the_variance_of_all_cells_along_the_basis() -> None:
    anchor = fit(SHIFTED, LABELS)
    np.testing.assert_allclose(anchor.spread, (SHIFTED @ anchor.basis).var(0), atol=1e-5)


@KINDS
def test_same_generator_gives_the_same_anchor(x: np.ndarray) -> None:
    first, second = fit(x, LABELS, seed=3), fit(x, LABELS, seed=3)
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(second, name))


@KINDS
def test_mixtures_rotate_with_the_embedding(x: np.ndarray) -> None:
    q = ortho_group(3, seed=1).rvs()
    there, here = (group_moments(fit(cells, LABELS)) for cells in (x @ q.T + 7.0, x))
    np.testing.assert_allclose(there[0], here[0] @ q.T + 7.0, atol=1e-8)
    np.testing.assert_allclose(there[1], q @ here[1] @ q.T, atol=1e-8)


def test_members_of_one_plan_share_their_coordinates_and_components() -> None:
    design, group = design_of(LABELS)
    plan = plan_of(MIXED, LABELS)
    halves = [Anchor.fit(MIXED[i::2], group[i::2], design, plan=plan)[0] for i in range(2)]
    for name in ("center", "basis", "within", "partition"):
        np.testing.assert_array_equal(getattr(halves[0], name), getattr(halves[1], name))
    apart = np.linalg.norm(halves[0].mean - halves[1].mean, axis=1)
    assert (apart < np.sqrt(halves[0].variance.sum(1))).all()


def test_members_start_from_what_groups_have_in_common() -> None:
    """What the groups of all cells say, of those that the member leaves out, too, is forgotten."""
    design, group = design_of(LABELS)
    plan = plan_of(MIXED, LABELS)
    said = [
        dataclasses.replace(
            part.mixture,
            weight_effect=part.mixture.weight_effect + 3.0,
            mean_effect=np.full_like(part.mixture.mean_effect, 9.0),
        )
        for part in plan.parts
    ]
    parts = [dataclasses.replace(part, mixture=mixture) for part, mixture in zip(plan.parts, said, strict=True)]
    first, second = (
        Anchor.fit(MIXED, group, design, plan=each)[0] for each in (plan, dataclasses.replace(plan, parts=parts))
    )
    np.testing.assert_array_equal(first.mean_effect, second.mean_effect)
    np.testing.assert_array_equal(first.weight_effect, second.weight_effect)


# --- cells at the edge


def test_combination_never_observed_has_the_mean_its_columns_predict() -> None:
    labels = np.repeat(np.array([("a", "x"), ("a", "y"), ("b", "x")]), 2000, axis=0)
    x = np.random.default_rng(0).standard_normal((len(labels), 2))
    x += np.column_stack([2.0 * (labels[:, 0] == "b"), -3.0 * (labels[:, 1] == "y")])
    anchor, (design, _) = fit(x, labels), design_of(labels)
    assert len(anchor.mean) == 1
    never = anchor.mean[0] + design.features(np.array([1, 1])) @ anchor.mean_effect[:, 0]
    np.testing.assert_allclose(anchor.center + never @ anchor.basis.T, [[2.0, -3.0]], atol=0.2)


def test_combination_never_observed_has_the_proportions_its_columns_predict() -> None:
    """The condition multiplies the odds of the second type by 4, the donor by 3."""
    labels = np.repeat(np.array([("a", "x"), ("a", "y"), ("b", "x")]), 1000, axis=0)
    odds = 0.25 * np.where(labels[:, 0] == "b", 4, 1) * np.where(labels[:, 1] == "y", 3, 1)
    rng = np.random.default_rng(0)
    second = rng.random(len(labels)) < odds / (1 + odds)
    x = rng.standard_normal((len(labels), 2)) + 10.0 * second[:, None]
    anchor, (design, _) = fit(x, labels), design_of(labels)
    never = anchor.log_weight + design.features(np.array([1, 1])) @ anchor.weight_effect
    weight = np.exp(log_weights(never, anchor.partition))[0]
    where = (anchor.center + anchor.mean @ anchor.basis.T)[:, 0] > 5
    assert weight[where].sum() == pytest.approx(0.75, abs=0.08)


@KINDS
def test_constant_dimension_leaves_the_mixtures_proper(x: np.ndarray) -> None:
    anchor = fit(np.column_stack([x, np.full(len(x), 4.0)]), LABELS)
    assert np.linalg.eigvalsh(covariances(anchor)).min() > 0
    np.testing.assert_allclose(means(anchor)[..., 3], 4.0)


@KINDS
def test_constant_dimension_changes_nothing_along_the_others(x: np.ndarray) -> None:
    mean, covariance = group_moments(fit(np.column_stack([x, np.full(len(x), 4.0)]), LABELS))
    for g, cells in enumerate((x[:300], x[300:])):
        np.testing.assert_allclose(mean[g, :3], cells.mean(0), atol=0.3)
        expected = np.cov(cells.T)
        np.testing.assert_allclose(covariance[g, :3, :3], expected, atol=0.1 * expected.max() + 0.2)


def test_more_dimensions_than_cells_leave_the_mixtures_proper() -> None:
    x = np.random.default_rng(0).standard_normal((40, 60))
    anchor = fit(x, np.repeat(["a", "b"], 20))
    assert np.linalg.eigvalsh(covariances(anchor)).min() > 0


def test_group_of_one_cell_leaves_the_mixtures_proper() -> None:
    labels = LABELS.astype("<U1")
    labels[5] = "c"
    anchor = fit(MIXED, labels)
    assert np.linalg.eigvalsh(covariances(anchor)).min() > 0
    np.testing.assert_allclose(weights(anchor).sum(1), 1)


def test_plan_leaves_the_cells_alone() -> None:
    x, before = MIXED.copy(), MIXED.copy()
    fit(x, LABELS)
    np.testing.assert_array_equal(x, before)
