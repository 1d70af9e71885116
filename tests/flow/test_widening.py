"""How far components are widened."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.flows import small

from scratio_sc.flow import ConditionalFlow, _fit, _widening
from scratio_sc.flow._baselines import BASELINES
from scratio_sc.flow._calibration import MIN_JUDGED
from scratio_sc.flow._denoising_ratio import N_NODES
from scratio_sc.flow._design import Design
from scratio_sc.flow._held_out import HeldOut
from scratio_sc.flow._widening import DOUBTS, choose_doubt

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow._member import Member

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]


def judged(sizes: dict[float, float], *, n: int = 4000) -> Callable[[float], HeldOut]:
    """Cells of two conditions whose ratio N(+-1, 2) is exact, as so many times what it is under each doubt."""
    rng = np.random.default_rng(0)
    condition = rng.integers(2, size=n)
    ratio = rng.normal(2.0 * condition - 1.0, np.sqrt(2.0))

    def judge(doubt: float) -> HeldOut:
        parts = np.zeros((n, 2, N_NODES))
        parts[:, 1, -1] = sizes[doubt] * ratio
        prior, baselines = np.full((n, 2), np.log(0.5)), np.zeros((n, 2, len(BASELINES)))
        return HeldOut(parts, condition, prior, baselines=baselines, kept=np.ones(2), group=condition)

    return judge


@pytest.mark.parametrize("right", DOUBTS)
def test_doubt_under_which_ratios_mean_what_they_say_is_chosen(right: float) -> None:
    assert choose_doubt(judged({doubt: 1 + right - doubt for doubt in (0.0, *DOUBTS)})) == right


def test_without_doubt_where_ratios_mean_what_they_say() -> None:
    assert choose_doubt(judged({doubt: 1 / (1 + doubt) for doubt in (0.0, *DOUBTS)})) == 0


def test_without_doubt_where_it_saves_next_to_nothing() -> None:
    assert choose_doubt(judged({doubt: 1.05 - doubt / 20 for doubt in (0.0, *DOUBTS)}, n=400_000)) == 0


def test_without_doubt_where_it_may_save_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred cells that save something, the first step saves less than a standard error."""
    monkeypatch.setattr(_widening, "LEAST_SAVED", 0.0)
    too_large = {doubt: 1.15 - doubt / 20 for doubt in (0.0, *DOUBTS)}
    assert choose_doubt(judged(too_large, n=100)) == 0
    assert choose_doubt(judged(too_large, n=200)) == 2


def test_few_cells_are_no_judges() -> None:
    far_too_large = {doubt: 2 - doubt / 2 for doubt in (0.0, *DOUBTS)}
    assert choose_doubt(judged(far_too_large, n=MIN_JUDGED - 1)) == 0
    assert choose_doubt(judged(far_too_large, n=MIN_JUDGED)) == 2


def test_without_doubt_where_no_cell_judges() -> None:
    assert choose_doubt(judged(dict.fromkeys((0.0, *DOUBTS), 1.0), n=0)) == 0


def test_variances_are_widened_by_dimensions_a_cell(make_member: Callable[..., Member]) -> None:
    design, _ = Design.of(np.array([["a"], ["b"]]), ("condition",), n_condition_columns=1)
    member = make_member(design, np.zeros((2, 3)), np.array([1.0, 2.0, 4.0]))
    member.anchor.size[:] = [[4.0], [8.0]]
    np.testing.assert_allclose(member.widened(2.0, design).anchor.variance, [[1.5, 3.0, 6.0]])


def test_own_covariances_are_widened_alike(make_member: Callable[..., Member]) -> None:
    design, _ = Design.of(np.array([["a"], ["b"]]), ("condition",), n_condition_columns=1)
    member = make_member(design, np.zeros((2, 3)), np.ones(3))
    anchor = replace(member.anchor, size=np.array([[4.0], [8.0]]), own_variance=np.array([[[1.0] * 3], [[2.0] * 3]]))
    widened = anchor.widened(2.0, design).own_variance
    np.testing.assert_allclose(widened, [[[1.5] * 3], [[3.0] * 3]])


def test_judges_are_widened_to_choose(monkeypatch: pytest.MonkeyPatch, fit: Fit) -> None:
    seen: list[float] = []

    def choose(judged: Callable[[float], HeldOut]) -> float:
        seen.extend(judged(doubt).parts.sum() for doubt in (0.0, 3.0))
        return 3.0

    monkeypatch.setattr(_fit, "choose_doubt", choose)
    flow, _ = fit(*small())
    np.testing.assert_allclose(seen[1], flow.held_out.parts.sum(), rtol=1e-5)
    assert seen[0] != pytest.approx(seen[1], rel=1e-3)


def test_groups_that_differ_in_numbers_alone_count_once(make_member: Callable[..., Member]) -> None:
    labels = np.array([["a", "0"], ["a", "1"], ["a", "2"]])
    design, _ = Design.of(labels, ("condition", "dose"), n_condition_columns=1, numeric=("dose",))
    member = make_member(Design.of(labels[:, 1:], ("x",), n_condition_columns=1)[0], np.zeros((3, 2)), np.ones(2))
    member.anchor.size[:] = 8.0  # of all doses together, as anchors have it
    np.testing.assert_allclose(member.widened(1.0, design).anchor.variance, 1.25)


def test_members_and_held_out_cells_are_those_of_the_doubt(monkeypatch: pytest.MonkeyPatch, fit: Fit) -> None:
    flows = []
    for doubt in (0.0, 3.0):
        monkeypatch.setattr(_fit, "choose_doubt", lambda _, doubt=doubt: doubt)
        flows.append(fit(*small())[0])
    plain, wide = flows
    for before, after in zip(plain.members, wide.members, strict=True):
        expected = before.widened(3.0, plain.design).anchor.variance
        np.testing.assert_array_equal(after.anchor.variance, expected)
    far = plain.held_out.parts.sum(2).min(1).argmin()
    assert wide.held_out.parts.sum(2)[far].min() > plain.held_out.parts.sum(2)[far].min()


def test_doubt_is_judged_at_the_finest_bandwidth(monkeypatch: pytest.MonkeyPatch, fit: Fit) -> None:
    """What all nodes say together is all that choosing a doubt needs, and less to compute."""
    seen: list[HeldOut] = []

    def choose(judged: Callable[[float], HeldOut]) -> float:
        seen.append(judged(0.0))
        return 0.0

    monkeypatch.setattr(_fit, "choose_doubt", choose)
    flow, _ = fit(*small())
    assert not seen[0].parts[:, :, :-1].any()
    np.testing.assert_allclose(seen[0].parts.sum(2), flow.held_out.parts.sum(2), rtol=1e-5, atol=1e-4)
