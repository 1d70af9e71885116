"""The simulated data have the distributions they claim, and the columns the exact numbers."""

from __future__ import annotations

import warnings
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from scratio_sc import datasets
from scratio_sc.datasets._mixture import GaussianMixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

SIMULATED = [datasets.gaussian_shift, datasets.correlated_gaussians, datasets.cell_mixture]


def _embedding(adata: AnnData) -> np.ndarray:
    return adata.obsm["X_pca"].astype(np.float64)


def test_mixture_density_matches_scipy() -> None:
    rng = np.random.default_rng(0)
    weights, means = np.array([0.2, 0.5, 0.3]), rng.normal(size=(3, 4))
    root = rng.normal(size=(3, 4, 4))
    covariances = root @ root.transpose(0, 2, 1) + 0.5 * np.eye(4)
    x = rng.normal(size=(50, 4))
    components = zip(weights, means, covariances, strict=True)
    expected = sum(w * multivariate_normal(m, c).pdf(x) for w, m, c in components)
    np.testing.assert_allclose(GaussianMixture(weights, means, covariances).log_density(x), np.log(expected))


def test_mixture_density_far_away_is_finite() -> None:
    mixture = GaussianMixture(np.full(2, 0.5), np.array([[0.0], [1.0]]), np.ones((2, 1, 1)))
    assert mixture.log_density(np.array([[1e3]]))[0] == pytest.approx(
        -0.5 * 999**2 - 0.5 * np.log(2 * np.pi) - np.log(2)
    )


def test_mixture_sample_has_its_moments() -> None:
    covariance = np.array([[2.0, 0.9], [0.9, 1.0]])
    mixture = GaussianMixture(
        np.array([0.25, 0.75]), np.array([[-3.0, 0.0], [3.0, 1.0]]), np.stack([covariance, np.eye(2)])
    )
    x, component = mixture.sample(20_000, np.random.default_rng(1))
    assert component.mean() == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(x[component == 0].mean(axis=0), [-3, 0], atol=0.1)
    np.testing.assert_allclose(np.cov(x[component == 0].T), covariance, atol=0.1)


@pytest.mark.parametrize(("n_dims", "shift"), [(1, 1.0), (5, 2.0), (3, -0.5)])
def test_gaussian_shift_is_the_closed_form(n_dims: int, shift: float) -> None:
    adata = datasets.gaussian_shift(400, n_dims=n_dims, shift=shift)
    x = _embedding(adata)
    assert x.shape == (400, n_dims)
    np.testing.assert_allclose(adata.obs["exact_log_ratio"], shift * x.sum(axis=1) - n_dims * shift**2 / 2, atol=1e-9)
    target = adata.obs["condition"] == "target"
    np.testing.assert_allclose(x[target].mean(axis=0) - x[~target].mean(axis=0), shift, atol=0.4)


def test_correlated_gaussians_match_scipy_and_have_their_mutual_information() -> None:
    adata = datasets.correlated_gaussians(20_000, n_dims=4)
    rho = np.sqrt(1 - np.exp(-1))
    covariance = np.array([[1, rho, 0, 0], [rho, 1, 0, 0], [0, 0, 1, rho], [0, 0, rho, 1]])
    zero = np.zeros(4)
    x = _embedding(adata)
    expected = multivariate_normal(zero, covariance).logpdf(x) - multivariate_normal(zero).logpdf(x)
    np.testing.assert_allclose(adata.obs["exact_log_ratio"], expected, atol=1e-9)
    joint = adata.obs["condition"] == "joint"
    assert adata.obs.loc[joint, "exact_log_ratio"].mean() == pytest.approx(4 / 4, abs=0.03)


def test_cell_mixture_contrasts_and_cell_types() -> None:
    adata = datasets.cell_mixture(6_000, n_dims=5, n_types=4)
    obs = adata.obs
    response, abundance = obs["exact_response_vs_ctrl"], obs["exact_abundance_vs_ctrl"]
    np.testing.assert_allclose(response - abundance, obs["exact_response_vs_abundance"], atol=1e-9)
    np.testing.assert_allclose(response, obs["exact_log_density_response"] - obs["exact_log_density_ctrl"], atol=1e-9)
    assert list(obs["cell_type"].cat.categories) == ["type_0", "type_1", "type_2", "type_3"]
    assert list(obs["condition"].cat.categories) == ["ctrl", "abundance", "response"]
    # E_q[p / q] = 1 for densities of mass 1
    ctrl = obs["condition"] == "ctrl"
    assert np.exp(abundance[ctrl]).mean() == pytest.approx(1, abs=0.05)
    centre = obs.join(adata.to_df()).groupby(["condition", "cell_type"], observed=True)["dim_0"].mean().unstack()
    still = centre.loc["response"] - centre.loc["abundance"]
    assert (still[["type_2", "type_3"]].abs() < 0.35).all()


def test_cell_mixture_without_changes_has_no_ratio() -> None:
    adata = datasets.cell_mixture(300, abundance=0.0, response=0.0)
    np.testing.assert_allclose(adata.obs.filter(like="_vs_"), 0, atol=1e-12)


def test_cell_mixture_moves_the_responding_types_by_the_response() -> None:
    adata = datasets.cell_mixture(30_000, n_dims=3, n_types=3, response=2.0)
    x = adata.to_df().groupby([adata.obs["cell_type"], adata.obs["condition"]], observed=True).mean()
    moved = [np.linalg.norm(x.loc[(t, "response")] - x.loc[(t, "ctrl")]) for t in ("type_0", "type_1", "type_2")]
    np.testing.assert_allclose(moved, [2, 2, 0], atol=0.2)


@pytest.mark.parametrize("simulate", SIMULATED)
def test_slots(simulate: Callable[..., AnnData]) -> None:
    adata = simulate(100)
    assert adata.obsm["X_pca"].dtype == np.float32
    np.testing.assert_array_equal(adata.X, adata.obsm["X_pca"])
    assert not np.shares_memory(adata.X, adata.obsm["X_pca"])
    exact = [name for name in adata.obs if name.startswith("exact_") and "density" not in name]
    assert exact == list(adata.uns)
    for name in exact:
        params = adata.uns[name]["params"]
        difference = [adata.obs[f"exact_log_density_{params[side]}"] for side in ("target", "reference")]
        np.testing.assert_array_equal(adata.obs[name], difference[0] - difference[1])
        assert adata.obs[name].dtype == np.float64


@pytest.mark.parametrize("simulate", SIMULATED)
def test_same_rng_same_cells_and_no_global_state(simulate: Callable[..., AnnData]) -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = simulate(50, rng=3), simulate(50, rng=np.random.default_rng(3))
    np.testing.assert_array_equal(first.obsm["X_pca"], again.obsm["X_pca"])
    assert first.obs.equals(again.obs)
    assert not np.array_equal(first.obsm["X_pca"], simulate(50, rng=4).obsm["X_pca"])
    assert not np.array_equal(simulate(50, rng=None).obsm["X_pca"], simulate(50, rng=None).obsm["X_pca"])
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("load", [*SIMULATED, datasets.pbmc68k])
def test_h5ad_round_trip(load: Callable[[], AnnData], tmp_path: Path) -> None:
    adata = load()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert read.obs.equals(adata.obs)
    np.testing.assert_array_equal(read.obsm["X_pca"], adata.obsm["X_pca"])
    for name in adata.obs.filter(regex="^exact_.*(ratio|_vs_)"):
        assert read.uns[name]["params"] == adata.uns[name]["params"]


def test_conditions_are_shuffled_and_shared_equally() -> None:
    condition = datasets.cell_mixture(101).obs["condition"]
    assert sorted(condition.value_counts()) == [33, 34, 34]
    assert condition.head(30).nunique() == 3


def test_sizes() -> None:
    sizes = {"response": 5, "ctrl": 20, "abundance": 0}
    condition = datasets.cell_mixture(sizes=sizes).obs["condition"]
    assert condition.value_counts().to_dict() == {"ctrl": 20, "response": 5}
    assert list(condition.cat.categories) == ["ctrl", "response"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: datasets.gaussian_shift(sizes={"target": 5}), "reference"),
        (lambda: datasets.gaussian_shift(sizes={"target": 5, "reference": -1}), r"sizes\['reference'\]=-1, expected"),
        (lambda: datasets.gaussian_shift(sizes={"target": 0, "reference": 0}), "draws no cell"),
        (lambda: datasets.gaussian_shift(0), "n_cells=0, expected an integer of 1 or more"),
        (lambda: datasets.gaussian_shift(n_dims=0), "n_dims=0, expected an integer of 1 or more"),
        (lambda: datasets.gaussian_shift(rng=-1), "rng=-1, expected an integer of 0 or more"),
        (lambda: datasets.correlated_gaussians(n_dims=5), "even"),
        (lambda: datasets.correlated_gaussians(n_dims=0), "n_dims=0, expected an integer of 2 or more"),
        (lambda: datasets.cell_mixture(n_types=1), "n_types=1, expected an integer of 2 or more"),
        (lambda: datasets.cell_mixture(abundance=np.nan), "abundance=nan, expected a finite number"),
        (lambda: datasets.cell_mixture(response=np.inf), "response=inf, expected a finite number"),
        (lambda: datasets.gaussian_shift(shift=np.nan), "shift=nan, expected a finite number"),
        (lambda: datasets.batch_shift(shift=np.inf), "shift=inf, expected a finite number"),
    ],
)
def test_errors(call: Callable[[], AnnData], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "options", [{"n_cells": 1e3}, {"n_dims": 2.0}, {"shift": "1"}, {"sizes": 5}, {"rng": "seed"}], ids=str
)
def test_arguments_of_another_type(options: dict[str, Any]) -> None:
    (argument,) = options
    with pytest.raises(TypeError, match=f"^{argument}=.*, expected"):
        datasets.gaussian_shift(**options)


def test_pbmc68k_is_ready_and_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # anndata sets options that pandas 3 no longer needs
        option = "The '(future.infer_string|mode.chained_assignment)' option is deprecated"
        warnings.filterwarnings("ignore", option, DeprecationWarning)
        adata = datasets.pbmc68k()
    assert adata.obs["cycle"].value_counts().to_dict() == {"G1": 501, "cycling": 199}
    assert (adata.obs["cycle"] == "G1").equals(adata.obs["phase"] == "G1")
    assert adata.obsm["X_pca"].shape == (700, 50)
    assert adata.obsm["X_umap"].shape == (700, 2)
    assert adata.obs["bulk_labels"].nunique() > 5


@pytest.mark.parametrize("function", [getattr(datasets, name) for name in datasets.__all__])
def test_signatures(function: Callable[..., AnnData]) -> None:
    positional = [p for p in signature(function).parameters.values() if p.kind is not Parameter.KEYWORD_ONLY]
    assert len(positional) <= 1
