"""A flow as plain data: bit for bit the same when read back, and a clear error for anything else."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._storage import from_dict, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

PLAIN = (np.ndarray, str, int, float, bool)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from leaves(value, f"{path}.{name}".lstrip("."))
    else:
        yield path, node


def through_dict(flow: ConditionalFlow, _: Path) -> ConditionalFlow:
    return from_dict(to_dict(flow), device="cpu")


def through_file(flow: ConditionalFlow, tmp_path: Path) -> ConditionalFlow:
    flow.save(tmp_path / "flow.safetensors")
    return ConditionalFlow.load(tmp_path / "flow.safetensors", device="cpu")


ROUND_TRIPS = pytest.mark.parametrize("round_trip", [through_dict, through_file], ids=["dict", "file"])
RoundTrip = "Callable[[ConditionalFlow, Path], ConditionalFlow]"


# --- there and back


@ROUND_TRIPS
def test_ratios_are_the_same_bit_for_bit(
    flow: ConditionalFlow, cells: np.ndarray, fold: np.ndarray, tmp_path: Path, round_trip: RoundTrip
) -> None:
    x, fold = cells[::10], fold[::10]
    expected, found = (f.log_ratio(x, "stim", "ctrl", fold=fold) for f in (flow, round_trip(flow, tmp_path)))
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)


@ROUND_TRIPS
def test_densities_are_the_same_bit_for_bit(
    curved_flow: ConditionalFlow, curved_cells: np.ndarray, tmp_path: Path, round_trip: RoundTrip
) -> None:
    """With covariances of their own."""
    again = round_trip(curved_flow, tmp_path)
    x = curved_cells[::10]
    np.testing.assert_array_equal(again.log_likelihood(x, "stim"), curved_flow.log_likelihood(x, "stim"))


@ROUND_TRIPS
def test_second_opinions_are_the_same_bit_for_bit(
    tilted_flow: ConditionalFlow, mixed_cells: np.ndarray, tmp_path: Path, round_trip: RoundTrip
) -> None:
    again, x = round_trip(tilted_flow, tmp_path), mixed_cells[::10]
    expected, found = (flow.log_ratio(x, "stim", "ctrl") for flow in (tilted_flow, again))
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)


@ROUND_TRIPS
def test_covariates_are_the_same(
    donor_flow: ConditionalFlow,
    donor_cells: np.ndarray,
    donor_labels: np.ndarray,
    tmp_path: Path,
    round_trip: RoundTrip,
) -> None:
    flows = (donor_flow, round_trip(donor_flow, tmp_path))
    x, own = donor_cells[::10], donor_labels[::10]
    expected, found = (f.log_ratio(x, "stim", "ctrl", own=own) for f in flows)
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.extrapolated, expected.extrapolated)


@ROUND_TRIPS
def test_samples_are_the_same_bit_for_bit(flow: ConditionalFlow, tmp_path: Path, round_trip: RoundTrip) -> None:
    np.testing.assert_array_equal(round_trip(flow, tmp_path).sample(8, "stim"), flow.sample(8, "stim"))


@ROUND_TRIPS
def test_everything_stored_is_the_same(flow: ConditionalFlow, tmp_path: Path, round_trip: RoundTrip) -> None:
    expected, found = dict(leaves(to_dict(flow))), dict(leaves(to_dict(round_trip(flow, tmp_path))))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@ROUND_TRIPS
def test_labels_of_any_text_are_the_same(fit: Fit, tmp_path: Path, round_trip: RoundTrip) -> None:
    labels = np.repeat(["a|b", "c/d.e", "ü 'f'", ""], 20)
    x = np.random.default_rng(0).standard_normal((80, 2))
    flow, _ = fit(x, np.column_stack([labels, labels]), columns=("x|y", "z/0"), n_members=1)
    again = round_trip(flow, tmp_path)
    assert again.design.columns == flow.design.columns
    assert again.design.levels == flow.design.levels


def test_file_may_be_named_by_text(flow: ConditionalFlow, tmp_path: Path) -> None:
    flow.save(str(tmp_path / "flow.safetensors"))
    assert ConditionalFlow.load(str(tmp_path / "flow.safetensors")).design.levels == flow.design.levels


# --- plain data


def test_everything_stored_is_plain(flow: ConditionalFlow) -> None:
    strange = {name: type(value) for name, value in leaves(to_dict(flow)) if not isinstance(value, PLAIN)}
    assert strange == {}


def test_every_stored_array_has_numbers_or_text(flow: ConditionalFlow) -> None:
    arrays = {name: value for name, value in leaves(to_dict(flow)) if isinstance(value, np.ndarray)}
    assert {array.dtype.kind for array in arrays.values()} <= set("iufbUO")
    objects = [array for array in arrays.values() if array.dtype.kind == "O"]
    assert all(isinstance(label, str) for array in objects for label in array)


def test_labels_are_values_and_never_keys(donor_flow: ConditionalFlow, donor_labels: np.ndarray) -> None:
    keys = {part for name, _ in leaves(to_dict(donor_flow)) for part in name.split(".")}
    assert not keys & {*np.unique(donor_labels), *donor_flow.design.columns}


def test_silent_networks_take_no_room(anchor_flow: ConditionalFlow, tmp_path: Path) -> None:
    assert "weights" not in to_dict(anchor_flow)["members"]["0"]
    x = np.random.default_rng(0).standard_normal((20, anchor_flow.n_dims))
    loaded = through_file(anchor_flow, tmp_path)
    for flow in (anchor_flow, loaded):
        assert all(member.network.silent for member in flow.members)
    for method in ("denoising", "ode"):
        one, other = (flow.log_likelihood(x, "stim", method=method) for flow in (anchor_flow, loaded))
        np.testing.assert_array_equal(one, other)


def test_stored_arrays_are_not_those_of_the_network(flow: ConditionalFlow) -> None:
    weights = flow.members[0].network.state_dict()
    stored = to_dict(flow)["members"]["0"]["weights"]
    assert not any(np.shares_memory(array, weights[name].numpy()) for name, array in stored.items())


def test_nothing_is_ever_unpickled(monkeypatch: pytest.MonkeyPatch, flow: ConditionalFlow, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    assert through_file(flow, tmp_path).seed == flow.seed


def test_loading_leaves_the_global_random_state_alone(flow: ConditionalFlow, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    through_file(flow, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_folder_is_named(flow: ConditionalFlow, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nowhere'"):
        flow.save(tmp_path / "nowhere" / "flow.safetensors")
