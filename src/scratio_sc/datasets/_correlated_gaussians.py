"""Pairs of correlated dimensions against independent ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.datasets._mixture import GaussianMixture
from scratio_sc.datasets._simulate import cells_per_condition, simulate
from scratio_sc.flow._arguments import check_integer, generator_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData


def correlated_gaussians(
    n_cells: int = 10_000,
    *,
    n_dims: int = 20,
    sizes: Mapping[str, int] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    r"""Simulate two conditions that differ in their correlations only.

    "product" is :math:`N(0, I)`. In "joint", neighbouring dimensions (0 and 1, 2 and 3, ...) have the correlation
    :math:`\sqrt{1 - e^{-1}}`. The mean log ratio over the cells of "joint" is the mutual information of the pairs,
    which is d / 4 nats.

    Parameters
    ----------
    n_cells
        Cells in all, shared equally between the conditions.
    n_dims
        Number of dimensions d, even.
    sizes
        Cells of "product" and of "joint", in place of `n_cells`.
    rng
        Seed or generator; `None` draws different cells each time.

    Returns
    -------
    Annotated data with

    `adata.obs['condition']` : :class:`pandas.Series` (dtype ``category``)
        "product" or "joint".
    `adata.obs['exact_log_ratio']` : :class:`pandas.Series` (dtype ``float64``)
        log p(x | joint) / p(x | product), in nats.
    `adata.obs['exact_log_density_product']`, ... : :class:`pandas.Series` (dtype ``float64``)
        Log density under each condition, in nats.
    `adata.obsm['X_pca']` : :class:`numpy.ndarray` (dtype ``float32``), shape `(n_cells, n_dims)`
        The cells, repeated in `adata.X`.
    `adata.uns['exact_log_ratio']['params']` : :class:`dict`
        Target and reference of the ratio.

    Raises
    ------
    ValueError
        If `n_dims` is odd or below 2, `n_cells` below 1, `sizes` names other conditions, has a negative number or none
        above 0, or the seed is negative.
    TypeError
        If an argument is of another type than documented.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.correlated_gaussians(1_000, n_dims=4)
    >>> adata.obsm["X_pca"].shape
    (1000, 4)
    """
    check_integer(2, n_dims=n_dims)
    if n_dims % 2:
        msg = f"`n_dims` must be even, since dimensions are correlated in pairs; found {n_dims}."
        raise ValueError(msg)
    correlation = np.sqrt(1 - np.exp(-1))
    pair = np.array([[1.0, correlation], [correlation, 1.0]])
    centre = np.zeros(n_dims)
    conditions = {
        "product": GaussianMixture.single(centre, np.eye(n_dims)),
        "joint": GaussianMixture.single(centre, np.kron(np.eye(n_dims // 2), pair)),
    }
    return simulate(
        conditions,
        cells_per_condition(list(conditions), n_cells, sizes),
        generator_of(rng),
        contrasts={"exact_log_ratio": ("joint", "product")},
    )
