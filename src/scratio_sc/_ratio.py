"""Log ratios of cells: what is said of them beside the numbers, and how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scratio_sc._labels import MIN_CELLS
from scratio_sc._sides import cells_of, describe, levels_of, not_of_fit, read_own_labels
from scratio_sc._warn import MAX_UNLIKE, all_zero, warn_of, warn_of_contradiction
from scratio_sc.flow._calibration import Judged, calibration, mean_of, overlap
from scratio_sc.flow._contrast import named_levels
from scratio_sc.flow._member_scores import observed

if TYPE_CHECKING:
    from anndata import AnnData

    from scratio_sc._embedding import Cells
    from scratio_sc._keys import RatioKeys
    from scratio_sc.flow import ConditionalFlow, LogRatio


MAX_ASKED = 500


def score_cells(
    adata: AnnData,
    sides: tuple[Any, Any],
    cells: Cells,
    *,
    flow: ConditionalFlow,
    key: str,
    method: Literal["denoising", "ode"] = "denoising",
    bandwidth: float | Literal["auto"] = "auto",
    progress: bool = True,
) -> tuple[LogRatio, dict[str, Any]]:
    """The log ratio of every cell and its entry of `uns`; warns where it should not be taken at face value.

    Nothing is written, so that a warning that is made an error leaves `adata` as it was.
    """
    target, reference = sides
    own = read_own_labels(adata, flow, (target, reference))
    ratio = flow.log_ratio(
        cells.x, target, reference, own=own, fold=cells.fold, method=method, bandwidth=bandwidth, progress=progress
    )
    judged = flow.judge(target, reference, ratio.weights)
    baselines = {name: other.ratio for name, other in flow.judge_baselines(target, reference).items()}
    checked = calibration(judged, baselines)
    scored = np.isfinite(ratio.value)
    covered = {**overlap(judged), "extrapolated": mean_of(ratio.extrapolated[scored])}
    confounded = mean_of(~observed(flow, adata.n_obs, (target, reference), own=own)[scored])
    near = scored & _expected_near(adata, flow, cells, sides=sides)
    lost, (beyond, unseen) = near & ratio.far.all(1) & cells.new, not_of_fit(flow, target, reference)
    others = _share_like_others(flow, cells, lost) if mean_of(lost[near]) > MAX_UNLIKE else 0.0
    counted = np.where(lost, 1 - others, 1.0)[near]
    of_near = {**covered, "extrapolated": _weighted_mean(ratio.extrapolated[near], counted)}
    unlike, nothing = _weighted_mean(lost[near], counted), all_zero(ratio.value)
    width = None if bandwidth == "auto" or method == "ode" else float(bandwidth)
    if nothing and all_zero(flow.judge(target, reference, np.ones_like(ratio.weights)).ratio):
        width = None  # at the finest bandwidth there is nothing, either
    warn_of(
        checked,
        of_near,
        beyond=beyond,
        unseen=unseen,
        confounded=confounded,
        unlike=unlike,
        nothing=nothing,
        width=width,
    )
    if own_labels := _judged_by_own_labels(adata, flow, cells, sides=sides, ratio=ratio):
        warn_of_contradiction(own_labels)
    entry = {
        "calibration": checked,
        "overlap": covered,
        "params": {
            "function": "log_ratio",
            "target": describe(target),
            "reference": describe(reference),
            "levels": levels_of(flow, {"target": target, "reference": reference}),
            "key": key,
            "use_rep": cells.use_rep,
            "method": method,
            "bandwidth": bandwidth,
            "node_weights": ratio.weights,
            "node_bandwidths": flow.node_bandwidths,
            "held_out_log_loss": judged.log_loss,
            "held_out_log_loss_prior": judged.prior_log_loss,
        },
    }
    return ratio, entry


def _judged_by_own_labels(
    adata: AnnData, flow: ConditionalFlow, cells: Cells, *, sides: tuple[Any, Any], ratio: LogRatio
) -> Judged | None:
    """New cells of both sides, by the labels that they happen to have; None where there are too few of them."""
    if not cells.new.any() or not _named(flow, sides) <= set(adata.obs) - set(flow.design.numeric):
        return None
    target, reference = (cells_of(adata, flow, side) & cells.new & np.isfinite(ratio.value) for side in sides)
    judged = target ^ reference
    is_target = target[judged]
    n_reference, n_target = np.bincount(is_target, minlength=2)
    if min(n_reference, n_target) < MIN_CELLS:
        return None
    return Judged(ratio.value[judged], is_target, np.full(len(is_target), np.log(n_target / n_reference)))


def _expected_near(adata: AnnData, flow: ConditionalFlow, cells: Cells, *, sides: tuple[Any, Any]) -> np.ndarray:
    """Cells that should lie near one of the sides ``(n_cells,)``: those of the sides, and all that were not fitted."""
    if cells.new.all() or not _named(flow, sides) <= set(adata.obs):
        return cells.new
    return cells.new | np.any([cells_of(adata, flow, side) for side in sides], axis=0)


def _named(flow: ConditionalFlow, sides: tuple[Any, Any]) -> set[str]:
    """Columns that any of the sides names."""
    return {column for side in sides for column in named_levels(flow.design, side)}


def _share_like_others(flow: ConditionalFlow, cells: Cells, lost: np.ndarray) -> float:
    """Share of cells like neither side ``(n_cells,)`` that are like others of the fit, such as a third condition.

    Of many, some are asked: under all conditions and covariates a cell costs far more than under two sides.
    """
    asked = np.flatnonzero(lost)
    asked = asked[:: -(-len(asked) // MAX_ASKED)]
    everything = dict.fromkeys(flow.design.columns, ...)
    return 1 - mean_of(np.concatenate([batch.far[:, 0] for batch in flow.scores(cells.x[asked], [everything])]))


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights)) if weights.any() else float("nan")


def write_ratio(adata: AnnData, keys: RatioKeys, ratio: LogRatio, *, entry: dict[str, Any]) -> None:
    """Write a log ratio and its entry of `uns`."""
    adata.obs[keys.obs] = ratio.value.astype(np.float32)
    adata.obs[keys.sd] = ratio.sd.astype(np.float32)
    adata.obs[keys.extrapolated] = ratio.extrapolated
    adata.uns[keys.obs] = entry
