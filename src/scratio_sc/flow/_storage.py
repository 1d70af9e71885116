"""A flow as plain arrays, scalars and strings: what h5ad, zarr and safetensors can hold. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._baselines import BASELINES
from scratio_sc.flow._denoising_ratio import N_NODES
from scratio_sc.flow._design import Design
from scratio_sc.flow._device import choose_device, usual_torch
from scratio_sc.flow._held_out import HeldOut
from scratio_sc.flow._member import Member
from scratio_sc.flow._network import Experts
from scratio_sc.flow._numeric import Numeric
from scratio_sc.flow._same_cells import N_DIRECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from scratio_sc.flow._flow import ConditionalFlow

Number = TypeVar("Number", int, float)

FORMAT_VERSION = 9
_ANCHOR_ARRAYS = tuple(field.name for field in fields(Anchor) if field.name != "own_share")
_SINGLE_PRECISION = ("size", "variance", "rotation", "own_variance", "own_rotation")
_HELD_OUT = tuple(field.name for field in fields(HeldOut))
_HISTORY = ("step", "loss", "held_out_loss")
_SEPARATOR = "|"


def to_dict(flow: ConditionalFlow) -> dict[str, Any]:
    """The flow as nested dicts of numpy arrays, scalars and str; labels are values, never keys."""
    design = flow.design
    return {
        "format_version": FORMAT_VERSION,
        "package_version": package_version(),
        "scale": flow.scale,
        "seed": flow.seed,
        "embedding": flow.embedding,
        "design": {
            "columns": np.array(design.columns, object),
            "n_condition_columns": design.n_condition_columns,
            "levels": {str(j): np.array(names, object) for j, names in enumerate(design.levels) if names},
            "numbers": {str(j): vars(number).copy() for j, number in design.numbers.items()},
            "groups": design.groups,
            "sizes": design.sizes,
        },
        "left_out": np.asarray(flow.left_out),
        "members": {str(m): _member_to_dict(member) for m, member in enumerate(flow.members)},
        "held_out": {name: getattr(flow.held_out, name) for name in _HELD_OUT},
        "support": flow.support,
        "sketch": flow.sketch,
        "withheld": flow.withheld,
        "hidden_moves": flow.hidden_moves,
        "history": dict(flow.history),
    }


def _member_to_dict(member: Member) -> dict[str, Any]:
    anchor = {name: getattr(member.anchor, name) for name in _ANCHOR_ARRAYS}
    # the bulk of a flow, and of no use beyond the precision that members compute in
    anchor |= {name: anchor[name].astype(np.float32) for name in _SINGLE_PRECISION}
    out = {"anchor": {**anchor, "own_share": member.anchor.own_share}, "silent": member.network.silent}
    if member.network.silent:
        return out
    weights = {name: tensor.detach().cpu().numpy().copy() for name, tensor in member.network.state_dict().items()}
    fine = member.network.fine
    return {**out, "weights": weights, "n_blocks": np.array([len(fine.shared), len(fine.grouped)])}


@usual_torch()
def from_dict(stored: Mapping[str, Any], *, device: str = "auto") -> ConditionalFlow:
    """The flow of `to_dict`; a ValueError names what is missing, misshapen or of another version."""
    found = stored.get("format_version") if isinstance(stored, Mapping) else None
    if found is None:
        msg = "This is no stored flow: it has no 'format_version'."
        raise ValueError(msg)
    if _scalar(stored, "format_version", int) != FORMAT_VERSION:
        msg = (
            f"The stored flow has format_version {found}, written by scratio_sc {stored.get('package_version', '?')}; "
            f"scratio_sc {package_version()} reads {FORMAT_VERSION}. Fit again, or install the version that wrote it."
        )
        raise ValueError(msg)
    try:
        return _flow(stored, device=device)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        msg = f"The stored flow is damaged ({error}). Fit again."
        raise ValueError(msg) from error


def _flow(stored: Mapping[str, Any], *, device: str) -> ConditionalFlow:
    from scratio_sc.flow._flow import ConditionalFlow

    design = _design(_get(stored, "design"))
    place = choose_device(device)
    stored_members = _get(stored, "members")
    members = [_member(_get(stored_members, str(m)), design, place) for m in range(len(stored_members))]
    if not members:
        _damaged("members", "none")
    held_out = HeldOut(**{name: _array(stored, "held_out", name) for name in _HELD_OUT})
    left_out, support, sketch, withheld, hidden = (
        _array(stored, name) for name in ("left_out", "support", "sketch", "withheld", "hidden_moves")
    )
    n_conditions, n_judged = len(design.conditions), len(held_out.parts)
    _check_shapes(
        {
            "left_out": (left_out, (len(members),)),
            "support": (support, (n_conditions,)),
            "sketch": (sketch, (*sketch.shape[:1], N_DIRECTIONS + 1)),
            "held_out.parts": (held_out.parts, (n_judged, n_conditions, N_NODES)),
            "held_out.condition": (held_out.condition, (n_judged,)),
            "held_out.log_prior": (held_out.log_prior, (n_judged, n_conditions)),
            "held_out.baselines": (held_out.baselines, (n_judged, n_conditions, len(BASELINES))),
            "held_out.kept": (held_out.kept, (n_conditions,)),
            "held_out.group": (held_out.group, (n_judged,)),
        }
    )
    for name, array in (("sketch", sketch), ("withheld", withheld), ("hidden_moves", hidden)):
        if not np.isfinite(array).all():
            _damaged(name, "not finite numbers")
    for m, member in enumerate(members):
        _check_member(member, design, f"members.{m}", first=members[0].anchor)
    _, sizes = np.unique(members[0].anchor.partition, return_counts=True)
    n_components = int(sizes.sum())
    _check_shapes(
        {
            "withheld": (withheld, (design.n_features, n_components, int(sizes.max()))),
            "hidden_moves": (hidden, (design.n_features, n_components)),
        }
    )
    return ConditionalFlow(
        design=design,
        scale=_scalar(stored, "scale", float),
        members=members,
        left_out=left_out,
        held_out=held_out,
        support=support,
        history={name: _array(stored, "history", name) for name in _HISTORY},
        seed=_scalar(stored, "seed", int),
        sketch=sketch,
        withheld=withheld,
        hidden_moves=hidden,
        embedding=str(stored.get("embedding", "")),
    )


def _check_shapes(expected: Mapping[str, tuple[np.ndarray, tuple[int, ...]]]) -> None:
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            _damaged(name, f"shape {array.shape} instead of {shape}")


def _check_member(member: Member, design: Design, name: str, *, first: Anchor) -> None:
    """Shapes that loading does not meet, but scoring would."""
    n_dims, anchor, k = len(first.center), member.anchor, len(design.groups) if member.anchor.own_share else 0
    m, n_features = len(anchor.partition), design.n_features
    shapes: dict[str, tuple[int, ...]] = {
        "center": (n_dims,),
        "basis": (n_dims, n_dims),
        "within": (n_dims,),
        "spread": (n_dims,),
        "partition": (m,),
        "log_weight": (m,),
        "weight_effect": (n_features, m),
        "mean": (m, n_dims),
        "mean_effect": (n_features, m, n_dims),
        "size": (len(design.groups), m),
        "variance": (m, n_dims),
        "rotation": (m, n_dims, n_dims),
        "own_variance": (k, m, n_dims),
        "own_rotation": (k, m, n_dims, n_dims),
        "tilt": (n_features + 1 if first.tilt.size else 0, n_dims),
    }
    _check_shapes({f"{name}.anchor.{part}": (getattr(anchor, part), shape) for part, shape in shapes.items()})


def _design(stored: Mapping[str, Any]) -> Design:
    columns = tuple(str(name) for name in np.atleast_1d(_get(stored, "columns")))
    n = len(columns)
    numbers = {int(j): _number(kept) for j, kept in stored.get("numbers", {}).items()}
    names = _get(stored, "levels") if len(numbers) < n else {}  # which files do not keep where it is empty
    levels = tuple(
        () if j in numbers else tuple(str(label) for label in np.atleast_1d(_get(names, str(j)))) for j in range(n)
    )
    groups, sizes = _array(stored, "groups"), _array(stored, "sizes")
    n_condition_columns = _scalar(stored, "n_condition_columns", int)
    return Design(columns, n_condition_columns, levels, groups.reshape(-1, n), sizes, numbers)


def _number(stored: Mapping[str, Any]) -> Numeric:
    edges, value, shapes = (_array(stored, name) for name in ("edges", "value", "shapes"))
    _check_shapes(
        {
            "numbers.edges": (edges, (len(value) - 1,)),
            "numbers.shapes": (shapes, (len(value), shapes.shape[-1])),
        }
    )
    return Numeric(edges, value, shapes, _scalar(stored, "low", float), _scalar(stored, "high", float))


def _member(stored: Mapping[str, Any], design: Design, device: torch.device) -> Member:
    arrays = {name: _array(stored, "anchor", name) for name in _ANCHOR_ARRAYS}
    kept = _get(stored, "anchor")
    anchor = Anchor(**arrays, own_share=_scalar(kept, "own_share", float))
    if bool(_get(stored, "silent")):
        return Member(
            anchor, _experts(anchor.mean.shape[-1], design.n_features, widths=(1, 1), n_blocks=(0, 0)), device
        )
    weights = _get(stored, "weights")
    state = {name: torch.as_tensor(np.array(array, np.float32)) for name, array in weights.items()}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            _damaged(f"weights.{name}", "not finite numbers")
    network = _empty_network(state, _array(stored, "n_blocks"), design.n_features)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        _damaged("weights", str(error).splitlines()[-1].strip())
    return Member(anchor, network, device)


def _empty_network(state: Mapping[str, Tensor], n_blocks: np.ndarray, n_features: int) -> Experts:
    """A network of the sizes that its stored weights have."""
    shapes = {}
    for name in ("coarse.inlet.weight", "fine.inlet.weight"):
        if name not in state:
            _damaged(f"weights.{name}", "missing")
        shapes[name] = state[name].shape
    widths = (shapes["coarse.inlet.weight"][0], shapes["fine.inlet.weight"][0])
    n_dims = shapes["fine.inlet.weight"][1]
    return _experts(n_dims, n_features, widths=widths, n_blocks=n_blocks.tolist())


def _experts(n_dims: int, n_features: int, *, widths: tuple[int, int], n_blocks: Sequence[int]) -> Experts:
    """Networks that still say nothing."""
    with torch.random.fork_rng(devices=[]):
        return Experts(n_dims, n_features, widths=widths, n_trunk=n_blocks[0], n_head=n_blocks[1])


def _get(stored: Mapping[str, Any], name: str) -> Any:
    if not isinstance(stored, Mapping) or name not in stored:
        _damaged(name, "missing")
    return stored[name]


def _scalar(stored: Mapping[str, Any], name: str, kind: Callable[[Any], Number]) -> Number:
    value = _get(stored, name)
    try:
        return kind(value)
    except (TypeError, ValueError):
        _damaged(name, f"{value!r} is no number")


def _array(stored: Mapping[str, Any], *path: str) -> np.ndarray:
    value: Any = stored
    for name in path:
        value = _get(value, name)
    array = np.asarray(value)
    if array.dtype.kind not in "iufb" or (array.dtype.kind == "f" and np.isnan(array).any() and path[0] != "history"):
        _damaged(".".join(path), "not finite numbers")
    return array


def _damaged(name: str, what: str) -> NoReturn:
    msg = f"The stored flow is damaged at {name!r}: {what}. Fit again."
    raise ValueError(msg)


def save(flow: ConditionalFlow, path: Path) -> None:
    """Write a safetensors file: arrays as tensors, the rest as JSON in its header."""
    if not path.parent.is_dir():
        msg = f"There is no folder {str(path.parent)!r}. Make it first."
        raise FileNotFoundError(msg)
    arrays: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {}
    _flatten(to_dict(flow), (), arrays=arrays, header=header)
    save_file(arrays, path, metadata={"scratio_sc": json.dumps(header)})


def _flatten(node: Any, path: tuple[str, ...], *, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    if isinstance(node, Mapping):
        for name, value in node.items():
            _flatten(value, (*path, name), arrays=arrays, header=header)
    elif isinstance(node, np.ndarray) and node.dtype.kind != "O":
        arrays[_SEPARATOR.join(path)] = np.ascontiguousarray(node)
    else:
        header[_SEPARATOR.join(path)] = node.tolist() if isinstance(node, np.ndarray) else node


def load(path: Path, *, device: str = "auto") -> ConditionalFlow:
    """Read a file written by `save`."""
    if not path.is_file():
        msg = f"There is no file {str(path)!r}."
        raise FileNotFoundError(msg)
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get("scratio_sc", "null"))
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, json.JSONDecodeError) as error:
        msg = f"{str(path)!r} is not a safetensors file: {error}"
        raise ValueError(msg) from error
    if not isinstance(header, dict):
        msg = f"{str(path)!r} holds tensors, but no scratio_sc flow."
        raise ValueError(msg)
    nested: dict[str, Any] = {}
    for name, value in {**header, **flat}.items():
        *parents, leaf = name.split(_SEPARATOR)
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return from_dict(nested, device=device)


def package_version() -> str:
    """Version of this package, "unknown" where it is not installed."""
    try:
        return version("scratio-sc")
    except PackageNotFoundError:
        return "unknown"
