"""What log ratios are judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import ks_2samp, pearsonr, spearmanr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from problems import Problem


def figures(problem: Problem, log_ratio: np.ndarray) -> Iterator[tuple[str, str, float]]:
    """Contrast, metric and value, from all cells that were judged."""
    for k, (target, reference) in enumerate(problem.contrasts):
        contrast, judged = f"{target}/{reference}", np.isfinite(log_ratio[:, k])
        ratio, exact = log_ratio[judged, k], problem.exact[judged, k]
        if np.isfinite(exact).all():
            yield contrast, "mse", float(np.mean((ratio - exact) ** 2))
            if exact.std() > 0 and ratio.std() > 0:
                yield contrast, "pearson", float(pearsonr(ratio, exact)[0])
        if problem.changed is not None and ratio.std() > 0:
            changed = problem.changed[judged]
            yield contrast, "pr_auc", average_precision(np.abs(ratio), changed)
            yield contrast, "sign", float(np.mean(np.sign(ratio[changed]) == np.sign(exact[changed])))
            yield contrast, "ks", float(ks_2samp(np.abs(ratio[changed]), np.abs(ratio[~changed])).statistic)
            yield contrast, "spearman", float(spearmanr(ratio, exact)[0])
            yield contrast, "mean_enriched", float(ratio[exact == exact.max()].mean())


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve, by steps."""
    hits = positive[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1) * hits).sum() / hits.sum())
