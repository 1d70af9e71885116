"""Simulated data whose exact log ratios are known, and a real example that needs no download."""

from ._batch_shift import batch_shift
from ._cell_mixture import cell_mixture
from ._correlated_gaussians import correlated_gaussians
from ._gaussian_shift import gaussian_shift
from ._pbmc68k import pbmc68k

__all__ = ["batch_shift", "cell_mixture", "correlated_gaussians", "gaussian_shift", "pbmc68k"]
