"""Where to compute, and how precisely."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


def choose_device(device: str | torch.device) -> torch.device:
    """``"auto"`` takes CUDA, then MPS, then the processor; any torch device name is taken at its word."""
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError as error:
            msg = f"device={device!r} is not a device. Use one of {', '.join(map(repr, DEVICES))}."
            raise ValueError(msg) from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_autocast(precision: str, device: torch.device) -> bool:
    """Whether to train with bfloat16 matrix products: ``"auto"`` where the hardware has them."""
    if precision not in PRECISIONS:
        msg = f"precision={precision!r} is unknown. Use one of {', '.join(map(repr, PRECISIONS))}."
        raise ValueError(msg) if isinstance(precision, str) else TypeError(msg)
    if precision == "auto":
        return _has_bfloat16(device)
    return precision == "bfloat16"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public question for this; an unknown build trains in float32, slower and no worse
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(probe is not None and probe() for probe in probes)


@contextmanager
def usual_torch() -> Iterator[None]:
    """Numbers of single precision on the processor by default, and gradients; afterwards what a notebook has set.

    No lower precision either, unless a part asks for it.
    """
    before = torch.get_default_dtype()
    if before is not torch.float32:  # of all threads: where it is usual, it is left alone
        torch.set_default_dtype(torch.float32)
    # a default device, even the usual one, takes time in every call of torch
    elsewhere = torch.get_default_device().type != "cpu"
    try:
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False) if torch.cuda.is_available() else nullcontext(),
            torch.device("cpu") if elsewhere else nullcontext(),
        ):
            yield
    finally:
        if before is not torch.float32:
            torch.set_default_dtype(before)
