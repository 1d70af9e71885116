"""Reliability of log ratios."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.pl._contrast import share_of_target
from scratio_sc.pl._entry import entry_of
from scratio_sc.pl._figure import finish, panels, plot

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = "#0072B2"
LINE_WIDTH = 36
SHOWN = (-0.02, 1.02)


@plot()
def calibration(
    adata: AnnData,
    key: str = "log_ratio",
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw the reliability curve of a log ratio.

    Held-out cells of the fit, whichever cells were scored, are sorted by the share of target cells that the ratio
    predicts, and cut into bins of equally many. On the diagonal, the ratio means what it says; the bars are 95 %
    intervals of the observed share. Where nothing differs, all cells are near the share that all of them have.

    Parameters
    ----------
    adata
        Reads `adata.uns[key]['calibration']` and both sides in `adata.uns[key]['params']`.
    key
        Name of the log ratio, or of the differential abundance analysis that it belongs to.
    ax
        Axes to draw on; `layout="constrained"` of its figure makes room for legends and labels.
    show
        Whether to show the figure; by default as `scanpy.settings.autoshow` says.
    return_fig
        Whether to return the figure, on which `savefig` saves it.

    Returns
    -------
    The figure if `return_fig`; else `None` if it is shown; else the axes. `adata` is not changed.

    Raises
    ------
    KeyError
        If there is no log ratio of that name.
    TypeError
        If an argument is of another type than documented, or one of scanpy's that this plot does not have, such as
        `save`.
    ValueError
        If no held-out cells could judge the contrast.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.log_ratio(adata, target="target", reference="reference", progress=False)
    >>> axes = scratio.pl.calibration(adata, show=False)
    """
    call = "`scratio.tl.log_ratio(adata, target=..., reference=...)`"
    entry = entry_of(adata, key, "calibration", of=["log_ratio", "differential_abundance"], call=call)
    checked, params = entry["calibration"], entry["params"]
    if not checked["n_cells"]:
        msg = (
            f"There is nothing to draw for {params['target']!r} against {params['reference']!r}, for no held-out cells "
            "could judge this contrast. Compare two conditions that cells of the fit have within the same covariates: "
            "name none of these, or the same one on both sides."
        )
        raise ValueError(msg)
    curve = {name: np.atleast_1d(values) for name, values in checked["curve"].items()}
    bars = np.abs(np.stack([curve["lower"], curve["upper"]]) - curve["observed"])
    with panels(1, ax=ax, panel_size=(4.2, 4.0)) as axes:
        panel = axes[0]
        panel.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
        panel.errorbar(
            curve["predicted"], curve["observed"], yerr=bars, color=BLUE, marker="o", markersize=4, capsize=2
        )
        panel.set(xlim=SHOWN, ylim=SHOWN, aspect="equal")
        share = share_of_target(params)
        panel.set_xlabel(fill(f"predicted {share}", LINE_WIDTH), parse_math=False)
        panel.set_ylabel(fill(f"observed {share}", LINE_WIDTH), parse_math=False)
        text = (
            f"{_slope(checked['slope'], 1.96 * checked['slope_se'])}\n"
            f"log-loss {checked['log_loss']:.3f}\n"
            f"LDA {checked['log_loss_lda']:.3f}, QDA {checked['log_loss_qda']:.3f}\n"
            f"frequencies alone {checked['log_loss_prior']:.3f}"
        )
        paper = {"facecolor": panel.get_facecolor(), "edgecolor": "none", "alpha": 0.7, "pad": 1}
        panel.text(0.04, 0.96, text, transform=panel.transAxes, va="top", fontsize="small", bbox=paper)
        panel.spines[["top", "right"]].set_visible(False)
    return finish(axes, show=show, return_fig=return_fig)


def _slope(slope: float, half: float) -> str:
    """The slope and half of its interval; where all ratios are 0, or all cells on their side, no slope is known."""
    return f"slope {slope:.2f} ± {half:.2f} (95 %)" if half < max(abs(slope), 1) else "slope cannot be told"
