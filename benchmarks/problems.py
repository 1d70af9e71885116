"""Problems that every method of the comparison gets: cells, labels, and what the log ratio should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scanpy as sc
from scipy.sparse import csr_matrix

import scratio_sc as scratio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

CELL_CONTRASTS = (("response", "ctrl"), ("abundance", "ctrl"), ("response", "abundance"))
LEVELS = (0.55, 0.6, 0.7, 0.8, 0.9, 1.0)
UP, DOWN = "CD14+ Monocytes", "B cells"
N_REPLICATES = 3
"""Random samples a condition is split into, for methods that count in samples."""


@dataclass(frozen=True)
class Problem:
    """Cells to fit, cells to judge and the answer.

    Attributes
    ----------
    name
        What rows of the table are called.
    x, y
        Cells ``(n, d)`` and their conditions ``(n,)``.
    x_test
        Cells that are judged ``(m, d)``; `x` itself for real cells, whose labels are all there is.
    contrasts
        Target and reference of each ratio.
    exact
        The log ratios ``(m, n_contrasts)``, nats.
    changed
        Whether a cell's type was enriched or depleted ``(m,)``; where types are known.
    level
        Probability of the enriched type; where there is one.
    counts
        Raw counts of `x` ``(n, n_genes)``, sparse, for methods that start from them.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    contrasts: tuple[tuple[str, str], ...]
    exact: np.ndarray
    changed: np.ndarray | None = None
    level: float | None = None
    counts: csr_matrix | None = None

    @property
    def same_cells(self) -> bool:
        """Whether the cells that are judged are those of the fit."""
        return self.x_test is self.x


def shift(n_dims: int, distance: float, *, n: int, seed: int) -> Problem:
    """N(0, I) against N(distance, I)."""
    cells = scratio.datasets.gaussian_shift(n + 6_000, n_dims=n_dims, shift=distance, rng=seed)
    exact = {("target", "reference"): "exact_log_ratio"}
    return _split(f"Gaussian shift d={n_dims} a={distance:g}", cells, exact, n=n)


def correlated(n_dims: int, *, n: int, seed: int) -> Problem:
    """Pairs of correlated dimensions against independent ones."""
    cells = scratio.datasets.correlated_gaussians(n + 6_000, n_dims=n_dims, rng=seed)
    exact = {("joint", "product"): "exact_log_ratio"}
    return _split(f"correlated Gaussians d={n_dims}", cells, exact, n=n)


def mixture(n_dims: int, n_types: int, *, n: int, seed: int) -> Problem:
    """Cell types that change in number and move."""
    cells = scratio.datasets.cell_mixture(n + 6_000, n_dims=n_dims, n_types=n_types, rng=seed)
    return _split(f"cell mixture d={n_dims}", cells, _named(CELL_CONTRASTS), n=n)


def warped(n_dims: int, n_types: int, *, n: int, seed: int) -> Problem:
    """The same behind an invertible nonlinear map, which keeps the ratio and leaves no cell type Gaussian."""
    cells = scratio.datasets.cell_mixture(n + 6_000, n_dims=n_dims, n_types=n_types, rng=seed)
    cells.obsm["X_pca"] = warp(cells.obsm["X_pca"], rng=np.random.default_rng(seed)).astype(np.float32)
    return _split(f"warped mixture d={n_dims}", cells, _named(CELL_CONTRASTS), n=n)


def warp(x: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Bend cells ``(n, d)`` by affine couplings (Dinh et al. 2017): a half is scaled and moved by the other half."""
    x = np.array(x, float)
    scale = x.std()
    half = x.shape[1] // 2
    for _ in range(4):
        x = x[:, rng.permutation(x.shape[1])]
        given, n_out = x[:, :half] / scale, x.shape[1] - half
        hidden = np.tanh(given @ rng.normal(0, 1.5 / np.sqrt(half), (half, 16)) + rng.normal(0, 0.5, 16))
        stretch = np.tanh(hidden @ rng.normal(0, 0.25, (16, n_out))) / 2
        move = scale * hidden @ rng.normal(0, 0.25, (16, n_out))
        x[:, half:] = x[:, half:] * np.exp(stretch) + move
    return x


def real_cells(path: str | Path) -> AnnData:
    """Raw counts, kept in `obsm['counts']`, and 20 PCs."""
    adata = ad.read_h5ad(path)
    adata.obsm["counts"] = csr_matrix(adata.X, copy=True)  # what follows changes X in place
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=20, random_state=0)
    return adata


def abundance(base: AnnData, levels: tuple[float, ...] = LEVELS, *, seed: int) -> Iterator[Problem]:
    """Real cells under random labels, but for one type that is enriched and one that is depleted."""
    types = base.obs["cell_type"].astype(str).to_numpy()
    for level in levels:
        p = np.full(base.n_obs, 0.5)
        p[types == UP], p[types == DOWN] = level, 1 - level
        treated = np.random.default_rng(42 + seed).random(base.n_obs) < p
        with np.errstate(divide="ignore"):
            exact = np.log(p) - np.log1p(-p) - np.log(treated.mean() / (1 - treated.mean()))
        yield _labelled(base, f"abundance {level:.2f}", treated, exact=exact, changed=p != 0.5, level=level)


def null(base: AnnData, *, seed: int) -> Problem:
    """Real cells under random labels: nothing to find."""
    treated = np.random.default_rng(seed).random(base.n_obs) < 0.5
    return _labelled(base, "random labels", treated, exact=np.zeros(base.n_obs))


def replicates(y: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Sample of each cell ``(n,)``: every condition split at random."""
    return np.array([f"{label}_{i}" for label, i in zip(y, rng.integers(N_REPLICATES, size=len(y)), strict=True)])


def _named(contrasts: tuple[tuple[str, str], ...]) -> dict[tuple[str, str], str]:
    return {(a, b): f"exact_{a}_vs_{b}" for a, b in contrasts}


def _split(name: str, cells: AnnData, exact: dict[tuple[str, str], str], *, n: int) -> Problem:
    x, y = cells.obsm["X_pca"], cells.obs["condition"].astype(str).to_numpy(str)
    answer = cells.obs[list(exact.values())].to_numpy(float)
    return Problem(name, x[:n], y[:n], x[n:], tuple(exact), answer[n:])


def _labelled(base: AnnData, name: str, treated: np.ndarray, *, exact: np.ndarray, **more: object) -> Problem:
    x, y = np.asarray(base.obsm["X_pca"], np.float32), np.where(treated, "treated", "control")
    counts = base.obsm.get("counts")
    return Problem(name, x, y, x, (("treated", "control"),), exact[:, None], counts=counts, **more)  # type: ignore[arg-type]
