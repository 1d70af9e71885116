"""Plots."""

from ._batch_score import batch_score
from ._calibration import calibration
from ._ratio_umap import ratio_umap
from ._training import training

__all__ = ["batch_score", "calibration", "ratio_umap", "training"]
