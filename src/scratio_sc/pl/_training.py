"""Training curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc._check import fit_call
from scratio_sc.pl._entry import entry_of
from scratio_sc.pl._figure import LEGEND_STYLE, finish, panels, plot

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = {"loss": ("training cells", "#0072B2"), "held_out_loss": ("held-out cells", "#D55E00")}
UNUSED = "network not used: ratios are those of the mixture"


@plot()
def training(
    adata: AnnData,
    key: str = "scratio",
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw the training curves of a fitted flow.

    The loss is the mean squared error of the denoiser, in units of that of one Gaussian a condition. Lower is better. A
    held-out curve that rises while the other one falls tells of overfitting. After `max_steps=0` there are no curves.

    The curves do not say whether a network is used: that takes held-out cells whose conditions it tells apart better
    than the mixture that training starts from, beside a lower loss. Where it is not, the legend says so, and ratios are
    those of the mixture.

    Parameters
    ----------
    adata
        Reads `step`, `loss` and `held_out_loss` in `adata.uns[key]['history']`, and whether the networks are silent in
        `adata.uns[key]['members']`.
    key
        Slot of `adata.uns` with the fitted flow.
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
        If there is no fitted flow in `adata.uns[key]`.
    TypeError
        If an argument is of another type than documented, or one of scanpy's that this plot does not have, such as
        `save`.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=20, n_members=2, progress=False)
    >>> axes = scratio.pl.training(adata, show=False)
    """
    entry = entry_of(adata, key, "fitted flow", of=["fit"], call=fit_call(adata, key))
    history = entry["history"]
    step = np.asarray(history["step"])
    with panels(1, ax=ax, panel_size=(5.0, 3.6)) as axes:
        panel = axes[0]
        if len(step):
            for name, (label, colour) in CURVES.items():
                loss = np.asarray(history[name], dtype=np.float64).reshape(len(step), -1)
                _draw_curves(panel, step, loss, label=label, color=colour)
            panel.axhline(1, color="0.4", linestyle="--", linewidth=1, label="one Gaussian a condition")
            panel.legend(
                title=UNUSED if entry["members"]["0"]["silent"] else None,
                title_fontsize="small",
                loc="lower right",
                bbox_to_anchor=(1, 1),
                ncols=2,
                **LEGEND_STYLE,
            )
        else:
            panel.text(0.5, 0.5, "no network was trained", ha="center", va="center", transform=panel.transAxes)
            panel.set(xticks=[], yticks=[])
        panel.set(xlabel="training step", ylabel="error relative to one Gaussian")
        panel.spines[["top", "right"]].set_visible(False)
    return finish(axes, show=show, return_fig=return_fig)


def _draw_curves(ax: Axes, step: np.ndarray, loss: np.ndarray, *, label: str, color: str) -> None:
    """Draw a thin line for each member, and their mean; `loss` is ``(n_steps, n_members)``, NaN where not computed."""
    computed = ~np.isnan(loss)
    for member, at in zip(loss.T, computed.T, strict=True):
        ax.plot(step[at], member[at], color=color, linewidth=0.7, alpha=0.4)
    at = computed.any(axis=1)
    if at.any():
        ax.plot(step[at], np.nanmean(loss[at], axis=1), color=color, linewidth=2, label=label)
