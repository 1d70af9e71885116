"""The statistics of batch scores against exact numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratio_sc.flow import fit_flow
from scratio_sc.flow._bandwidth import choose_weights
from scratio_sc.flow._standard_error import standard_error
from scratio_sc.stats._batch_information import BatchScores, bounded, largest_scores, summary
from scratio_sc.stats._divergence import Ratios


def scores(
    value: np.ndarray, by_member: np.ndarray, by_partition: np.ndarray | None = None, *, seen: np.ndarray | None = None
) -> BatchScores:
    ratios = Ratios(value, by_member, value[None] if by_partition is None else by_partition)
    return BatchScores(ratios, value if seen is None else seen, np.arange(len(by_member)), np.ones(8), np.ones(8))


def whole(found: BatchScores, largest: float = 1.0, threshold: float = 0.5) -> dict[str, float]:
    every = np.ones(len(found.ratios.value), bool)
    return summary(found, every, largest=np.full(len(every), largest), threshold=threshold)


def test_largest_score_is_the_log_share_of_the_own_batch() -> None:
    labels = np.array([["a", "t"], ["b", "t"], ["b", "t"], ["b", "t"], ["a", "s"], ["b", "s"]])
    np.testing.assert_allclose(largest_scores(labels), np.log([4, 4 / 3, 4 / 3, 4 / 3, 2, 2]))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5))
def test_mean_of_the_largest_scores_is_the_entropy(sizes: list[int]) -> None:
    batch = np.repeat([f"b{i}" for i in range(len(sizes))], sizes)
    share = np.array(sizes) / sum(sizes)
    found = largest_scores(np.column_stack([batch, np.full(len(batch), "t")])).mean()
    assert found == pytest.approx(-(share * np.log(share)).sum())


def test_mean_and_share_are_those_of_the_chosen_cells() -> None:
    value = np.array([0.9, 0.6, 0.4, -5.0])
    found = summary(
        scores(value, np.tile(value, (2, 1))), np.array([True, True, True, False]), largest=np.ones(4), threshold=0.5
    )
    assert found["mean"] == pytest.approx(1.9 / 3)
    assert found["above"] == pytest.approx(2 / 3)


def test_negative_means_are_not_clipped() -> None:
    value = np.array([-0.2, -0.1, 0.1])
    assert whole(scores(value, np.tile(value, (2, 1))))["mean"] == pytest.approx(-0.2 / 3)


def test_threshold_is_relative_to_the_largest_score() -> None:
    value = np.full(3, 0.8)
    found = scores(value, np.tile(value, (2, 1)))
    assert [whole(found, largest)["above"] for largest in (1.0, 2.0)] == [1.0, 0.0]


def test_members_that_agree_leave_the_error_of_the_mean() -> None:
    value = np.random.default_rng(0).standard_normal(50)
    found = whole(scores(value, np.tile(value, (4, 1))))
    assert found["mean_se"] == pytest.approx(value.std(ddof=1) / np.sqrt(50))


def test_cells_that_agree_leave_the_jackknife() -> None:
    by_member = np.tile([[0.1], [0.2], [0.4]], (1, 20))
    found = whole(scores(np.full(20, 0.3), by_member))
    assert found["mean_se"] == pytest.approx(float(standard_error(by_member[:, 0], np.array([0.3]), np.arange(3))))


def test_partitions_that_differ_widen_the_error() -> None:
    value = np.full(20, 0.3)
    found = whole(scores(value, np.tile(value, (3, 1)), np.stack([value - 0.1, value + 0.1])))
    assert found["mean_se"] == pytest.approx(0.1 * np.sqrt(2))


def test_information_lies_between_the_scores_of_members_that_saw_a_cell_and_that_did_not() -> None:
    value = np.full(20, 0.3)
    found = whole(scores(value, np.tile(value, (3, 1)), seen=value + 0.2))
    assert found["information"] == pytest.approx(0.4)
    assert found["information_se"] == pytest.approx(0.1)


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    batch, cell_type = rng.integers(2, size=(2, 300))
    x = rng.standard_normal((300, 2)) + 4 * cell_type[:, None]
    x[:, 1] += 1.5 * batch
    return x, np.column_stack([np.array(["a", "b"])[batch], np.array(["s", "t"])[cell_type]])


OPTIONS = {"columns": ("batch", "type"), "n_members": 2, "max_steps": 0, "rng": 0}


def test_bandwidth_is_judged_by_all_batches_given_the_type(cells: tuple[np.ndarray, np.ndarray]) -> None:
    _, labels = cells
    rng = np.random.default_rng(1)
    # two clouds, as a single Gaussian is seen without a kernel, and a weak change in their proportions
    x = rng.standard_normal((300, 2)) + 20 * (rng.random(300) < np.where(labels[:, 0] == "a", 0.4, 0.6))[:, None]
    flow, _ = fit_flow(x, labels, **OPTIONS, n_condition_columns=1)
    found = BatchScores.of(x, labels, **OPTIONS, bandwidth="auto", progress=False)
    assert found.node_weights.sum() < len(found.node_weights)
    np.testing.assert_array_equal(found.node_weights, choose_weights(flow.held_out))


def test_score_is_own_density_over_the_mixture_out_of_fold(cells: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = cells
    flow, fold = fit_flow(x, labels, **OPTIONS, n_condition_columns=1)
    found = BatchScores.of(x, labels, **OPTIONS, bandwidth=0.0, progress=False)
    density = {name: flow.log_likelihood(x, {"batch": name}, own=labels, fold=fold) for name in ("a", "b")}
    own = np.where(labels[:, 0] == "a", density["a"], density["b"])
    share = np.array([(labels[labels[:, 1] == t, 0] == "a").mean() for t in labels[:, 1]])
    mixture = np.logaddexp(density["a"] + np.log(share), density["b"] + np.log(1 - share))
    np.testing.assert_allclose(found.ratios.value, bounded(own - mixture, labels[:, 1]), atol=1e-6)


def test_no_score_says_more_than_so_many_cells_can_know() -> None:
    score = np.array([-200.0, 0.0, 0.5, -1e5])
    np.testing.assert_allclose(bounded(score, np.array(["a", "a", "a", "b"])), [-np.log(3), 0, 0.3594, 0], atol=1e-4)
    np.testing.assert_allclose(bounded(score[None], np.full(4, "a"))[0, [0, 3]], -np.log(4))


def test_no_score_exceeds_the_largest(cells: tuple[np.ndarray, np.ndarray]) -> None:
    found = BatchScores.of(*cells, **OPTIONS, bandwidth="auto", progress=False)
    assert (found.ratios.value <= largest_scores(cells[1]) + 1e-9).all()
