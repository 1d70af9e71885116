"""Components that are one type: which they are, and where a fit of types starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratio_sc.flow import _halves, _moved_types
from scratio_sc.flow._anchor_plan import AnchorPlan
from scratio_sc.flow._components import Components
from scratio_sc.flow._design import Design
from scratio_sc.flow._folds import copies_of
from scratio_sc.flow._moved_types import MovedTypes, _loss, _without_conditions

SHAPES = np.array([[3.0, 0.3, 1.0], [0.3, 3.0, 1.0]])
CENTRES = np.array([[0.0, 0, 0], [0, 0, 40]])
MOVE = np.array([20.0, 20, 0])
N = 200


def cells_of(labels: np.ndarray, kind: np.ndarray, *, move: np.ndarray = MOVE, seed: int = 0) -> torch.Tensor:
    """Cells of two types of different shapes, which "stim" moves."""
    noise = np.random.default_rng(seed).standard_normal((len(kind), 3))
    return torch.as_tensor(CENTRES[kind] + SHAPES[kind] * noise + move * (labels == "stim")[:, None])


LABELS = np.tile(np.repeat(["ctrl", "stim"], N), 2)
KIND = np.repeat([0, 1], 2 * N)
DESIGN, GROUP = Design.of(LABELS[:, None], ("condition",), 1)
X = cells_of(LABELS, KIND)


def components_of(x: torch.Tensor, part: np.ndarray) -> Components:
    """Components with the moments of parts of the cells ``(n,)``."""
    parts = [x[torch.as_tensor(part == k)] for k in range(part.max() + 1)]
    weight = torch.tensor([len(cells) for cells in parts], dtype=x.dtype) / len(x)
    return Components(weight, torch.stack([c.mean(0) for c in parts]), torch.stack([torch.cov(c.T) for c in parts]))


EACH = components_of(X, np.repeat(np.arange(4), N))
"""A component for each type and condition."""


@pytest.mark.parametrize("explained", [0.5, None])
def test_components_of_one_type_are_united(explained: float | None) -> None:
    (types,) = MovedTypes.of(EACH, X, GROUP, design=DESIGN, explained=[explained])
    np.testing.assert_array_equal(types.of_component, [0, 0, 1, 1])
    assert types.are_fewer


@pytest.mark.parametrize("explained", [0.5, None])
def test_types_that_do_not_move_stay_what_they_are(explained: float | None) -> None:
    x = cells_of(LABELS, KIND, move=np.zeros(3))
    (types,) = MovedTypes.of(components_of(x, KIND), x, GROUP, design=DESIGN, explained=[explained])
    np.testing.assert_array_equal(types.of_component, [0, 1])
    assert not types.are_fewer


def test_halves_of_a_type_are_united_where_moves_need_not_explain_it() -> None:
    """Random halves of the cells of each type, of both conditions, lose next to nothing, with moves or without."""
    x = cells_of(LABELS, KIND, move=np.zeros(3))
    part = 2 * KIND + np.random.default_rng(1).integers(2, size=len(x))
    _, coarser = MovedTypes.of(components_of(x, part), x, GROUP, design=DESIGN)
    np.testing.assert_array_equal(coarser.of_component, [0, 0, 1, 1])


def test_loss_without_conditions_is_that_of_all_cells_in_one() -> None:
    """What the moments of the cells say, n log det(Sigma) / 2 - n log n, together less apart."""
    rng = np.random.default_rng(0)
    parts = [[rng.normal(c + 2 * k, 1, (30 + 10 * c, 2)) for c in range(2)] for k in range(2)]
    size = np.array([[len(parts[k][c]) for k in range(2)] for c in range(2)], float)
    mean = np.array([[parts[k][c].mean(0) for k in range(2)] for c in range(2)])
    about = np.array([sum((x - x.mean(0)).T @ (x - x.mean(0)) for x in parts[k]) for k in range(2)])

    def cost(x: np.ndarray) -> float:
        _, log_det = np.linalg.slogdet(np.cov(x.T, bias=True) + _moved_types.MERGE_RIDGE * np.eye(2))
        return len(x) * (0.5 * log_det - np.log(len(x)))

    whole = [np.concatenate(part) for part in parts]
    expected = cost(np.concatenate(whole)) - sum(map(cost, whole))
    assert _loss(*_without_conditions(size, mean, about)) == pytest.approx(expected)


def test_start_is_where_conditions_have_their_cells() -> None:
    types = MovedTypes(EACH, np.array([0, 0, 1, 1]), 0.5)
    start = types.start(X, GROUP, DESIGN)
    found = start.means(DESIGN.features(DESIGN.groups))
    expected = [[X[(k == KIND) & (c == LABELS)].mean(0).numpy() for k in range(2)] for c in ("ctrl", "stim")]
    np.testing.assert_allclose(found, expected, atol=0.2)
    np.testing.assert_allclose(np.sqrt(np.diagonal(start.covariance, axis1=1, axis2=2)), SHAPES, atol=0.2)
    np.testing.assert_allclose(np.exp(start.log_weight), 0.5, atol=0.01)
    assert not start.weight_effect.any()


def test_start_of_components_of_their_own_has_no_moves() -> None:
    start = MovedTypes(EACH, np.arange(4), 0.5).start(X, GROUP, DESIGN)
    assert not start.mean_effect.any()
    np.testing.assert_allclose(start.mean, EACH.mean, atol=0.1)


def all_respond(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three types of different shapes, all of which "stim" moves the same way, by four standard deviations or so."""
    rng = np.random.default_rng(seed)
    kind, stim = rng.integers(3, size=n), rng.integers(2, size=n)
    shapes = np.array([[1.5, 0.5, 1, 1, 1], [0.5, 1.5, 1, 1, 1], [1, 1, 1, 0.5, 1.5]])
    centres = 7 * np.eye(5)[:3]
    x = centres[kind] + shapes[kind] * rng.standard_normal((n, 5))
    x[:, 4] += 4.5 * stim
    return x, np.array(["ctrl", "stim"])[stim]


def test_plan_finds_types_that_all_move() -> None:
    x, labels = all_respond(600, seed=0)
    design, group = Design.of(labels[:, None], ("condition",), 1)
    plan = AnchorPlan.of(x, group, design, copy=copies_of(x), rng=np.random.default_rng(0))
    assert plan.types
    assert [len(part.mixture.mean) for part in plan.parts] == [types.of_component.max() + 1 for types in plan.types]
    assert all(part.mixture.mean_effect.any((0, 2)).all() for part in plan.parts)


CLEAR, UNCLEAR = np.full(100, 1.0) + np.tile([-0.1, 0.1], 50), np.tile([-1.0, 1.0], 50)


@pytest.mark.parametrize(
    ("explained", "told", "moving", "expected"),
    [
        (UNCLEAR, CLEAR, False, True),
        (UNCLEAR, UNCLEAR, True, False),
        (UNCLEAR, 0.1 * CLEAR, True, False),  # clear, and a hundredth of what is left
        (CLEAR, UNCLEAR, True, True),
        (CLEAR, UNCLEAR, False, False),
        (CLEAR, -CLEAR, True, False),
        (-CLEAR, CLEAR, True, False),
    ],
)
def test_united_components_serve_where_one_gain_is_clear_and_none_is_a_loss(
    monkeypatch: pytest.MonkeyPatch, *, explained: np.ndarray, told: np.ndarray, moving: bool, expected: bool
) -> None:
    monkeypatch.setattr(_halves.Halves, "_gains", lambda *_: (explained, told, 9.0))
    assert _halves.Halves(X, GROUP, X, GROUP, DESIGN).united_serve(None, None, moving=moving) is expected
