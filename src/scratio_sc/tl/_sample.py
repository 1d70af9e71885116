"""Draw new cells from a fitted flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scratio_sc._check import read_flow
from scratio_sc._embedding import read_flow_params
from scratio_sc._sides import as_spec, check_all_named, describe, warn_of_unfitted
from scratio_sc.flow._arguments import check_integer, generator_of, recorded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import EllipsisType


def sample(
    adata: AnnData,
    n_cells: int = 1000,
    *,
    condition: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    key: str = "scratio",
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Draw cells from p(x | condition).

    Parameters
    ----------
    adata
        Reads `adata.uns[key]`; nothing is written.
    n_cells
        How many cells to draw.
    condition
        A level of the condition, a list of levels or ``...`` for all (their mixture, by cells), or {column: level or
        levels}. Of a numeric column, any number. A fit with covariates needs a level of each.
    key
        Slot of `adata.uns` with the fitted flow.
    rng
        Seed or generator.

    Returns
    -------
    New cells without genes, with the embedding in `obsm[use_rep]`, shape ``(n_cells, d)``, and a column of `obs` for
    each column of which one level was asked for. `uns['sample']['params']` has the condition, the flow's key and the
    seed.

    Warns
    -----
    UserWarning
        If the condition is a number beyond the fit or a combination that was not fitted.

    Raises
    ------
    KeyError
        If there is no flow, or a level or column is unknown.
    ValueError
        If `n_cells` is not positive, the condition is empty or names text for a number, a column of the fit is not
        named, or the stored flow is damaged.
    TypeError
        If an argument is of another type than documented, or `condition` names no column where that of the fit has
        several.

    Notes
    -----
    Noise is carried along the probability flow of each member in turn (flow matching, Lipman et al. 2023).

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=20, n_members=2, progress=False)
    >>> scratio.tl.sample(adata, 10, condition="target").obsm["X_pca"].shape
    (10, 2)
    """
    check_integer(1, n_cells=n_cells)
    generator = generator_of(rng)
    flow, (use_rep, _) = read_flow(adata, key), read_flow_params(adata, key)
    spec = as_spec(condition)
    check_all_named(flow, spec)
    warn_of_unfitted(flow, spec, what="the cells drawn")
    x = flow.sample(n_cells, spec, rng=generator)
    levels = spec if isinstance(spec, dict) else {flow.design.columns[0]: spec}
    obs = pd.DataFrame(index=[f"sample_{i}" for i in range(n_cells)])
    for column, level in levels.items():
        if isinstance(level, str):
            obs[column] = float(level) if column in flow.design.numeric else pd.Categorical([level] * n_cells)
    params = {"function": "sample", "condition": describe(spec), "key": key, "rng": recorded(rng)}
    return AnnData(obs=obs, obsm={use_rep: x.astype(np.float32)}, uns={"sample": {"params": params}})
