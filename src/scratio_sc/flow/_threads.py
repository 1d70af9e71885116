"""Threads of NumPy beside those of torch."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

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
