"""Cell types that change in number, and in state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.datasets._mixture import GaussianMixture
from scratio_sc.datasets._simulate import cells_per_condition, simulate
from scratio_sc.flow._arguments import check_finite, check_integer, generator_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

CONTRASTS = {
    "exact_response_vs_ctrl": ("response", "ctrl"),
    "exact_abundance_vs_ctrl": ("abundance", "ctrl"),
    "exact_response_vs_abundance": ("response", "abundance"),
}


def cell_mixture(
    n_cells: int = 10_000,
    *,
    n_dims: int = 20,
    n_types: int = 8,
    abundance: float = 0.8,
    response: float = 1.5,
    sizes: Mapping[str, int] | None = None,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Simulate cell types of which some change in abundance, and some respond.

    Every cell type is a Gaussian of its own shape, in a space whose dimensions lose variance as principal components
    do. There are three conditions: "ctrl"; "abundance" with other proportions of the cell types; and "response" with
    the proportions of "abundance" and the first two cell types moved as well. No log ratio is Gaussian.

    Parameters
    ----------
    n_cells
        Cells in all, shared equally between the conditions.
    n_dims
        Number of dimensions.
    n_types
        Number of cell types.
    abundance
        Standard deviation of the log fold changes of the proportions; 0 changes none.
    response
        Distance by which "type_0" and "type_1" move, each in a random direction. A cell type has a standard
        deviation of 0.6 to 1.4.
    sizes
        Cells of "ctrl", "abundance" and "response", in place of `n_cells`.
    rng
        Seed or generator; `None` draws different cell types and cells each time. To have new cells of the same
        cell types, draw more cells and split them.

    Returns
    -------
    Annotated data with

    `adata.obs['condition']` : :class:`pandas.Series` (dtype ``category``)
        "ctrl", "abundance" or "response".
    `adata.obs['cell_type']` : :class:`pandas.Series` (dtype ``category``)
        "type_0", "type_1", ...
    `adata.obs['exact_response_vs_ctrl']`, `adata.obs['exact_abundance_vs_ctrl']`, \
    `adata.obs['exact_response_vs_abundance']` : :class:`pandas.Series` (dtype ``float64``)
        log p(x | target) / p(x | reference) of the three contrasts, in nats.
    `adata.obs['exact_log_density_ctrl']`, ... : :class:`pandas.Series` (dtype ``float64``)
        Log density under each condition, in nats.
    `adata.obsm['X_pca']` : :class:`numpy.ndarray` (dtype ``float32``), shape `(n_cells, n_dims)`
        The cells, repeated in `adata.X`.
    `adata.uns['exact_response_vs_ctrl']['params']`, ... : :class:`dict`
        Target and reference of each ratio.

    Raises
    ------
    ValueError
        If `n_cells` or `n_dims` is below 1 or `n_types` below 2, `abundance` or `response` is not finite, `sizes` names
        other conditions, has a negative number or none above 0, or the seed is negative.
    TypeError
        If an argument is of another type than documented.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.cell_mixture(1_000, sizes={"ctrl": 600, "abundance": 300, "response": 100})
    >>> adata.obs["condition"].value_counts().to_dict()
    {'ctrl': 600, 'abundance': 300, 'response': 100}
    """
    check_integer(1, n_dims=n_dims)
    check_integer(2, n_types=n_types)
    check_finite(abundance=abundance, response=response)
    rng = generator_of(rng)
    means, covariances = _cell_types(n_types, n_dims, rng)
    proportions = rng.dirichlet(np.full(n_types, 3.0))
    changed = proportions * np.exp(abundance * rng.standard_normal(n_types))
    changed /= changed.sum()
    moved = means.copy()
    direction = rng.standard_normal((2, n_dims))
    moved[:2] += response * direction / np.linalg.norm(direction, axis=1, keepdims=True)

    conditions = {
        "ctrl": GaussianMixture(proportions, means, covariances),
        "abundance": GaussianMixture(changed, means, covariances),
        "response": GaussianMixture(changed, moved, covariances),
    }
    return simulate(
        conditions,
        cells_per_condition(list(conditions), n_cells, sizes),
        rng,
        contrasts=CONTRASTS,
        cell_types=[f"type_{k}" for k in range(n_types)],
    )


def _cell_types(n_types: int, n_dims: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Means ``(n_types, n_dims)``, spread as along principal components, and covariances in random orientations."""
    means = 5.0 * rng.standard_normal((n_types, n_dims)) / np.sqrt(np.arange(1, n_dims + 1))
    axes, _ = np.linalg.qr(rng.standard_normal((n_types, n_dims, n_dims)))
    variances = np.exp(rng.uniform(-1.0, 0.7, size=(n_types, 1, n_dims)))
    return means, (axes * variances) @ axes.transpose(0, 2, 1)
