"""Draw new cells from a fitted flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scratio_sc._check import as_spec, read_flow, read_flow_params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def sample(
    adata: AnnData,
    n_cells: int = 1000,
    *,
    condition: str | Sequence[str] | Mapping[str, Any],
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
        A level of the condition, a list of levels (their mixture, by cells), or {column: level or levels}. A fit with covariates
        needs a level of each.
    key
        Slot of `adata.uns` with the fitted flow.
    rng
        Seed or generator.

    Returns
    -------
    New cells with the embedding in `obsm[use_rep]`, shape ``(n_cells, d)``, and without genes. `uns['params']` names the condition.

    Raises
    ------
    KeyError
        If there is no flow, or a level or column is unknown.
    ValueError
        If `n_cells` is not positive, or a covariate is not named.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=20, n_members=2, progress=False)
    >>> scratio.tl.sample(adata, 10, condition="target").obsm["X_pca"].shape
    (10, 2)
    """
    if n_cells < 1:
        msg = f"n_cells={n_cells}, expected 1 or more."
        raise ValueError(msg)
    flow, (use_rep, _) = read_flow(adata, key), read_flow_params(adata, key)
    spec = as_spec(condition)
    x = flow.sample(n_cells, spec, rng=np.random.default_rng(rng))
    named = spec if isinstance(spec, dict) else {flow.design.columns[0]: spec}
    obs = pd.DataFrame(index=[f"sample{i}" for i in range(n_cells)])
    for column, level in named.items():
        if isinstance(level, str):
            obs[column] = pd.Categorical([level] * n_cells)
    return AnnData(obs=obs, obsm={use_rep: x.astype(np.float32)})
