"""Whether cells bear out that one model is better than another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scratio_sc.flow._standard_error import error_of_mean

if TYPE_CHECKING:
    import numpy as np

CLEARLY = 1.645
"""Standard errors that chance alone exceeds once in twenty times."""


def is_clear(gain: np.ndarray, *, n_errors: float = 1.0, least: float = 0.0) -> bool:
    """Whether cells gain ``(n,)`` more on average than `least`, and more than so many standard errors of that average.

    Fewer than two cells bear out nothing.
    """
    return len(gain) > 1 and bool(gain.mean() > max(least, n_errors * error_of_mean(gain)))
