"""Simulated data whose exact log ratios are known, and a real example that needs no download."""

from __future__ import annotations

from scratio_sc.datasets._batch_shift import batch_shift
from scratio_sc.datasets._cell_mixture import cell_mixture
from scratio_sc.datasets._correlated_gaussians import correlated_gaussians
from scratio_sc.datasets._gaussian_shift import gaussian_shift
from scratio_sc.datasets._pbmc68k import pbmc68k

__all__ = ["batch_shift", "cell_mixture", "correlated_gaussians", "gaussian_shift", "pbmc68k"]
