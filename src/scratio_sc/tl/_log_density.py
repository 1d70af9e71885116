"""Write the log density of every cell under one condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scratio_sc._embedding import read_flow_and_cells
from scratio_sc._sides import as_spec, describe, read_own_labels, warn_of_unfitted
from scratio_sc._slots import check_slots, log_written
from scratio_sc.flow._arguments import check_method

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import EllipsisType

    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow


def log_density(
    adata: AnnData,
    *,
    condition: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    key: str = "scratio",
    flow: ConditionalFlow | None = None,
    method: Literal["denoising", "ode"] = "denoising",
    use_rep: str | None = None,
    progress: bool = True,
    key_added: str = "log_density",
    copy: bool = False,
) -> AnnData | None:
    """Log density log p(x | condition) of every cell, in nats, in the units of the embedding.

    Parameters
    ----------
    adata
        Cells. Reads `adata.uns[key]`, the embedding that the flow was fitted on and, for columns that `condition` does
        not name, the cells' own labels in `adata.obs`.
    condition
        A level of the condition, a list of levels or ``...`` for all (their mixture, by cells), or {column: level or
        levels}. Of a numeric column, any number.
    key
        Slot of `adata.uns` with the fitted flow.
    flow
        A flow fitted elsewhere, instead of `key`.
    method
        ``"denoising"`` averages over noise; ``"ode"`` is the instantaneous change of variables along the probability
        flow.
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
        The log density in nats; NaN for cells whose own level is needed, and missing or not in the fit. Differences
        between cells of one embedding mean something, the level itself depends on its units. How conditions differ,
        :func:`scratio_sc.tl.log_ratio` says better: a second opinion that tells them apart has a say there alone.
    `adata.uns[key_added]['params']` : :class:`dict`
        Condition, the flow's key (empty where `flow` is given), embedding and method.

    Warns
    -----
    UserWarning
        If cells have no density for want of a level of their own, the embedding is not that of the fit, `flow` was
        fitted on these very cells, nothing says which cells were, or the condition is a number beyond the fit or a
        combination that was not fitted.

    Raises
    ------
    KeyError
        If there is no flow, no embedding, or a level or column is unknown.
    ValueError
        If the condition is empty or names text for a number, the method is unknown, the cells have other dimensions
        than the fit or are not finite, `use_rep` names another embedding than that of the stored flow, or this is
        damaged.
    TypeError
        If an argument is of another type than documented, or `condition` names no column where that of the fit has
        several.

    Notes
    -----
    ``"denoising"`` is the pointwise I-MMSE identity (Kong et al. 2023) with the Gaussian part in closed form, see
    :doc:`/method/index`; ``"ode"`` is due to Chen et al. 2018 (Neural ordinary differential equations).

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=20, n_members=2, progress=False)
    >>> scratio.tl.log_density(adata, condition="target", progress=False)
    >>> bool(adata.obs["log_density"].notna().all())
    True
    """
    check_method(method)
    given, (flow, cells) = flow, read_flow_and_cells(adata, key, flow, use_rep=use_rep)
    check_slots(adata, key_added, "log_density", columns=[key_added], reads=flow.design.columns, copy=copy)
    condition = as_spec(condition)
    own = read_own_labels(adata, flow, (condition,))
    warn_of_unfitted(flow, condition, what="the densities")
    value = flow.log_likelihood(cells.x, condition, own=own, fold=cells.fold, method=method, progress=progress)
    adata = adata.copy() if copy else adata
    adata.obs[key_added] = value.astype(np.float32)
    adata.uns[key_added] = {
        "params": {
            "function": "log_density",
            "condition": describe(condition),
            "key": key if given is None else "",
            "use_rep": cells.use_rep,
            "method": method,
        }
    }
    log_written("log_density", [f"obs[{key_added!r}]", f"uns[{key_added!r}]"])
    return adata if copy else None
