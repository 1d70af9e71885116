"""Cell types measured in several batches, before and after the batches were brought together."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import logsumexp

from scratio_sc.datasets._simulate import categorical
from scratio_sc.flow._arguments import check_finite, check_integer, generator_of

TYPE_DISTANCE = 4.0
CONCENTRATION = 5.0


def batch_shift(
    n_cells: int = 3_000,
    *,
    n_dims: int = 10,
    n_types: int = 3,
    n_batches: int = 3,
    shift: float = 1.0,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    r"""Simulate cell types that every batch moves, and the same cells corrected.

    Type t in batch b is :math:`N(m_t + a u_{tb}, I)` with shift a and a random direction :math:`u_{tb}`; batches have
    other shares of the types. The exact batch score of a cell is
    :math:`\log p(x \mid t, b) - \log \sum_{b'} w_{b' \mid t} \, p(x \mid t, b')`, with the shares w of the batches
    among the cells drawn of the type.

    Parameters
    ----------
    n_cells
        Cells in all.
    n_dims
        Number of dimensions.
    n_types
        Number of cell types.
    n_batches
        Number of batches.
    shift
        Distance a by which a batch moves a type, in standard deviations of the type.
    rng
        Seed or generator; `None` draws different types and cells each time.

    Returns
    -------
    Annotated data with

    `adata.obs['batch']`, `adata.obs['cell_type']` : :class:`pandas.Series` (dtype ``category``)
        "batch_0", ... and "type_0", ...
    `adata.obs['exact_batch_score']` : :class:`pandas.Series` (dtype ``float64``)
        Batch score of the cell in ``X_pca``, in nats; in ``X_corrected`` it is 0.
    `adata.obsm['X_pca']`, `adata.obsm['X_corrected']` : :class:`numpy.ndarray` (dtype ``float32``)
        The cells with the shifts, repeated in `adata.X`, and without them, shape `(n_cells, n_dims)`.

    Raises
    ------
    ValueError
        If `n_cells`, `n_dims` or `n_types` is below 1, `n_batches` below 2, `shift` not finite, or the seed negative.
    TypeError
        If an argument is of another type than documented.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.batch_shift(1_000, n_batches=2, shift=4.0)
    >>> bool(0.5 < adata.obs["exact_batch_score"].mean() < 0.7)  # nearly log 2, where two batches are apart
    True
    """
    check_integer(1, n_cells=n_cells, n_dims=n_dims, n_types=n_types)
    check_integer(2, n_batches=n_batches)
    check_finite(shift=shift)
    rng = generator_of(rng)
    means = TYPE_DISTANCE * rng.standard_normal((n_types, n_dims))
    direction = rng.standard_normal((n_types, n_batches, n_dims))
    moves = shift * direction / np.linalg.norm(direction, axis=2, keepdims=True)
    shares = rng.dirichlet(np.full(n_batches, CONCENTRATION), size=n_types)

    cell_type = rng.integers(n_types, size=n_cells)
    batch = (rng.random((n_cells, 1)) > shares.cumsum(1)[cell_type, :-1]).sum(1)
    corrected = means[cell_type] + rng.standard_normal((n_cells, n_dims))
    x = (corrected + moves[cell_type, batch]).astype(np.float32)
    obs = pd.DataFrame(
        {
            "batch": categorical(batch, [f"batch_{k}" for k in range(n_batches)]),
            "cell_type": categorical(cell_type, [f"type_{k}" for k in range(n_types)]),
            "exact_batch_score": _exact_score(x.astype(np.float64), cell_type, batch, centres=means[:, None] + moves),
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"dim_{i}" for i in range(n_dims)])
    return AnnData(x.copy(), obs=obs, var=var, obsm={"X_pca": x, "X_corrected": corrected.astype(np.float32)})


def _exact_score(x: np.ndarray, cell_type: np.ndarray, batch: np.ndarray, *, centres: np.ndarray) -> np.ndarray:
    """Scores ``(n,)`` of cells ``(n, d)`` of unit Gaussians at ``centres (n_types, n_batches, d)``."""
    score = np.empty(len(x))
    for t in np.unique(cell_type):
        cells = np.flatnonzero(cell_type == t)
        size = np.bincount(batch[cells], minlength=centres.shape[1])
        density = -0.5 * np.square(x[cells, None] - centres[t]).sum(2)
        own = density[np.arange(len(cells)), batch[cells]]
        score[cells] = own - logsumexp(density, axis=1, b=size / size.sum())
    return score
