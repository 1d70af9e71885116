"""Tools: fit a flow on cells and ask it questions."""

from __future__ import annotations

from scratio_sc.tl._batch_score import batch_score
from scratio_sc.tl._differential_abundance import differential_abundance
from scratio_sc.tl._fit import fit
from scratio_sc.tl._interaction import interaction
from scratio_sc.tl._log_density import log_density
from scratio_sc.tl._log_ratio import log_ratio
from scratio_sc.tl._null_check import null_check
from scratio_sc.tl._ratio_genes import ratio_genes
from scratio_sc.tl._sample import sample
from scratio_sc.tl._treatment_effect import treatment_effect

__all__ = [
    "batch_score",
    "differential_abundance",
    "fit",
    "interaction",
    "log_density",
    "log_ratio",
    "null_check",
    "ratio_genes",
    "sample",
    "treatment_effect",
]
