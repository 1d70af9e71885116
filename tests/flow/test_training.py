"""Training: what the losses measure, and that they fall."""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from scratio_sc.flow import _training
from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._anchor_plan import AnchorPlan
from scratio_sc.flow._design import Design
from scratio_sc.flow._fit import new_member, training_cells
from scratio_sc.flow._folds import copies_of
from scratio_sc.flow._network import BOUNDARY
from scratio_sc.flow._path import SIGMA_MAX, SIGMA_MIN
from scratio_sc.flow._threads import one_torch_thread
from scratio_sc.flow._training import (
    FIRST_LOOK,
    MIN_GAIN,
    MIN_TRIAL,
    Losses,
    Noisy,
    Schedule,
    clearly_better,
    contrast_loss,
    denoising_errors,
    draw_log_sigma,
    learn_to_denoise,
    train,
    worth_its_steps,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scratio_sc.flow import ConditionalFlow
    from scratio_sc.flow._member import Member
    from scratio_sc.flow._training import TrainingCells

    MakeMember = Callable[..., Member]

DESIGN, _ = Design.of(np.array([["a"], ["b"]]), ("condition",), 1)
MEAN, VARIANCE = np.array([[-1.0, 0.0], [1.0, 0.5]]), np.array([1.5, 0.5])
CPU = torch.device("cpu")
quick = partial(Schedule, learning_rate=2e-3, warm_up=5, decay=0.5, batch_size=256)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@contextmanager
def a_thread_to_spare() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_torch_thread():
        yield
    torch.set_num_threads(before)


def gaussian_cells(member: Member, *, n: int = 2000, n_second: int | None = None) -> TrainingCells:
    """Cells of N(MEAN, VARIANCE), as the member sees them."""
    group = np.repeat([0, 1], [n, n_second or n])
    x = MEAN[group] + np.sqrt(VARIANCE) * np.random.default_rng(0).standard_normal((len(group), 2))
    return training_cells(member, x, group, design=DESIGN)


def silent_member(x: np.ndarray, group: np.ndarray, design: Design) -> Member:
    """A member before training."""
    rng = np.random.default_rng(0)
    plan = AnchorPlan.of(x, group, design, copy=copies_of(x), rng=rng)
    return new_member(Anchor.fit(x, group, design, plan=plan)[0], design, rng=rng, device=CPU)


@pytest.fixture
def two_halves(two_shapes: tuple[np.ndarray, np.ndarray]) -> tuple[Member, TrainingCells, TrainingCells]:
    """A silent member of cells in two bumps, half of them to train on and half held out."""
    x, labels = two_shapes
    design, group = Design.of(labels[:, None], ("condition",), 1)
    member = silent_member(x[::2], group[::2], design)
    return member, *(training_cells(member, x[i::2], group[i::2], design=design) for i in range(2))


def trained(
    halves: tuple[Member, TrainingCells, TrainingCells],
    *,
    n_steps: int = 20,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
    **options: Any,
) -> Losses:
    return train(*halves, schedule=quick(n_steps, **options), generator=generator(seed), on_step=on_step)


def weights(member: Member) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(member.network.parameters()).detach().clone()


# --- the noise levels


@pytest.mark.parametrize(("fine", "low", "high"), [(True, SIGMA_MIN, BOUNDARY), (False, BOUNDARY, SIGMA_MAX)])
def test_noise_levels_lie_on_the_side_of_the_expert(fine: bool, low: float, high: float) -> None:
    sigma = draw_log_sigma(1000, fine=fine, generator=generator()).exp()
    assert sigma.min() >= low * (1 - 1e-6)
    assert sigma.max() <= high * (1 + 1e-6)


@pytest.mark.parametrize(("fine", "low", "high"), [(True, SIGMA_MIN, BOUNDARY), (False, BOUNDARY, SIGMA_MAX)])
def test_noise_levels_cover_the_range_of_the_expert(fine: bool, low: float, high: float) -> None:
    """Never more than a tenth of it without a level: what is not trained must not be asked."""
    log_sigma = draw_log_sigma(1000, fine=fine, generator=generator()).sort().values
    edges = torch.cat([torch.tensor([math.log(low)]), log_sigma, torch.tensor([math.log(high)])])
    assert edges.diff().max() < 0.1 * math.log(high / low)


# --- the denoising loss


def test_right_gaussian_has_a_denoising_loss_of_one(make_member: MakeMember) -> None:
    member = make_member(DESIGN, MEAN, VARIANCE)
    cells = gaussian_cells(member)
    for noisy in Noisy.of(cells, torch.arange(len(cells.x)), generator=generator()):
        assert denoising_errors(member, cells, noisy).mean().item() == pytest.approx(1.0, abs=0.08)


def test_denoising_loss_trains_both_experts(make_member: MakeMember) -> None:
    member = make_member(DESIGN, MEAN, VARIANCE)
    cells = gaussian_cells(member)
    learn_to_denoise(member, cells, Noisy.of(cells, torch.arange(100), generator=generator()), autocast=nullcontext)
    for expert in (member.network.coarse, member.network.fine):
        assert expert.outlet.weight.grad is not None
        assert expert.outlet.weight.grad.abs().max() > 0


# --- the contrast loss


def test_conditions_that_are_alike_have_the_contrast_loss_of_chance(make_member: MakeMember) -> None:
    member = make_member(DESIGN, np.zeros((2, 2)), VARIANCE)
    loss = contrast_loss(member, gaussian_cells(member), n=100, generator=generator())
    assert loss.item() == pytest.approx(math.log(2))


def test_conditions_that_are_alike_have_the_contrast_loss_of_their_frequencies(make_member: MakeMember) -> None:
    member = make_member(DESIGN, np.zeros((2, 2)), VARIANCE)
    cells = gaussian_cells(member, n=900, n_second=100)
    loss = contrast_loss(member, cells, n=1000, generator=generator())
    assert loss.item() == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1), rel=0.1)


def test_right_gaussians_have_a_lower_contrast_loss_than_swapped_ones(make_member: MakeMember) -> None:
    right, swapped = make_member(DESIGN, MEAN, VARIANCE), make_member(DESIGN, MEAN[::-1], VARIANCE)
    good, bad = (contrast_loss(m, gaussian_cells(m), n=500, generator=generator()).item() for m in (right, swapped))
    assert good < math.log(2) < bad


def test_contrast_loss_leaves_the_coarse_expert_alone(make_member: MakeMember) -> None:
    member = make_member(DESIGN, MEAN, VARIANCE)
    contrast_loss(member, gaussian_cells(member), n=50, generator=generator()).backward()
    assert member.network.fine.outlet.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in member.network.coarse.parameters())


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Feature vectors of the groups that were compared, a comparison an entry."""
    seen: list[np.ndarray] = []
    original = _training.remainders

    def remainders(member: Member, x: torch.Tensor, groups: Any, **options: Any) -> torch.Tensor:
        seen.append(groups.features.numpy())
        return original(member, x, groups, **options)

    monkeypatch.setattr(_training, "remainders", remainders)
    return seen


def test_conditions_compete_among_equal_covariates(rivals: list[np.ndarray]) -> None:
    labels = np.repeat(np.array([("a", "x"), ("b", "x"), ("a", "y"), ("b", "y"), ("c", "y")]), 30, axis=0)
    design, group = Design.of(labels, ("condition", "donor"), 1)
    x = np.random.default_rng(0).standard_normal((len(labels), 2))
    member = silent_member(x, group, design)
    cells = training_cells(member, x, group, design=design)
    for seed in range(6):
        contrast_loss(member, cells, n=10, generator=generator(seed))
    donors = [features[:, 3:5] for features in rivals]
    assert {len(each) for each in donors} == {2, 3}
    assert all((each == each[0]).all() for each in donors)


def test_rivals_are_limited_and_their_cells_alone_are_judged(
    monkeypatch: pytest.MonkeyPatch, rivals: list[np.ndarray]
) -> None:
    monkeypatch.setattr(_training, "MAX_RIVALS", 2)
    labels = np.repeat([["a"], ["b"], ["c"], ["d"]], 30, axis=0)
    design, group = Design.of(labels, ("condition",), 1)
    x = 20.0 * group[:, None] + np.random.default_rng(0).standard_normal((len(labels), 1)) * np.ones(2)
    x[:, 1] = np.random.default_rng(1).standard_normal(len(x))
    member = silent_member(x, group, design)
    cells = training_cells(member, x, group, design=design)
    losses = [contrast_loss(member, cells, n=30, generator=generator(seed)).item() for seed in range(6)]
    assert {len(features) for features in rivals} == {2}
    assert len({features.tobytes() for features in rivals}) > 1
    assert max(losses) < math.log(2)


# --- training


def test_training_lowers_the_held_out_loss(learned_flow: ConditionalFlow) -> None:
    held_out = learned_flow.history["held_out_loss"][:, 0]
    assert held_out[-1] < held_out[0] - 0.02


def test_trained_network_is_the_average_that_was_judged_last(
    monkeypatch: pytest.MonkeyPatch, two_halves: tuple[Member, TrainingCells, TrainingCells]
) -> None:
    judge, losses = _training.held_out_errors, []

    def judge_mildly(member: Member, *rest: Any) -> torch.Tensor:
        losses.append(float(judge(member, *rest).mean()))
        return -torch.full((5,), float(len(losses)))

    monkeypatch.setattr(_training, "held_out_errors", judge_mildly)
    trained(two_halves)
    again = float(judge(two_halves[0], two_halves[2], nullcontext).mean())
    assert again == pytest.approx(losses[-1], rel=1e-5)
    assert again != pytest.approx(losses[0], rel=1e-5)


def judged(monkeypatch: pytest.MonkeyPatch, losses: Iterator[float]) -> None:
    monkeypatch.setattr(_training, "held_out_errors", lambda *_: torch.full((5,), next(losses)))


@pytest.mark.parametrize("loss", [1.0, 1 - 0.5 * MIN_GAIN])
def test_network_hardly_better_than_its_anchor_is_put_back_to_silence(
    monkeypatch: pytest.MonkeyPatch, two_halves: tuple[Member, TrainingCells, TrainingCells], loss: float
) -> None:
    judged(monkeypatch, iter([1.0] + [loss] * 100))
    trained(two_halves)
    residual = two_halves[0].residual(torch.ones(3, 2), torch.tensor(0.5), torch.eye(2)[0])
    assert torch.equal(residual, torch.zeros(3, 2))


@pytest.mark.parametrize("autocast", [nullcontext, partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=False)])
def test_experts_learn_the_same_side_by_side(make_member: MakeMember, autocast: Any) -> None:
    member = make_member(DESIGN, MEAN, VARIANCE)
    cells, gradients, losses = gaussian_cells(member), [], []
    for threads in (nullcontext, a_thread_to_spare):
        member.network.zero_grad()
        with threads():
            noisy = Noisy.of(cells, torch.arange(100), generator=generator())
            losses.append(learn_to_denoise(member, cells, noisy, autocast=autocast))
        gradients.append([part.grad.clone() for part in member.network.parameters() if part.grad is not None])
    assert losses[0] == losses[1]
    assert all(torch.equal(*both) for both in zip(*gradients, strict=True))


def test_casts_of_weights_are_not_kept_where_other_threads_would_clear_them(
    monkeypatch: pytest.MonkeyPatch, two_halves: tuple[Member, TrainingCells, TrainingCells]
) -> None:
    kept: list[bool] = []
    original = _training.denoising_errors

    def denoising_errors(*given: Any, **options: Any) -> torch.Tensor:
        kept.append(torch.is_autocast_cache_enabled())
        return original(*given, **options)

    monkeypatch.setattr(_training, "denoising_errors", denoising_errors)
    trained(two_halves)
    assert kept
    assert not any(kept)


def test_network_that_may_come_to_be_of_use_is_trained_on() -> None:
    """A small gain beyond chance is promising at first, and later not enough."""
    anchor, chance = torch.ones(1000), torch.linspace(-1, 1, 1000) * 1e-3
    small, large, none = anchor * (1 - 0.5 * MIN_GAIN) - chance, anchor * (1 - 2 * MIN_GAIN) - chance, anchor - chance
    early, late = FIRST_LOOK, MIN_TRIAL
    assert [worth_its_steps(errors, anchor, early) for errors in (none, small, large)] == [False, True, True]
    assert [worth_its_steps(errors, anchor, late) for errors in (none, small, large)] == [False, False, True]
    assert worth_its_steps(none, anchor, early - 1)


def test_gain_within_chance_is_not_clearly_better() -> None:
    anchor = torch.ones(100)
    gain = 0.1 + torch.linspace(-1, 1, 100)
    assert not clearly_better(anchor - gain, anchor)
    assert clearly_better((anchor - gain).repeat(100), anchor.repeat(100))


def test_network_better_than_its_anchor_speaks(
    monkeypatch: pytest.MonkeyPatch, two_halves: tuple[Member, TrainingCells, TrainingCells]
) -> None:
    judged(monkeypatch, iter([1.0] + [0.9] * 100))
    trained(two_halves)
    assert two_halves[0].residual(torch.ones(3, 2), torch.tensor(0.5), torch.eye(2)[0]).abs().max() > 0


def test_training_stops_early_where_it_is_of_no_use(
    monkeypatch: pytest.MonkeyPatch, two_halves: tuple[Member, TrainingCells, TrainingCells]
) -> None:
    monkeypatch.setattr(_training, "FIRST_LOOK", 4)
    judged(monkeypatch, iter([1.0] * 100))
    steps: list[None] = []
    progress = trained(two_halves, n_steps=20, on_step=lambda: steps.append(None))
    assert 4 <= len(steps) < 20
    assert progress.step[-1] <= len(steps)


@pytest.mark.parametrize("n_steps", [1, 20, 25])
def test_records_run_to_the_end_of_training(
    two_halves: tuple[Member, TrainingCells, TrainingCells], n_steps: int
) -> None:
    progress = trained(two_halves, n_steps=n_steps)
    assert np.all(np.diff(progress.step) > 0)
    assert progress.step[-1] == n_steps
    assert len(progress.step) == len(progress.loss) == len(progress.held_out_loss)


def test_every_step_is_reported(two_halves: tuple[Member, TrainingCells, TrainingCells]) -> None:
    steps: list[None] = []
    trained(two_halves, n_steps=7, on_step=lambda: steps.append(None))
    assert len(steps) == 7


def test_no_steps_leave_the_network_as_it_was(two_halves: tuple[Member, TrainingCells, TrainingCells]) -> None:
    before = weights(two_halves[0])
    progress = trained(two_halves, n_steps=0)
    assert torch.equal(weights(two_halves[0]), before)
    assert len(progress.step) == 0


def test_same_generator_gives_the_same_losses(two_halves: tuple[Member, TrainingCells, TrainingCells]) -> None:
    member, *cells = two_halves
    start = {name: weight.clone() for name, weight in member.network.state_dict().items()}
    losses = []
    for seed in (1, 1, 2):
        member.network.load_state_dict(start)
        losses.append(trained((member, *cells), n_steps=5, seed=seed).loss)
    np.testing.assert_array_equal(losses[0], losses[1])
    assert np.all(losses[0] != losses[2])


def test_one_condition_alone_is_not_contrasted(monkeypatch: pytest.MonkeyPatch) -> None:
    design, group = Design.of(np.full((200, 1), "a"), ("condition",), 1)
    x = np.random.default_rng(0).standard_normal((200, 2))
    member = silent_member(x, group, design)
    cells = training_cells(member, x, group, design=design)
    monkeypatch.setattr(_training, "contrast_loss", None)
    assert np.isfinite(trained((member, cells, cells), n_steps=4).loss).all()


def test_reduced_precision_trains_single_precision_weights(
    two_halves: tuple[Member, TrainingCells, TrainingCells],
) -> None:
    progress = trained(two_halves, n_steps=10, autocast=True)
    assert np.isfinite(progress.held_out_loss).all()
    assert {weight.dtype for weight in two_halves[0].network.parameters()} == {torch.float32}


def test_training_without_held_out_cells_goes_on(two_halves: tuple[Member, TrainingCells, TrainingCells]) -> None:
    member, cells, held_out = two_halves
    nobody = _training.TrainingCells(held_out.x[:0], held_out.group[:0], held_out.groups, [])
    progress = trained((member, cells, nobody), n_steps=4)
    assert np.isfinite(progress.loss).all()
