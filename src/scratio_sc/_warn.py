"""Warnings in plain words where a ratio should not be taken at face value."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from scratio_sc.flow._calibration import MIN_JUDGED, NOTHING, log_losses
from scratio_sc.flow._gain import is_clear

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scratio_sc.flow._calibration import Judged

MIN_OVERLAP = 0.02
MAX_EXTRAPOLATED = 0.5
MAX_CONFOUNDED = 0.25
MAX_UNLIKE = 0.125
BEATEN_BY = 0.01
TOO_LARGE, CLEARLY = 0.8, 3.0
"""Slope below which ratios are too large, and standard errors that make a rival or a slope clear."""

BEYOND = "No cell was fitted anywhere near {}: {} continue a straight line and are no evidence."
UNSEEN = (
    "No cell was fitted with the combination {}: {} add up what its labels do in other combinations and are no "
    "evidence."
)
ALL_FLAGGED = " All cells are flagged as extrapolated."
CONFOUNDED = (
    "{:.0%} of the cells have covariates that the fit has not seen under both sides: their ratios add up what was seen "
    "elsewhere, are no evidence, and are flagged as extrapolated. Leave out covariates that go with the condition."
)
UNLIKE = (
    "{:.0%} of the cells are like no cells of the fit, neither of the target nor of the reference, and are flagged as "
    "extrapolated. Was the embedding computed again since, or does it come from somewhere else? Then no ratio means "
    "anything: bring the cells into the embedding of the fit. Or are they of a new type?"
)
APART = (
    "Target and reference hardly overlap: {:.0%} of their cells have hardly any cells of one of them nearby. Their "
    "ratios say which side a cell belongs to, not how much more likely it is there, and are flagged as extrapolated. "
    "That is what strong effects look like, but also batches (integrate the embedding first) and sides of few cells."
)
ALL_ZERO = (
    "The two sides cannot be told apart in this embedding, so all ratios are 0. That does not prove them equal: a "
    "difference too small for so many cells to show comes out as 0, too; the standard error covers it in part, mostly "
    "where cells change in number."
)
BY_HAND = (
    "At bandwidth={:g} nothing of a difference is left, so all ratios are 0. bandwidth='auto' takes the widths that "
    "tell held-out cells apart best."
)
BEATEN = (
    "On held-out cells {} the condition better than the ratio does (log-loss {:.3f} against {:.3f}). Do not build on "
    "these ratios; {} may mend it."
)
CONTRADICTED = (
    "{} cells of both sides were not fitted, and their own labels contradict the ratios: how many there are of each "
    "side predicts them better (log-loss {:.3f} against {:.3f}). Do not build on these ratios. Are the cells in the "
    "embedding of the fit? A PCA or scVI space computed again is another one."
)
OVERSTATED = (
    "Held-out cells say that the ratios are too large: they bear out {:.2f} ± {:.2f} times of them (the slope of "
    "`pl.calibration`, ± one standard error). Signs and ranks stand, sizes do not; {} may mend it."
)
MENDS = "more cells, or fewer dimensions (`n_comps`),"
MENDS_WIDTH = "bandwidth='auto' instead of {:g}"
RIVALS = {
    "prior": "the class frequencies alone predict",
    "lda": "one Gaussian a condition (LDA) predicts",
    "qda": "one Gaussian a condition (QDA) predicts",
}


def warn(msg: str) -> None:
    """Warn at the line of the user's code that called the package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "scratio_sc":
        frame, level = frame.f_back, level + 1
    warnings.warn(msg, UserWarning, stacklevel=level)


def warn_of_contradiction(judged: Judged) -> None:
    """Warn where labels of new cells are predicted better without ratios."""
    log_odds = judged.log_prior_odds
    losses, of_prior = (log_losses(odds, judged.is_target) for odds in (judged.ratio + log_odds, log_odds))
    if is_clear(losses - of_prior, n_errors=CLEARLY, least=BEATEN_BY):
        warn(CONTRADICTED.format(len(losses), of_prior.mean(), losses.mean()))


def not_fitted(beyond: str, unseen: str, *, what: str) -> str:
    """What to say of a number beyond the fit, or else of a combination that was not fitted, each named or empty."""
    return BEYOND.format(beyond, what) if beyond else UNSEEN.format(unseen, what)


def all_zero(ratio: np.ndarray) -> bool:
    """Whether ratios ``(n,)``, nats, are all 0, but for rounding; NaN where there is none."""
    known = ratio[np.isfinite(ratio)]
    return bool(len(known)) and float(np.abs(known).max()) < NOTHING


def warn_of(
    calibration: Mapping[str, Any],
    overlap: Mapping[str, float],
    *,
    beyond: str = "",
    unseen: str = "",
    confounded: float = 0.0,
    unlike: float = 0.0,
    nothing: bool = False,
    width: float | None = None,
) -> None:
    """Warn of numbers beyond the fit, of sides that hardly overlap, of a flow that a simpler model beats or overstates.

    `beyond` and `unseen` name a number and a combination that were not fitted; `confounded` is the share of cells whose
    covariates the fit has seen under one side only, `unlike` that of cells far from both sides; `nothing` says that all
    ratios are 0, which looks like certainty; `width` is a bandwidth that the user chose and that may be to blame.
    """
    best = min(RIVALS, key=lambda name: calibration[f"log_loss_{name}"])
    loss, rival, rival_se = (calibration[name] for name in ("log_loss", f"log_loss_{best}", f"log_loss_{best}_se"))
    judged = calibration["n_cells"] >= MIN_JUDGED
    beaten = judged and loss - rival > max(BEATEN_BY, CLEARLY * rival_se)
    worthless = beaten and loss - calibration["log_loss_prior"] > BEATEN_BY  # then it does not tell the sides apart
    if beyond or unseen:
        warn(not_fitted(beyond, unseen, what="the ratios") + ALL_FLAGGED)
    elif confounded > MAX_CONFOUNDED:
        warn(CONFOUNDED.format(confounded))
    elif unlike > MAX_UNLIKE:
        warn(UNLIKE.format(unlike))
    elif not worthless and (overlap["overlap"] < MIN_OVERLAP or overlap["extrapolated"] > MAX_EXTRAPOLATED):
        warn(APART.format(overlap["extrapolated"]))
    elif nothing:
        warn(ALL_ZERO if width is None else BY_HAND.format(width))
        beaten = beaten and width is None
    mends = MENDS if width is None else MENDS_WIDTH.format(width)
    slope, slope_se = calibration["slope"], calibration["slope_se"]
    if beaten:
        warn(BEATEN.format(RIVALS[best], rival, loss, mends))
    elif judged and slope + CLEARLY * slope_se < TOO_LARGE:
        warn(OVERSTATED.format(slope, slope_se, mends))
