"""Checks of arguments that need no cells, and the wording of messages."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from numbers import Integral, Real
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import torch

from scratio_sc.flow._device import choose_autocast, choose_device

if TYPE_CHECKING:
    from collections.abc import Iterable

METHODS = ("denoising", "ode")
MAX_NAMED = 20
LARGEST_STORED = 2**63 - 1
LONGEST_REASON = 160
"""Letters of what torch says of a device: it may go on to list all that it can do."""


def named(names: Iterable[object]) -> str:
    """Names quoted and joined for a message; the first of them where there are many."""
    return listed([repr(str(name)) for name in names])


def listed(items: Sequence[str], *, most: int = MAX_NAMED) -> str:
    """Items joined for a message; the first of them where there are many."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return (", ".join(items[:most]) or "none") + more


def closest(name: object, names: Iterable[object]) -> str:
    """A question that suggests the closest of the names, regardless of case; empty where none is close."""
    by_case = {str(known).casefold(): str(known) for known in names}
    close = difflib.get_close_matches(str(name).casefold(), by_case, n=1)
    return f" Did you mean {by_case[close[0]]!r}?" if close else ""


def refuse(name: str, value: object, expected: str, *, types: type | tuple[type, ...]) -> NoReturn:
    """Raise for an argument: a TypeError where it is of another type than expected, else a ValueError."""
    msg = f"{name}={value!r}, expected {expected}."
    raise ValueError(msg) if isinstance(value, types) and not isinstance(value, bool) else TypeError(msg)


def check_integer(low: int, **arguments: Any) -> None:
    """Refuse what is not an integer of `low` or more."""
    for name, value in arguments.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
            refuse(name, value, f"an integer of {low} or more", types=Integral)


def check_bool(**arguments: Any) -> None:
    """Refuse what is neither True nor False."""
    for name, value in arguments.items():
        if not isinstance(value, bool | np.bool_):
            refuse(name, value, "True or False", types=())


def check_share(**arguments: Any) -> None:
    """Refuse what is not a number between 0 and 1."""
    for name, value in arguments.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < 1:
            refuse(name, value, "a number between 0 and 1", types=Real)


def check_finite(**arguments: Any) -> None:
    """Refuse what is not a finite number."""
    for name, value in arguments.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(float(value)):
            refuse(name, value, "a finite number", types=Real)


def check_max_steps(max_steps: Any) -> None:
    """Refuse what is neither ``"auto"`` nor a number of steps."""
    if isinstance(max_steps, str) and max_steps == "auto":
        return
    if not isinstance(max_steps, Integral) or isinstance(max_steps, bool) or max_steps < 0:
        refuse("max_steps", max_steps, "'auto' or an integer of 0 or more", types=(Integral, str))


def check_method(method: str) -> None:
    """Refuse a way of scoring that does not exist."""
    if method not in METHODS:
        msg = f"method={method!r} is unknown. Use one of {', '.join(map(repr, METHODS))}."
        raise ValueError(msg) if isinstance(method, str) else TypeError(msg)


def check_bandwidth(bandwidth: Any, method: str) -> float | Literal["auto"]:
    """Bandwidth of a ratio as it will be used; the probability flow knows the finest alone."""
    if isinstance(bandwidth, str) and bandwidth == "auto":
        return 0.0 if method == "ode" else "auto"
    number = isinstance(bandwidth, Real) and not isinstance(bandwidth, bool)
    if not number or not np.isfinite(bandwidth) or bandwidth < 0:
        what = "'auto', 0 (the plain ratio) or a positive width in units of the embedding"
        refuse("bandwidth", bandwidth, what, types=(Real, str))
    if method == "ode" and bandwidth:
        msg = f"bandwidth={bandwidth!r} needs method='denoising': method='ode' has the finest bandwidth only, 0."
        raise ValueError(msg)
    return float(bandwidth)


def check_device(device: Any, precision: Any) -> None:
    """Refuse a device that this machine lacks, and a precision that does not exist."""
    if not isinstance(device, str | torch.device):
        refuse("device", device, "'auto' or the name of a device, such as 'cpu' or 'cuda'", types=())
    try:
        place = choose_device(device)
        torch.empty(1, device=place).cpu()
    except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:
        reason = shorten(str(error).splitlines()[0].rstrip("."), LONGEST_REASON, placeholder=" ...")
        msg = f"device={device!r} cannot be used on this machine ({reason}). Use 'auto' or 'cpu'."
        raise ValueError(msg) from error
    choose_autocast(precision, place)


def usable_device(device: Any) -> str:
    """A device by its name, ``"auto"`` where this machine lacks it."""
    try:
        check_device(device, "auto")
    except (TypeError, ValueError):
        return "auto"
    return str(device)


def generator_of(rng: Any) -> np.random.Generator:
    """Generator of a seed, or the one given."""
    if isinstance(rng, np.random.RandomState):
        msg = f"rng={rng!r}, which cannot be divided among refits and members. Use `np.random.default_rng(seed)`."
        raise TypeError(msg)
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        msg = f"rng={rng!r}, expected an integer of 0 or more, a numpy Generator, or None for another draw each time."
        raise type(error)(msg) from error


def recorded(rng: Any) -> int | str:
    """What to note of a seed: the number, as text where files cannot hold it, or what was given instead."""
    if isinstance(rng, Integral):
        return int(rng) if int(rng) <= LARGEST_STORED else str(rng)
    if rng is None:
        return "none"
    return str(rng) if isinstance(rng, Sequence | np.ndarray) else "generator"
