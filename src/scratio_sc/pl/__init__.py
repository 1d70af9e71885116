"""Plots."""

from ._batch_score import batch_score
from ._calibration import calibration
from ._differential_abundance import differential_abundance
from ._interaction import interaction
from ._ratio_umap import ratio_umap
from ._training import training
from ._treatment_effect import treatment_effect

__all__ = [
    "batch_score",
    "calibration",
    "differential_abundance",
    "interaction",
    "ratio_umap",
    "training",
    "treatment_effect",
]
