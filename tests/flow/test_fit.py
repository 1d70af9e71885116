"""Folds, members, what is fitted, and where randomness comes from."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers.flows import small
from hypothesis import given, settings
from hypothesis import strategies as st

from scratio_sc.flow import ConditionalFlow, _fit
from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._fit import auto_steps
from scratio_sc.flow._training import Losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow._member import Member
    from scratio_sc.flow._training import TrainingCells

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]


# --- members


@pytest.mark.parametrize("n_members", [2, 3, 4, 6])
def test_every_cell_is_left_out_by_a_member(fit: Fit, n_members: int) -> None:
    flow, fold = fit(*small(), n_members=n_members)
    assert len(flow.members) == n_members
    assert set(fold) == set(flow.left_out)


def test_one_member_leaves_out_a_minority_of_the_cells(fit: Fit) -> None:
    flow, fold = fit(*small(), n_members=1)
    assert 0 < np.isin(fold, flow.left_out).mean() < 0.5


def test_every_cell_has_a_fold(fit: Fit) -> None:
    x, labels = small()
    _, fold = fit(x, labels)
    assert fold.shape == (len(x),)
    assert fold.min() >= 0


def test_copies_of_a_cell_are_in_one_fold(fit: Fit) -> None:
    x, labels = small(60)
    copied = np.concatenate([x, x[::-1], x])
    _, fold = fit(copied, np.concatenate([labels, labels[::-1], labels]), n_members=4)
    np.testing.assert_array_equal(fold[:60], fold[120:])
    np.testing.assert_array_equal(fold[:60], fold[60:120][::-1])
    assert np.bincount(fold, minlength=4).min() >= 24


def test_group_of_one_cell_and_its_copies_is_in_all_folds(fit: Fit) -> None:
    x, labels = small(60)
    _, fold = fit(np.concatenate([x, np.tile(x[:1] + 1, (20, 1))]), np.append(labels, ["c"] * 20), n_members=4)
    assert np.bincount(fold[60:], minlength=4).tolist() == [5, 5, 5, 5]


def speak(member: Member) -> None:
    """Make the network of a member say something."""
    torch.nn.init.constant_(member.network.fine.outlet.bias, 0.01)


def keep_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what networks say, whether it helps or not."""
    monkeypatch.setattr(_fit, "tells_conditions_better", lambda *_, **__: True)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cells that each member was trained on, and those it was judged by, in the scaled embedding."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def train(member: Member, cells: TrainingCells, held_out: TrainingCells, **_: Any) -> Losses:
        seen.append((member.embedding(cells.x), member.embedding(held_out.x)))
        speak(member)
        return Losses(np.empty(0, int), np.empty(0, np.float32), np.empty(0, np.float32))

    monkeypatch.setattr(_fit, "train", train)
    keep_networks(monkeypatch)
    return seen


def rows_of(part: np.ndarray, whole: np.ndarray) -> list[int]:
    """Where the rows of a part lie in the whole."""
    distance = np.linalg.norm(part[:, None] - whole[None], axis=2)
    assert distance.min(1).max() < 1e-5
    return sorted(distance.argmin(1).tolist())


def test_member_is_trained_on_the_other_folds_and_judged_by_its_own(
    fit: Fit, training: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    x, labels = small()
    flow, fold = fit(x, labels, n_members=6)
    assert len(training) == 6
    found = [[rows_of(part, x / flow.scale) for part in parts] for parts in training]
    expected = [[np.flatnonzero(part).tolist() for part in (fold != own, fold == own)] for own in flow.left_out]
    assert sorted(found) == sorted(expected)  # members are trained side by side


def test_anchor_has_not_seen_the_left_out_fold(monkeypatch: pytest.MonkeyPatch, fit: Fit) -> None:
    seen, original = [], Anchor.fit

    def fit_anchor(x: np.ndarray, *rest: Any, **options: Any) -> tuple[Anchor, Anchor]:
        seen.append(x)
        return original(x, *rest, **options)

    monkeypatch.setattr(Anchor, "fit", fit_anchor)
    x, labels = small()
    flow, fold = fit(x, labels)
    found = [rows_of(part, x / flow.scale) for part in seen]
    assert sorted(found) == sorted(np.flatnonzero(fold != own).tolist() for own in flow.left_out)


@pytest.mark.parametrize(("room", "expected"), [(60, 1), (10_000, 2)], ids=["many cells", "few cells"])
def test_as_many_anchors_are_fitted_at_once_as_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch, fit: Fit, room: int, expected: int
) -> None:
    asked, original = [], _fit.side_by_side

    def side_by_side(*args: Any, at_most: int) -> Any:
        asked.append(at_most)
        return original(*args, at_most=at_most)

    monkeypatch.setattr(_fit, "side_by_side", side_by_side)
    monkeypatch.setattr(_fit, "at_once", lambda *_, **__: 2)
    monkeypatch.setattr(_fit, "MAX_SHARES", room)
    fit(*small())
    assert asked[0] == expected


def test_held_out_cells_judge_what_stands_for_the_members(monkeypatch: pytest.MonkeyPatch, fit: Fit) -> None:
    original = Anchor.fit

    def fit_anchor(*cells: Any, **options: Any) -> tuple[Anchor, Anchor]:
        anchor, judged = original(*cells, **options)
        return anchor, dataclasses.replace(judged, mean=judged.mean + 100)

    monkeypatch.setattr(Anchor, "fit", fit_anchor)
    flow, _ = fit(*small())
    assert flow.held_out.parts.sum(2).max() < -100
    assert np.abs(flow.members[0].anchor.mean).max() < 10


def test_members_share_their_coordinates(flow: ConditionalFlow) -> None:
    first, *others = (member.anchor for member in flow.members)
    for other in others:
        np.testing.assert_array_equal(other.center, first.center)
        np.testing.assert_array_equal(other.basis, first.basis)


@pytest.mark.parametrize(("speaks", "n_trained"), [(False, 1), (True, 3)])
def test_other_networks_are_trained_where_the_first_one_speaks(
    monkeypatch: pytest.MonkeyPatch, fit: Fit, speaks: bool, n_trained: int
) -> None:
    trained: list[Member] = []

    def train(member: Member, *_: Any, **__: Any) -> Losses:
        trained.append(member)
        if speaks:
            speak(member)
        return Losses(np.empty(0, int), np.empty(0, np.float32), np.empty(0, np.float32))

    monkeypatch.setattr(_fit, "train", train)
    keep_networks(monkeypatch)
    fit(*small(), n_members=3)
    assert len(trained) == n_trained


# --- what is fitted


def test_scale_makes_the_mean_variance_one(fit: Fit) -> None:
    x, labels = small()
    flow, _ = fit(7.0 * x, labels)
    assert (7.0 * x / flow.scale).var(0).mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("labels", "levels"),
    [
        (np.repeat([1, 2], 30), ("1", "2")),
        (np.repeat([True, False], 30), ("False", "True")),
        (np.repeat(np.array(["a/b", "ü"], object), 30), ("a/b", "ü")),
    ],
    ids=["numbers", "bools", "objects"],
)
def test_labels_of_any_kind_become_text(fit: Fit, labels: np.ndarray, levels: tuple[str, ...]) -> None:
    flow, _ = fit(small()[0], labels)
    assert flow.design.levels == (levels,)


def test_all_columns_make_the_condition_unless_told(fit: Fit) -> None:
    x, labels = small()
    both = np.column_stack([labels, np.tile(["c", "d"], 30)])
    flow, _ = fit(x, both, columns=("first", "second"))
    assert flow.design.n_condition_columns == 2
    assert len(flow.design.conditions) == 4


def test_columns_without_names_are_numbered(fit: Fit) -> None:
    x, labels = small()
    flow, _ = fit(x, np.column_stack([labels, labels]))
    assert flow.design.columns == ("column0", "column1")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": np.zeros(4)}, "x has shape"),
        ({"x": np.zeros((0, 2)), "labels": []}, "x has shape"),
        ({"x": np.zeros((1, 2)), "labels": ["a"]}, "two cells or more"),
        ({"x": np.array([[0.0, 1], [np.nan, 0], [1, 1], [2, 2]])}, "not finite in 1 of 4 cells"),
        ({"labels": ["a", "b"]}, "labels have shape"),
        ({"labels": np.full((4, 1, 1), "a")}, "labels have shape"),
        ({"columns": ["condition", "donor"]}, "expected 1 different names"),
        ({"n_condition_columns": 0}, "expected 1 to 1"),
        ({"n_condition_columns": 2}, "expected 1 to 1"),
    ],
)
def test_arrays_that_cannot_be_fitted_are_refused(wrong: dict[str, Any], message: str) -> None:
    given = {"x": np.arange(8.0).reshape(4, 2), "labels": ["a", "a", "b", "b"], **wrong}
    with pytest.raises(ValueError, match=message):
        _fit.fit_flow(**given)


@pytest.mark.parametrize("wrong", [{"device": "nowhere"}, {"precision": "float7"}])
def test_devices_and_precisions_that_do_not_exist_are_refused(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}='{value}'"):
        _fit.fit_flow(*small(), **wrong)


def test_history_has_a_column_for_each_member(learned_flow: ConditionalFlow) -> None:
    n = len(learned_flow.history["step"])
    assert n > 0
    assert learned_flow.history["loss"].shape == learned_flow.history["held_out_loss"].shape == (n, 1)


def test_members_that_stop_early_leave_their_history_open(monkeypatch: pytest.MonkeyPatch, fit: Fit) -> None:
    lengths = iter([2, 3])

    def train(member: Member, *_: Any, **__: Any) -> Losses:
        n = next(lengths)
        speak(member)
        return Losses(np.arange(n), np.ones(n, np.float32), np.ones(n, np.float32))

    monkeypatch.setattr(_fit, "train", train)
    keep_networks(monkeypatch)
    flow, _ = fit(*small(), n_members=2)
    np.testing.assert_array_equal(flow.history["loss"], [[1, 1], [1, 1], [np.nan, 1]])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(first=st.integers(10, 10**7), second=st.integers(10, 10**7))
def test_more_cells_deserve_no_fewer_steps(first: int, second: int) -> None:
    fewer, more = sorted([first, second])
    assert 0 < auto_steps(fewer) <= auto_steps(more) <= 5000


# --- randomness


def scores(fit: Fit, rng: int | np.random.Generator) -> np.ndarray:
    x, labels = small(80)
    x = np.sign(x) * np.sqrt(np.abs(x))
    flow, fold = fit(x, labels, rng=rng, max_steps=3, n_members=1, batch_size=32)
    return np.concatenate([flow.log_ratio(x[:20], "a", "b", bandwidth=0).value, fold])


@pytest.mark.usefixtures("quick_training")
def test_same_seed_gives_the_same_numbers(fit: Fit) -> None:
    np.testing.assert_array_equal(scores(fit, 1), scores(fit, 1))


@pytest.mark.usefixtures("quick_training")
def test_seed_and_its_generator_give_the_same_numbers(fit: Fit) -> None:
    np.testing.assert_array_equal(scores(fit, 1), scores(fit, np.random.default_rng(1)))


@pytest.mark.usefixtures("quick_training")
def test_another_seed_gives_other_numbers(fit: Fit) -> None:
    first, second = scores(fit, 1)[:20], scores(fit, 2)[:20]
    assert not np.isclose(first, second, rtol=1e-6).any()


@pytest.mark.usefixtures("quick_training")
def test_numbers_do_not_depend_on_the_global_random_state(fit: Fit) -> None:
    first = scores(fit, 1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(123)
        np.testing.assert_array_equal(scores(fit, 1), first)


# --- cells at the edge


def test_group_smaller_than_the_number_of_folds_is_fitted(fit: Fit) -> None:
    x, labels = small()
    labels[:2] = "r"
    flow, _ = fit(x, labels)
    assert np.isfinite(flow.log_ratio(x, "r", "a").value).all()


def test_group_of_one_cell_among_cell_types_is_fitted(fit: Fit, mixed_cells: np.ndarray, labels: np.ndarray) -> None:
    """One of the members has not seen it."""
    names = labels.copy()
    names[7] = "r"
    flow, _ = fit(mixed_cells, names)
    assert np.isfinite(flow.log_ratio(mixed_cells[::20], "r", "ctrl").value).all()


@pytest.mark.parametrize("n", [1, 2])
def test_ratios_of_a_group_of_few_cells_stay_moderate(fit: Fit, n: int) -> None:
    """Conditions correlate in opposite ways, so that groups have covariances of their own; one is nearly empty.

    Its covariance is that of its condition in the other batch.
    """
    rng = np.random.default_rng(0)
    labels = np.repeat([("a", "1"), ("b", "1"), ("a", "2"), ("b", "2")], [300, 300, 300, n], axis=0)
    x = rng.standard_normal((len(labels), 2))
    x[:, 1] = 0.6 * x[:, 1] + np.where(labels[:, 0] == "a", 0.8, -0.8) * x[:, 0]
    flow, fold = fit(x, labels, columns=("condition", "batch"), n_condition_columns=1)
    assert flow.members[0].anchor.own_share > 0.5
    second = labels[:, 1] == "2"
    ratio = flow.log_ratio(x[second], "b", "a", own=labels[second], fold=fold[second], bandwidth=0).value
    exact = -2 * 0.8 / 0.36 * x[second].prod(1)  # of unit variances and correlations of .8 and -.8
    assert np.abs(ratio - exact).max() < 15


def test_one_dimension_is_fitted(fit: Fit) -> None:
    x, labels = small(d=1)
    flow, _ = fit(x, labels)
    ratio = flow.log_ratio(x, "b", "a", bandwidth=0).value
    assert np.corrcoef(ratio, x[:, 0])[0, 1] > 0.99


def test_constant_dimension_hardly_changes_the_ratio(fit: Fit) -> None:
    """A little, because means and covariances of more dimensions are shrunk more."""
    x, labels = small(600)
    flat = np.column_stack([x, np.ones(len(x))])
    found, expected = (fit(z, labels)[0].log_ratio(z, "b", "a", bandwidth=0).value for z in (flat, x))
    assert np.abs(found - expected).max() < 0.05 * expected.std()


def test_cells_that_are_all_alike_have_no_ratio(fit: Fit) -> None:
    flow, _ = fit(np.ones((60, 2)), small()[1])
    np.testing.assert_allclose(flow.log_ratio(np.ones((3, 2)), "a", "b").value, 0, atol=1e-6)


def test_single_condition_is_fitted(fit: Fit) -> None:
    x, _ = small()
    flow, _ = fit(x, np.full(60, "a"))
    assert np.isfinite(flow.log_likelihood(x, "a")).all()


# --- progress


@pytest.mark.usefixtures("quick_training")
def test_progress_bar_counts_mixtures_and_steps_of_all_networks(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(*small(), n_members=2, max_steps=3, batch_size=16, progress=True)
    err = capsys.readouterr().err
    assert "fitting" in err
    assert "12/12" in err  # and four partitions


def test_progress_bar_does_not_wait_for_networks_that_are_not_trained(
    fit: Fit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, on_step: Callable[[], None], **__: Any) -> Losses:
        on_step()  # and it stops early
        return Losses(np.empty(0, int), np.empty(0, np.float32), np.empty(0, np.float32))

    monkeypatch.setattr(_fit, "train", train)
    fit(*small(), n_members=2, max_steps=3, progress=True)
    err = capsys.readouterr().err
    assert "/9 " in err
    assert "9/9" in err


def test_progress_bar_says_that_there_are_no_networks(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(*small(), n_members=2, max_steps=0, progress=True)
    err = capsys.readouterr().err
    assert "6/6" in err
    assert "network" not in err.replace("no networks", "")


def test_without_progress_nothing_is_printed(fit: Fit, capsys: pytest.CaptureFixture[str]) -> None:
    fit(*small(), n_members=2, max_steps=1, batch_size=16)
    assert capsys.readouterr() == ("", "")
