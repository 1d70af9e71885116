"""Simulated batches: the exact score, and the information it averages to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from scratio_sc import datasets


def information_of_two(distance: float) -> float:
    """I(batch; x) of two unit Gaussians as likely as each other, by quadrature along the line through their means."""

    def integrand(x: float) -> float:
        own, other = norm.logpdf(x), norm.logpdf(x, distance)
        return float(np.exp(own) * (own - np.logaddexp(own, other) + np.log(2)))

    return quad(integrand, -12, 12 + distance)[0]


@pytest.mark.parametrize("shift", [0.7, 2.0])
def test_mean_of_the_exact_score_is_the_information(shift: float) -> None:
    adata = datasets.batch_shift(60_000, n_dims=3, n_types=1, n_batches=2, shift=shift)
    batch = adata.obs["batch"].to_numpy()
    n = min((batch == name).sum() for name in np.unique(batch))
    means = np.stack([adata.obsm["X_pca"][batch == name].mean(0) for name in np.unique(batch)])
    # with unequal batches the score is log p(b | x) - log p(b); to equal ones by giving each batch the same weight
    log_share = np.log([(batch == name).mean() for name in np.unique(batch)])
    code = np.unique(batch, return_inverse=True)[1]
    posterior = np.exp(adata.obs["exact_batch_score"].to_numpy() + log_share[code])
    odds = np.log(posterior / (1 - posterior)) - log_share[code] + log_share[1 - code]
    equal = np.log(2) - np.logaddexp(0, -odds)
    found = np.mean([equal[code == c].mean() for c in (0, 1)])
    assert found == pytest.approx(information_of_two(float(np.linalg.norm(means[0] - means[1]))), abs=4 / np.sqrt(n))


def test_without_a_shift_there_is_nothing_to_tell() -> None:
    adata = datasets.batch_shift(200, shift=0.0)
    np.testing.assert_allclose(adata.obs["exact_batch_score"], 0, atol=1e-9)
    np.testing.assert_array_equal(adata.obsm["X_pca"], adata.obsm["X_corrected"])


def test_far_apart_the_score_is_the_largest_possible() -> None:
    adata = datasets.batch_shift(500, shift=100.0)
    sizes = adata.obs.groupby(["cell_type", "batch"], observed=True)["batch"].transform("size")
    of_type = adata.obs.groupby("cell_type", observed=True)["batch"].transform("size")
    np.testing.assert_allclose(adata.obs["exact_batch_score"], np.log(of_type / sizes), atol=1e-9)


def test_batches_move_by_the_shift() -> None:
    adata = datasets.batch_shift(300, shift=3.0)
    moved = adata.obsm["X_pca"].astype(float) - adata.obsm["X_corrected"]
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 3.0, rtol=1e-3)


@pytest.mark.parametrize("options", [{"n_batches": 1}, {"n_types": 0}, {"n_dims": 0}, {"n_cells": 0}])
def test_refused(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}={options[name]}, expected an integer of"):
        datasets.batch_shift(**options)
