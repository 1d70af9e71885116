"""A small real example that comes with scanpy."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import OldFormatWarning

if TYPE_CHECKING:
    from anndata import AnnData


def pbmc68k() -> AnnData:
    """Load 700 blood cells, those that cycle against those that do not.

    The cells of :func:`scanpy.datasets.pbmc68k_reduced`, which come with scanpy, so nothing is downloaded. They are
    of one healthy donor; the cell-cycle phase serves as a condition that real cells differ in.

    Returns
    -------
    The annotated data of scanpy, of which the examples use

    `adata.obs['cycle']` : :class:`pandas.Series` (dtype ``category``)
        "G1", or "cycling" for the phases S and G2M. Added by this function.
    `adata.obs['bulk_labels']` : :class:`pandas.Series` (dtype ``category``)
        Cell types.
    `adata.obsm['X_pca']` : :class:`numpy.ndarray` (dtype ``float32``), shape `(700, 50)`
        Principal components.
    `adata.obsm['X_umap']` : :class:`numpy.ndarray` (dtype ``float64``), shape `(700, 2)`
        UMAP coordinates.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.pbmc68k()
    >>> adata.obs["cycle"].value_counts().to_dict()
    {'G1': 501, 'cycling': 199}
    """
    import scanpy as sc

    with warnings.catch_warnings():
        # the file is older than the encoding metadata of anndata 0.8
        warnings.simplefilter("ignore", OldFormatWarning)
        adata = sc.datasets.pbmc68k_reduced()
    cycling = adata.obs["phase"].isin(["S", "G2M"])
    adata.obs["cycle"] = pd.Categorical(np.where(cycling, "cycling", "G1"), categories=["G1", "cycling"])
    return adata
