"""Plots."""

from ._batch_score import batch_score
from ._calibration import calibration
from ._differential_abundance import differential_abundance
from ._ratio_umap import ratio_umap
from ._training import training

__all__ = ["batch_score", "calibration", "differential_abundance", "ratio_umap", "training"]
