"""Small flows, fitted once and shared; tests must not change them."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from scratio_sc.flow import ConditionalFlow, _components, _fit, _halves, _held_out, _training, fit_flow
from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._member import Member
from scratio_sc.flow._network import Experts
from scratio_sc.flow._training import Losses, Schedule, TrainingCells

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow._design import Design

CPU = torch.device("cpu")
N_PER_LEVEL = 100
MEAN = {"ctrl": [0.0, 0.0, 0.0], "drug": [0.0, 1.5, 0.5], "stim": [2.0, 0.0, 0.5]}
COVARIANCE = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 0.5]])


@pytest.fixture(scope="session")
def fit() -> Callable[..., tuple[ConditionalFlow, np.ndarray]]:
    """`fit_flow` in a way that is quick and the same on every machine; no more than ``judged`` cells are held out."""

    def quick(
        x: np.ndarray, labels: np.ndarray, *, judged: int = 24, **options: Any
    ) -> tuple[ConditionalFlow, np.ndarray]:
        defaults = {"max_steps": 0, "n_members": 4, "batch_size": 256, "device": "cpu", "precision": "float32"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_held_out, "max_judged", lambda *_, **__: judged)
            patch.setattr(_held_out, "N_SHARES", 1)
            return fit_flow(x, labels, **{**defaults, **options})

    return quick


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    return np.repeat(list(MEAN), N_PER_LEVEL)


@pytest.fixture(scope="session")
def cells(labels: np.ndarray) -> np.ndarray:
    """Three Gaussian conditions that differ in their means alone, far from the origin and in odd units."""
    rng = np.random.default_rng(1)
    x = rng.multivariate_normal(np.zeros(3), COVARIANCE, size=len(labels))
    return 3.0 * (x + np.array([MEAN[label] for label in labels])) + [5.0, -10.0, 2.0]


def speak_at_random(
    member: Member, cells: TrainingCells, held_out: TrainingCells, *, generator: torch.Generator, **_: Any
) -> Losses:
    """In place of training: a network that says something else in every member, about a tenth of a deviation."""
    for name, weight in member.network.named_parameters():
        if "outlet" in name:
            torch.nn.init.normal_(weight, std=0.01, generator=generator)
    losses = np.array([1.0, 0.5], np.float32)
    return Losses(np.array([1, 2]), losses, losses + len(held_out.x) / len(cells.x))


@pytest.fixture(scope="session")
def random_fit(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]], cells: np.ndarray, labels: np.ndarray
) -> tuple[ConditionalFlow, np.ndarray]:
    """A flow whose networks speak, though nonsense: what holds for any weights is tested on it. With folds of cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fit, "train", speak_at_random)
        patch.setattr(_fit, "tells_conditions_better", lambda *_, **__: True)
        return fit(cells, labels, judged=1000)


@pytest.fixture(scope="session")
def flow(random_fit: tuple[ConditionalFlow, np.ndarray]) -> ConditionalFlow:
    return random_fit[0]


@pytest.fixture(scope="session")
def fold(random_fit: tuple[ConditionalFlow, np.ndarray]) -> np.ndarray:
    return random_fit[1]


@pytest.fixture
def quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that learns something in a few steps, whether it helps or not."""
    monkeypatch.setattr(_fit, "Schedule", partial(Schedule, learning_rate=2e-3, warm_up=3, decay=0.5))
    falling = itertools.count(step=-1)
    monkeypatch.setattr(_training, "held_out_errors", lambda *_: torch.full((5,), float(next(falling))))
    monkeypatch.setattr(_fit, "tells_conditions_better", lambda *_, **__: True)


@pytest.fixture(scope="session")
def two_shapes() -> tuple[np.ndarray, np.ndarray]:
    """Cells of two conditions of the same mean and covariance, "ctrl" in one bump and "stim" in two; their labels."""
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((800, 2)), np.repeat(["ctrl", "stim"], 400)
    x[400:, 0] = 0.1 * x[400:, 0] + rng.choice([-1, 1], 400) * np.sqrt(1 - 0.1**2)
    return x, labels


@pytest.fixture(scope="session")
def learned_flow(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]], two_shapes: tuple[np.ndarray, np.ndarray]
) -> ConditionalFlow:
    """A flow of `two_shapes` that was trained, from an anchor that is not allowed the two bumps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_components, "MAX_COMPONENTS", 1)
        patch.setattr(_fit, "Schedule", partial(Schedule, learning_rate=2e-3, warm_up=20, decay=0.95))
        return fit(*two_shapes, max_steps=80, batch_size=512, n_members=1)[0]


@pytest.fixture(scope="session")
def anchor_flow(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]], cells: np.ndarray, labels: np.ndarray
) -> ConditionalFlow:
    """Without training: Gaussians that share their covariance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_halves, "OWN_SHARES", (0.0,))
        return fit(cells, labels, judged=1000)[0]


@pytest.fixture(scope="session")
def curved_cells(labels: np.ndarray) -> np.ndarray:
    """Gaussian conditions that differ in their covariances too."""
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((len(labels), 3))
    stretch = {"ctrl": np.diag([1.0, 1.0, 1.0]), "drug": np.diag([0.3, 1.0, 2.0]), "stim": np.tri(3)}
    return np.stack([z @ stretch[label].T + MEAN[label] for z, label in zip(noise, labels, strict=True)])


@pytest.fixture(scope="session")
def curved_flow(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]], curved_cells: np.ndarray, labels: np.ndarray
) -> ConditionalFlow:
    """Without training: Gaussians, each with its own covariance."""
    return fit(curved_cells, labels)[0]


@pytest.fixture(scope="session")
def mixed_cells(labels: np.ndarray) -> np.ndarray:
    """Conditions that differ in their shares of three cell types."""
    rng = np.random.default_rng(4)
    kind = np.concatenate([rng.choice(3, N_PER_LEVEL, p=np.roll([0.8, 0.1, 0.1], j)) for j in range(len(MEAN))])
    centres = np.array([[0.0, 0, 0], [6, 0, 0], [0, 6, 0]])
    return centres[kind] + rng.standard_normal((len(labels), 3)) * np.array([[1.0], [0.5], [0.8]])[kind]


@pytest.fixture(scope="session")
def mixed_flow(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]], mixed_cells: np.ndarray, labels: np.ndarray
) -> ConditionalFlow:
    """Without training: mixtures."""
    return fit(mixed_cells, labels, judged=1000)[0]


@pytest.fixture(scope="session")
def tilted_flow(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]], mixed_cells: np.ndarray, labels: np.ndarray
) -> ConditionalFlow:
    """Without training: mixtures, and a second opinion."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_halves.Halves, "second_opinion_serves", lambda *_, **__: True)
        return fit(mixed_cells, labels, judged=1000)[0]


@pytest.fixture(scope="session")
def donor_labels() -> np.ndarray:
    """Treatment and donor of 300 cells; donor "d3" was never treated."""
    pairs = [("ctrl", "d1"), ("stim", "d1"), ("ctrl", "d2"), ("stim", "d2"), ("ctrl", "d3")]
    return np.repeat(np.array(pairs), [90, 30, 60, 60, 60], axis=0)


@pytest.fixture(scope="session")
def donor_cells(donor_labels: np.ndarray) -> np.ndarray:
    """The treatment moves cells along the first axis, the donor along the second."""
    x = np.random.default_rng(3).standard_normal((len(donor_labels), 2))
    x[:, 0] += 2.0 * (donor_labels[:, 0] == "stim")
    x[:, 1] += [{"d1": -2.0, "d2": 0.0, "d3": 2.0}[donor] for donor in donor_labels[:, 1]]
    return x


@pytest.fixture(scope="session")
def donor_flow(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]], donor_cells: np.ndarray, donor_labels: np.ndarray
) -> ConditionalFlow:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fit, "train", speak_at_random)
        patch.setattr(_fit, "tells_conditions_better", lambda *_, **__: True)
        return fit(donor_cells, donor_labels, columns=("treatment", "donor"), n_condition_columns=1, judged=1000)[0]


@pytest.fixture
def make_member() -> Callable[..., Member]:
    """A member for Gaussians given by ``mean (k, d)`` and ``variance (d,)``, whose network is silent."""

    def make(design: Design, mean: np.ndarray, variance: np.ndarray) -> Member:
        mean, variance = np.asarray(mean, float), np.asarray(variance, float)
        k, d = mean.shape
        assert k == design.n_groups == design.n_features
        anchor = Anchor(
            center=np.zeros(d),
            basis=np.eye(d),
            within=variance,
            spread=variance + mean.var(0),
            partition=np.zeros(1, np.int64),
            log_weight=np.zeros(1),
            weight_effect=np.zeros((k, 1)),
            mean=np.zeros((1, d)),
            mean_effect=mean[:, None],
            size=np.zeros((k, 1)),
            variance=variance[None],
            rotation=np.eye(d)[None],
            own_share=0.0,
            own_variance=np.empty((0, 1, d)),
            own_rotation=np.empty((0, 1, d, d)),
            tilt=np.empty((0, d)),
        )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = Experts(d, k, widths=_fit.WIDTHS, n_trunk=_fit.N_TRUNK, n_head=_fit.N_HEAD)
        return Member(anchor, network, CPU)

    return make
