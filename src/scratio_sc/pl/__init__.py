"""Plots."""

from __future__ import annotations

from scratio_sc.pl._batch_score import batch_score
from scratio_sc.pl._calibration import calibration
from scratio_sc.pl._differential_abundance import differential_abundance
from scratio_sc.pl._interaction import interaction
from scratio_sc.pl._ratio_umap import ratio_umap
from scratio_sc.pl._training import training
from scratio_sc.pl._treatment_effect import treatment_effect

__all__ = [
    "batch_score",
    "calibration",
    "differential_abundance",
    "interaction",
    "ratio_umap",
    "training",
    "treatment_effect",
]
