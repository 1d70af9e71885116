"""Threads of NumPy beside those of torch, and settings of torch that users may have changed."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import torch
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def _openblas() -> ThreadpoolController:
    """The OpenBLAS that NumPy and SciPy bring along, which torch does not use."""
    return ThreadpoolController().select(prefix="libscipy_openblas")


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """Keep NumPy to one thread: after a product of matrices its threads spin for a while, and hold up torch's."""
    with _openblas().limit(limits=1):
        yield


@contextmanager
def usual_torch() -> Iterator[None]:
    """Numbers of single precision by default, and gradients, whatever a notebook has set; afterwards as before."""
    before = torch.get_default_dtype()
    if before is not torch.float32:  # of all threads: where it is usual, it is left alone
        torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        if before is not torch.float32:
            torch.set_default_dtype(before)
