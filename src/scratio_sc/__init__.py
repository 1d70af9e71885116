"""How much more likely a cell state is under one condition than under another."""

from __future__ import annotations

from scratio_sc import datasets, get, pl, tl
from scratio_sc.flow._storage import package_version

__version__ = package_version()

__all__ = ["__version__", "datasets", "get", "pl", "tl"]
