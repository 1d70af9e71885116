"""Plots."""

from ._calibration import calibration
from ._interaction import interaction
from ._ratio_umap import ratio_umap
from ._training import training
from ._treatment_effect import treatment_effect

__all__ = ["calibration", "interaction", "ratio_umap", "training", "treatment_effect"]
