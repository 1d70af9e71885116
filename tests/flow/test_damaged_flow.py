"""Damaged flows and files: what is wrong is named, with what mends it."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._storage import FORMAT_VERSION, from_dict, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

# --- damaged data


def damaged(flow: ConditionalFlow, path: str, change: Callable[[Any], Any] | None) -> dict[str, Any]:
    """The flow with one entry changed, or missing."""
    stored = copy.deepcopy(to_dict(flow))
    *parents, leaf = path.split("/")
    node = stored
    for parent in parents:
        node = node[parent]
    if change is None:
        del node[leaf]
    else:
        node[leaf] = change(node[leaf])
    return stored


def name_of(path: str) -> str:
    return path.rsplit("/", maxsplit=1)[-1]


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[0] = np.nan
    return array


def shorter(array: np.ndarray) -> np.ndarray:
    return array[:-1]


def narrower(array: np.ndarray) -> np.ndarray:
    return array[..., :-1]


@pytest.mark.parametrize(
    "path",
    [
        "scale",
        "seed",
        "design",
        "design/columns",
        "design/levels",
        "design/levels/0",
        "design/groups",
        "design/sizes",
        "left_out",
        "members",
        "members/0",
        "members/1/anchor",
        "members/1/anchor/mean",
        "members/1/anchor/own_share",
        "members/1/anchor/log_weight",
        "members/1/silent",
        "members/1/weights",
        "members/1/weights/fine.inlet.weight",
        "members/1/weights/fine.embedding.weight",
        "members/1/weights/coarse.outlet.bias",
        "members/1/weights/fine.shared.0.film.weight",
        "held_out",
        "held_out/parts",
        "held_out/log_prior",
        "held_out/kept",
        "support",
        "sketch",
        "withheld",
        "hidden_moves",
        "members/1/anchor/size",
        "history",
        "history/loss",
    ],
)
def test_missing_entry_is_named(flow: ConditionalFlow, path: str) -> None:
    with pytest.raises(ValueError, match=rf"stored flow is damaged at .*{name_of(path)}"):
        from_dict(damaged(flow, path, None))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("members/1/anchor/mean", with_nan),
        ("members/1/anchor/basis", with_nan),
        ("held_out/parts", with_nan),
        ("support", with_nan),
        ("sketch", with_nan),
        ("withheld", with_nan),
        ("hidden_moves", with_nan),
    ],
)
def test_missing_numbers_are_named(flow: ConditionalFlow, path: str, change: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=rf"damaged at .*{name_of(path)}.*not finite"):
        from_dict(damaged(flow, path, change))


@pytest.mark.parametrize("name", ["fine.outlet.weight", "coarse.inlet.bias"])
def test_missing_weights_are_named(flow: ConditionalFlow, name: str) -> None:
    with pytest.raises(ValueError, match=rf"damaged at .*weights.*{name}.*not finite"):
        from_dict(damaged(flow, f"members/0/weights/{name}", with_nan))


@pytest.mark.parametrize(
    ("path", "change", "named"),
    [
        ("members/1/anchor/mean", shorter, r"members\.1\.anchor\.mean"),
        ("members/1/anchor/mean", narrower, r"members\.1\.anchor\.mean"),
        ("members/1/anchor/mean_effect", shorter, r"members\.1\.anchor\.mean_effect"),
        ("members/1/anchor/rotation", narrower, r"members\.1\.anchor\.rotation"),
        ("members/1/anchor/own_variance", narrower, r"members\.1\.anchor\.own_variance"),
        ("members/1/anchor/tilt", narrower, r"members\.1\.anchor\.tilt"),
        ("members/1/anchor/basis", narrower, r"members\.1\.anchor\.basis"),
        ("held_out/kept", shorter, r"held_out\.kept"),
        ("members/1/weights/fine.outlet.bias", shorter, r"weights.*fine\.outlet\.bias"),
        ("members/1/weights/coarse.outlet.weight", narrower, r"weights.*coarse\.outlet\.weight"),
        ("members/1/weights/fine.inlet.weight", narrower, "weights"),
    ],
)
def test_wrong_shape_is_named(flow: ConditionalFlow, path: str, change: Callable[[Any], Any], named: str) -> None:
    with pytest.raises(ValueError, match=rf"damaged at .*{named}"):
        from_dict(damaged(flow, path, change))


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("left_out", shorter),
        ("support", shorter),
        ("sketch", narrower),
        ("withheld", narrower),
        ("hidden_moves", narrower),
        ("members/1/anchor/size", shorter),
        ("held_out/parts", narrower),
        ("held_out/condition", shorter),
        ("members/1/anchor/variance", shorter),
        ("members/1/anchor/spread", shorter),
        ("members/1/anchor/within", shorter),
        ("members/1/anchor/weight_effect", shorter),
        ("members/1/weights/fine.embedding.weight", narrower),
    ],
)
def test_wrong_shape_is_named_that_would_be_found_when_scoring(
    flow: ConditionalFlow, path: str, change: Callable[[Any], Any]
) -> None:
    with pytest.raises(ValueError, match=rf"damaged at .*{name_of(path)}"):
        from_dict(damaged(flow, path, change))


def test_missing_block_is_named(flow: ConditionalFlow) -> None:
    stored = copy.deepcopy(to_dict(flow))
    weights = stored["members"]["0"]["weights"]
    last = max(name.split(".")[2] for name in weights if name.startswith("fine.grouped."))
    stored["members"]["0"]["weights"] = {
        name: array for name, array in weights.items() if f".grouped.{last}." not in name
    }
    with pytest.raises(ValueError, match=r"damaged at .*grouped"):
        from_dict(stored)


def test_flow_without_members_is_damaged(flow: ConditionalFlow) -> None:
    stored = {**to_dict(flow), "members": {}}
    with pytest.raises(ValueError, match=r"damaged at .*members"):
        _ = from_dict(stored).n_dims


def test_text_in_place_of_numbers_is_named(flow: ConditionalFlow) -> None:
    with pytest.raises(ValueError, match=r"damaged at 'support'"):
        from_dict(damaged(flow, "support", lambda _: np.array(["a"])))


def test_numbers_in_place_of_entries_are_named(flow: ConditionalFlow) -> None:
    with pytest.raises(ValueError, match=r"damaged at 'parts'"):
        from_dict(damaged(flow, "held_out", lambda _: np.ones(3)))


def test_error_says_what_to_do(flow: ConditionalFlow) -> None:
    with pytest.raises(ValueError, match=r"Fit again\."):
        from_dict(damaged(flow, "support", None))


def test_other_version_is_named_with_the_package_that_wrote_it(flow: ConditionalFlow) -> None:
    stored = {**to_dict(flow), "format_version": 99, "package_version": "7.8"}
    with pytest.raises(ValueError, match=rf"format_version 99, written by scratio_sc 7\.8.*reads {FORMAT_VERSION}"):
        from_dict(stored)


@pytest.mark.parametrize("stored", [{}, {"neighbors": 1}, np.ones(3), "text", None], ids=str)
def test_anything_else_is_no_stored_flow(stored: Any) -> None:
    with pytest.raises(ValueError, match=r"no stored flow: it has no 'format_version'"):
        from_dict(stored)


# --- damaged files


def header_of(path: Path) -> dict[str, Any]:
    """What the package wrote besides the tensors."""
    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    header: dict[str, Any] = json.loads(metadata["scratio_sc"])
    return header


@pytest.fixture
def file(flow: ConditionalFlow, tmp_path: Path) -> Path:
    flow.save(tmp_path / "flow.safetensors")
    return tmp_path / "flow.safetensors"


def test_file_holds_its_version(flow: ConditionalFlow, tmp_path: Path) -> None:
    flow.save(tmp_path / "flow.safetensors")
    assert header_of(tmp_path / "flow.safetensors")["format_version"] == FORMAT_VERSION


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file '.*nowhere\.safetensors'"):
        ConditionalFlow.load(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("content", [b"", b"cell,ratio\n1,2\n", pickle.dumps({"format_version": FORMAT_VERSION})])
def test_other_file_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "flow.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"flow\.safetensors' is not a safetensors file"):
        ConditionalFlow.load(path)


def test_cut_file_is_no_safetensors_file(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not a safetensors file"):
        ConditionalFlow.load(file)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_tensors_of_something_else_hold_no_flow(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": np.ones(3, np.float32)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"other\.safetensors' holds tensors, but no scratio_sc flow"):
        ConditionalFlow.load(path)


def rewrite(path: Path, *, drop: str = "", **changes: Any) -> None:
    """Write a file again with another header and without some tensors."""
    tensors, header = load_file(path), header_of(path)
    kept = {name: tensor for name, tensor in tensors.items() if not drop or drop not in name}
    save_file(kept, path, metadata={"scratio_sc": json.dumps({**header, **changes})})


def test_file_of_another_version_is_named(file: Path) -> None:
    rewrite(file, format_version=99)
    with pytest.raises(ValueError, match="format_version 99"):
        ConditionalFlow.load(file)


@pytest.mark.parametrize("name", ["fine.outlet.bias", "sizes", "spread", "log_prior"])
def test_file_without_a_tensor_names_it(file: Path, name: str) -> None:
    rewrite(file, drop=name)
    with pytest.raises(ValueError, match=rf"damaged at .*{name}"):
        ConditionalFlow.load(file)


@pytest.mark.parametrize("text", ["{", "3", "[]"])
def test_header_that_is_none_is_named(file: Path, text: str) -> None:
    save_file(load_file(file), file, metadata={"scratio_sc": text})
    with pytest.raises(ValueError, match=r"flow\.safetensors"):
        ConditionalFlow.load(file)


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=tmp_path.name):
        ConditionalFlow.load(tmp_path)
