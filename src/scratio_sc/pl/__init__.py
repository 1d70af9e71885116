"""Plots."""

from ._calibration import calibration
from ._ratio_umap import ratio_umap
from ._training import training

__all__ = ["calibration", "ratio_umap", "training"]
