"""Warnings in plain words where a ratio should not be taken at face value."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_OVERLAP = 0.02
MAX_EXTRAPOLATED = 0.25
MIN_JUDGED = 200
BEATEN_BY = 0.01


def warn_of(calibration: Mapping[str, Any], overlap: Mapping[str, float], *, beyond: str = "") -> None:
    """Warn of numbers beyond the fit, of sides that hardly overlap, and of a flow that a simpler model beats."""
    if beyond:
        msg = (
            f"No cell was fitted anywhere near {beyond}: the ratios continue a straight line and are no evidence. All "
            "cells are flagged as extrapolated."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    elif overlap["overlap"] < MIN_OVERLAP or overlap["extrapolated"] > MAX_EXTRAPOLATED:
        msg = (
            f"Target and reference hardly overlap: {overlap['extrapolated']:.0%} of the cells have no cells of one of "
            "them nearby. Their ratios say which side a cell belongs to, not how much more likely it is there, and are "
            "flagged as extrapolated. If the two were measured in different batches, integrate the embedding first."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    rivals = {name: calibration[f"log_loss_{name}"] for name in ("prior", "lda", "qda")}
    best = min(rivals, key=lambda name: rivals[name])
    beaten_by = calibration["log_loss"] - rivals[best]
    if calibration["n_cells"] >= MIN_JUDGED and beaten_by > max(BEATEN_BY, 2 * calibration[f"log_loss_{best}_se"]):
        model = {
            "prior": "the class frequencies alone predict",
            "lda": "one Gaussian a condition (LDA) predicts",
            "qda": "one Gaussian a condition (QDA) predicts",
        }
        msg = (
            f"On held-out cells {model[best]} the condition better than the ratio does (log-loss {rivals[best]:.3f} "
            f"against {calibration['log_loss']:.3f}). Do not build on these ratios; more cells, or fewer dimensions "
            "(`n_comps`), may mend it."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
