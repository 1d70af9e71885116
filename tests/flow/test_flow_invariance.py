"""What a ratio must not depend on: other cells, the axes of the embedding, the names of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.flows import alone, exact_ratios, plain, shifts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from scratio_sc.flow import ConditionalFlow, _batches, _components, _denoising_ratio, _ode

if TYPE_CHECKING:
    from collections.abc import Callable

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

# --- a cell by itself


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_order_of_cells_does_not_matter(flow: ConditionalFlow, cells: np.ndarray, fold: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(cells))[:40]
    there = flow.log_ratio(cells[order], "stim", "ctrl", fold=fold[order])
    back = np.argsort(order)
    here = flow.log_ratio(cells[order[back]], "stim", "ctrl", fold=fold[order[back]])
    np.testing.assert_allclose(there.value[back], here.value, atol=1e-5)
    np.testing.assert_allclose(there.sd[back], here.sd, atol=1e-5)


def test_neighbours_of_a_cell_do_not_matter(flow: ConditionalFlow, cells: np.ndarray) -> None:
    together = plain(flow, cells[:8], "stim", "ctrl")
    single = np.concatenate([plain(flow, cells[i : i + 1], "stim", "ctrl") for i in range(8)])
    np.testing.assert_allclose(together, single, atol=1e-5)


@pytest.mark.parametrize(("cells_per_chunk", "rows_per_chunk"), [(7, 8192), (2048, 100), (3, 1)])
def test_chunks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
    flow: ConditionalFlow,
    cells: np.ndarray,
    cells_per_chunk: int,
    rows_per_chunk: int,
) -> None:
    x = cells[::15]
    ratio, density = plain(flow, x, "stim", "ctrl"), flow.log_likelihood(x, "stim")
    monkeypatch.setattr(_batches, "CELLS_PER_CHUNK", cells_per_chunk)
    monkeypatch.setattr(_denoising_ratio, "ROWS_PER_CHUNK", rows_per_chunk)
    np.testing.assert_allclose(plain(flow, x, "stim", "ctrl"), ratio, atol=1e-5)
    np.testing.assert_allclose(flow.log_likelihood(x, "stim"), density, atol=1e-5)


def test_neighbours_do_not_matter_to_method_ode(flow: ConditionalFlow, cells: np.ndarray) -> None:
    one = alone(flow, 0)
    together = plain(one, cells[:4], "stim", "ctrl", method="ode")
    single = np.concatenate([plain(one, cells[i : i + 1], "stim", "ctrl", method="ode") for i in range(4)])
    np.testing.assert_allclose(together, single, atol=1e-3)


def test_neighbours_do_not_matter_to_random_probes(
    monkeypatch: pytest.MonkeyPatch, curved_flow: ConditionalFlow, curved_cells: np.ndarray
) -> None:
    monkeypatch.setattr(_ode, "EXACT_DIVERGENCE_DIMS", 2)
    one = alone(curved_flow, 0)
    together = plain(one, curved_cells[:4], "stim", "ctrl", method="ode")
    backwards = plain(one, curved_cells[3::-1], "stim", "ctrl", method="ode")
    np.testing.assert_allclose(together, backwards[::-1], atol=1e-3)


def test_same_call_gives_the_same_numbers(flow: ConditionalFlow, cells: np.ndarray) -> None:
    first, second = (plain(flow, cells[:20], "stim", "ctrl") for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_no_cells_have_no_ratios(flow: ConditionalFlow) -> None:
    ratio = flow.log_ratio(np.empty((0, 3)), "stim", "ctrl")
    assert ratio.value.shape == ratio.sd.shape == ratio.extrapolated.shape == (0,)


# --- changes of the embedding and of the names


@pytest.fixture(scope="module")
def shifts_ratio(fit: Fit) -> np.ndarray:
    x, labels = shifts()
    return plain(fit(x, labels, n_members=2)[0], x, "a", "b")


@settings(max_examples=3, deadline=None, derandomize=True)
@given(offset=st.floats(-1000, 1000))
def test_translation_leaves_the_ratio_of_gaussians_alone(fit: Fit, shifts_ratio: np.ndarray, offset: float) -> None:
    x, labels = shifts()
    x = x + offset
    np.testing.assert_allclose(plain(fit(x, labels, n_members=2)[0], x, "a", "b"), shifts_ratio, atol=1e-4)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_rotation_leaves_the_ratio_of_gaussians_alone(fit: Fit, shifts_ratio: np.ndarray, seed: int) -> None:
    x, labels = shifts()
    x = x @ ortho_group(3, seed=seed).rvs()
    np.testing.assert_allclose(plain(fit(x, labels, n_members=2)[0], x, "a", "b"), shifts_ratio, atol=1e-4)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(factor=st.floats(1e-3, 1e3))
def test_scaling_leaves_the_ratio_of_gaussians_alone(fit: Fit, shifts_ratio: np.ndarray, factor: float) -> None:
    x, labels = shifts()
    x = factor * x
    np.testing.assert_allclose(plain(fit(x, labels, n_members=2)[0], x, "a", "b"), shifts_ratio, atol=1e-4)


@pytest.mark.parametrize("change", ["move", "turn", "stretch"])
def test_change_of_the_embedding_leaves_the_ratio_of_mixtures_alone(
    fit: Fit, mixed_cells: np.ndarray, labels: np.ndarray, mixed_flow: ConditionalFlow, change: str
) -> None:
    moved = {
        "move": mixed_cells + 40.0,
        "turn": mixed_cells @ ortho_group(3, seed=1).rvs(),
        "stretch": 30 * mixed_cells,
    }
    x = moved[change]
    found = plain(fit(x, labels, judged=1000)[0], x[::10], "stim", "ctrl")
    np.testing.assert_allclose(found, plain(mixed_flow, mixed_cells[::10], "stim", "ctrl"), atol=1e-3)


def test_scaling_shifts_the_log_likelihood_by_the_change_of_volume(fit: Fit) -> None:
    x, labels = shifts()
    one, ten = (fit(s * x, labels, n_members=2)[0].log_likelihood(s * x, "a") for s in (1, 10))
    np.testing.assert_allclose(ten, one - 3 * np.log(10), atol=1e-4)


def test_scaling_the_embedding_and_the_bandwidth_leaves_the_ratio_alone(fit: Fit) -> None:
    x, labels = shifts()
    one, ten = (plain(fit(s * x, labels, n_members=2)[0], s * x, "a", "b", bandwidth=0.7 * s) for s in (1, 10))
    np.testing.assert_allclose(one, ten, atol=1e-4)


def test_new_names_in_the_same_order_leave_the_ratio_alone(fit: Fit, shifts_ratio: np.ndarray) -> None:
    x, labels = shifts()
    names = {"a": "x/1", "b": "y|2", "c": "z 3"}
    flow, _ = fit(x, np.array([names[label] for label in labels]), n_members=2)
    np.testing.assert_array_equal(plain(flow, x, "x/1", "y|2"), shifts_ratio)


def test_new_names_in_another_order_leave_the_ratio_alone(fit: Fit, shifts_ratio: np.ndarray) -> None:
    x, labels = shifts()
    names = {"a": "2", "b": "3", "c": "1"}
    flow, _ = fit(x, np.array([names[label] for label in labels]), n_members=2)
    np.testing.assert_allclose(plain(flow, x, "2", "3"), shifts_ratio, atol=1e-4)


@pytest.fixture
def trained_ratio(fit: Fit, quick_training: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """Ratios of the two shapes by a flow trained on them, stretched and moved, from an anchor of Gaussians."""
    monkeypatch.setattr(_components, "MAX_COMPONENTS", 1)

    def ratio(x: np.ndarray, labels: np.ndarray, *, factor: float = 1.0, offset: float = 0.0) -> np.ndarray:
        y = factor * x + offset
        flow, _ = fit(y, labels, n_members=1, max_steps=8)
        silent = exact_ratios(flow, y[::20], "stim", "ctrl")[0]
        found = plain(flow, y[::20], "stim", "ctrl")
        assert np.abs(found - silent).max() > 0.01
        return found

    return ratio


def test_scaling_by_a_power_of_two_leaves_the_ratio_of_a_trained_flow_alone(
    trained_ratio: Callable[..., np.ndarray], two_shapes: tuple[np.ndarray, np.ndarray]
) -> None:
    found = trained_ratio(*two_shapes, factor=8.0)
    np.testing.assert_allclose(found, trained_ratio(*two_shapes), atol=1e-5)


def test_translation_leaves_the_ratio_of_a_trained_flow_alone(
    trained_ratio: Callable[..., np.ndarray], two_shapes: tuple[np.ndarray, np.ndarray]
) -> None:
    found = trained_ratio(*two_shapes, offset=32.0)
    np.testing.assert_allclose(found, trained_ratio(*two_shapes), atol=1e-3)
