"""Two unit Gaussians, one of them shifted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.datasets._mixture import GaussianMixture
from scratio_sc.datasets._simulate import cells_per_condition, simulate
from scratio_sc.flow._arguments import check_finite, check_integer, generator_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData


def gaussian_shift(
    n_cells: int = 10_000,
    *,
    n_dims: int = 10,
    shift: float = 1.0,
    sizes: Mapping[str, int] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    r"""Simulate a standard normal condition and one shifted by the same amount in every dimension.

    "reference" is :math:`N(0, I)` and "target" is :math:`N(a \mathbf{1}, I)`. The log ratio is linear in the cell,
    :math:`\log p(x \mid \text{target}) - \log p(x \mid \text{reference}) = a \sum_i x_i - d a^2 / 2`.

    Parameters
    ----------
    n_cells
        Cells in all, shared equally between the conditions.
    n_dims
        Number of dimensions d.
    shift
        Shift a of every dimension.
    sizes
        Cells of "reference" and of "target", in place of `n_cells`.
    rng
        Seed or generator; `None` draws different cells each time.

    Returns
    -------
    Annotated data with

    `adata.obs['condition']` : :class:`pandas.Series` (dtype ``category``)
        "reference" or "target".
    `adata.obs['exact_log_ratio']` : :class:`pandas.Series` (dtype ``float64``)
        log p(x | target) / p(x | reference), in nats.
    `adata.obs['exact_log_density_reference']`, ... : :class:`pandas.Series` (dtype ``float64``)
        Log density under each condition, in nats.
    `adata.obsm['X_pca']` : :class:`numpy.ndarray` (dtype ``float32``), shape `(n_cells, n_dims)`
        The cells, repeated in `adata.X`.
    `adata.uns['exact_log_ratio']['params']` : :class:`dict`
        Target and reference of the ratio.

    Raises
    ------
    ValueError
        If `n_cells` or `n_dims` is below 1, `shift` is not finite, `sizes` names other conditions, has a negative
        number or none above 0, or the seed is negative.
    TypeError
        If an argument is of another type than documented.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(1_000, n_dims=2, shift=2.0)
    >>> adata.obs["condition"].value_counts().to_dict()
    {'reference': 500, 'target': 500}
    """
    check_integer(1, n_dims=n_dims)
    check_finite(shift=shift)
    identity = np.eye(n_dims)
    conditions = {
        "reference": GaussianMixture.single(np.zeros(n_dims), identity),
        "target": GaussianMixture.single(np.full(n_dims, float(shift)), identity),
    }
    return simulate(
        conditions,
        cells_per_condition(list(conditions), n_cells, sizes),
        generator_of(rng),
        contrasts={"exact_log_ratio": ("target", "reference")},
    )
