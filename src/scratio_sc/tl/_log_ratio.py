"""Write the log ratio of every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scratio_sc._embedding import read_flow_and_cells
from scratio_sc._keys import RatioKeys
from scratio_sc._ratio import score_cells, write_ratio
from scratio_sc._sides import as_spec, check_differ
from scratio_sc._slots import check_slots, log_written
from scratio_sc.flow._arguments import check_bandwidth, check_method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import EllipsisType

    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow


def log_ratio(
    adata: AnnData,
    *,
    target: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    reference: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    key: str = "scratio",
    flow: ConditionalFlow | None = None,
    method: Literal["denoising", "ode"] = "denoising",
    bandwidth: float | Literal["auto"] = "auto",
    use_rep: str | None = None,
    progress: bool = True,
    key_added: str = "log_ratio",
    copy: bool = False,
) -> AnnData | None:
    """Log likelihood ratio of every cell, in nats: log p(x | target) / p(x | reference).

    Positive where a cell state is more likely under the target; log 2 = 0.69 is twice as likely. It compares densities,
    so the numbers of cells of the two conditions do not matter. A cell that was fitted is scored by members that
    have not seen it.

    Parameters
    ----------
    adata
        Cells. Reads `adata.uns[key]`, the embedding that the flow was fitted on and, for columns that a side does not
        name, the cells' own labels in `adata.obs`.
    target, reference
        A level of the condition, a list of levels (their mixture, by cells), or {column: level or levels}. ``...``
        stands for all levels. Of a numeric column, any number: what lies in between is interpolated.

        Columns not named keep each cell's own level, so with the donor as covariate ``"stim"`` is the cell's own donor
        stimulated. ``{"condition": "stim", "donor": ...}`` is the mixture of all stimulated donors, each with as much
        weight as it has cells there. An own number is that of the bin in which the cell was fitted.
    key
        Slot of `adata.uns` with the fitted flow.
    flow
        A flow fitted elsewhere, to score these cells with; instead of `key`.
    method
        ``"denoising"`` averages over noise. ``"ode"`` follows the probability flow, as the paper does: about a second a
        cell and member, less accurate, one level against one level only, and the finest bandwidth only.
    bandwidth
        How finely to look. ``"auto"`` averages the bandwidths that tell held-out cells apart as well as the best; 0 is
        the plain ratio, a number is the width of the Gaussian kernel in units of the embedding.
    use_rep
        Embedding of the cells where `flow` is given; by default, of the name it had in the fit.
    progress
        Whether to show a progress bar.
    key_added
        Name of the slots; without "/", which h5ad and zarr files cannot store. An earlier result of this function is
        replaced, and so are numbers in columns of these default names; what else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.obs[key_added]` : :class:`pandas.Series` (dtype ``float32``)
        The log ratio in nats; NaN for cells whose own level is needed, and missing or not in the fit.
    `adata.obs[key_added + '_sd']` : :class:`pandas.Series` (dtype ``float32``)
        Its standard error in nats: a jackknife over the folds that the members left out, widened for their small
        number, plus the variance between partitions of the cells into components, plus the expected square of what
        shrinking takes from changes in number and from moves of cells. Meant to hold the exact ratio within 1.645 of
        them for 90 % of cells; how often it did is in :doc:`/method/accuracy`. It covers the choice of cells within the
        samples at hand. It covers neither differences between samples (donors), nor what all members share: the
        embedding, the smoothing of the bandwidth; nor moves too small for all types together to show. NaN for a flow of
        one member.
    `adata.obs[key_added + '_extrapolated']` : :class:`pandas.Series` (dtype ``bool``)
        Whether a side has hardly any fitted cells nearby: fewer than three are to be expected among those of the
        components that the cell lies in (of all levels of covariates that no side names). The sign is evidence then
        that this side has (nearly) no such cells; the size is not, for it rests on extrapolation. Neither is evidence
        for cells far from both sides; for a combination of which fewer than three cells were fitted, such as a donor
        never treated, which is answered by what its levels add up to; and for a number beyond those of the fit, which
        continues a straight line.
    `adata.uns[key_added]['params']` : :class:`dict`
        Both sides, the flow's key (empty where `flow` is given), embedding, method, bandwidth with the weights and
        bandwidths of the nodes, and the held-out log-loss beside that of class frequencies.
    `adata.uns[key_added]['calibration']` : :class:`dict`
        Labels of held-out cells of the fit, whichever cells are scored, against the ratio: slope (1 is right, below 1
        ratios are too large) with its standard error, intercept, expected calibration error, reliability curve, and the
        log-loss beside that of class frequencies and of Gaussian conditions, whose means covariates may shift
        (``log_loss_lda``, ``log_loss_qda``). See :func:`scratio_sc.pl.calibration`. Judged are ratios of the denoising
        identity (with ``method="ode"``, too), by members whose effects know nothing of the cells. Of many cells, as
        many of rare conditions are held out as of frequent ones, and class frequencies are those of the held-out cells.
        Labels are known within covariates: where both sides name the same level of one, its cells judge. NaN where no
        cell could (``n_cells`` is 0): the sides name other covariates than each other, or several, no cell of the
        covariates has both, they share a level of the condition, or lie in one bin of a number.
    `adata.uns[key_added]['overlap']` : :class:`dict`
        ``overlap`` of the two sides (1 equal, 0 apart), ``imbalance`` (0 for the exact ratio), ``effective_target`` and
        ``effective_reference`` (effective share of one side's cells when they stand for the other side), all within
        covariates; and ``extrapolated``, the share of the scored cells that are flagged.

    Warns
    -----
    UserWarning
        If the ratios should not be taken at face value: a side is a number beyond the fit, a combination that was not
        fitted, or has none of the cells' covariates, the cells are like none of the fit, the sides hardly overlap or
        cannot be told apart at all (ratios of 0), a simpler model predicts better or the ratios are too large, as far
        as at least 80 held-out cells can tell, new cells have labels that contradict them, the embedding is not that of
        the fit, `flow` was fitted on these very cells, or nothing says which cells were. Also counts cells without a
        ratio for want of a level of their own.

    Raises
    ------
    KeyError
        If there is no flow, no embedding, or a level or column is unknown.
    ValueError
        If both sides are the same, a side is empty or names text for a number, the method is unknown, ``"ode"`` is
        asked for a mixture or with a bandwidth, the bandwidth is negative, the cells have other dimensions than the fit
        or are not finite, `use_rep` names another embedding than that of the stored flow, or this is damaged.
    TypeError
        If an argument is of another type than documented, or a side names no column where the condition has several.

    Notes
    -----
    The pointwise I-MMSE identity (Kong et al. 2023) with the Gaussian part in closed form; see :doc:`/method/index`.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=20, n_members=2, progress=False)
    >>> scratio.tl.log_ratio(adata, target="target", reference="reference", progress=False)
    >>> bool(adata.obs["log_ratio"].corr(adata.obs["exact_log_ratio"]) > 0.9)
    True
    """
    check_method(method)
    width = check_bandwidth(bandwidth, method)
    given, (flow, cells) = flow, read_flow_and_cells(adata, key, flow, use_rep=use_rep)
    keys = RatioKeys(key_added)
    check_slots(adata, key_added, "log_ratio", columns=keys.columns, reads=flow.design.columns, copy=copy)
    target, reference = as_spec(target), as_spec(reference)
    check_differ(flow, target, reference)
    ratio, entry = score_cells(
        adata,
        (target, reference),
        cells,
        flow=flow,
        key=key if given is None else "",
        method=method,
        bandwidth=width,
        progress=progress,
    )
    adata = adata.copy() if copy else adata
    write_ratio(adata, keys, ratio, entry=entry)
    log_written("log_ratio", [*(f"obs[{name!r}]" for name in keys.columns), f"uns[{keys.obs!r}]"])
    return adata if copy else None
