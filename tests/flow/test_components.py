"""Components found without labels, covariances shrunk to what cells can tell, and the tree of the components."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, ortho_group
from torch import Tensor

from scratio_sc.flow import _components
from scratio_sc.flow._components import (
    Components,
    component_log_density,
    find_components,
    gaussian_groups,
    merge_tree,
    nonlinear_shrinkage,
    pulled,
)
from scratio_sc.flow._threads import one_torch_thread

D = 3
CENTRES = {
    1: np.zeros((1, D)),
    2: np.array([[0.0, 0, 0], [12, 0, 0]]),
    4: np.array([[0.0, 0, 0], [12, 0, 0], [0, 12, 0], [0, 0, 12]]),
}


def clouds(centres: np.ndarray, n: int = 150, *, seed: int = 0) -> Tensor:
    """Unit Gaussians around the centres, ``n`` cells each."""
    rng = np.random.default_rng(seed)
    return torch.as_tensor(np.repeat(centres, n, axis=0) + rng.standard_normal((n * len(centres), centres.shape[1])))


def found(centres: np.ndarray, *, seed: int = 0, rivals: list[Components] | None = None) -> Components:
    return find_components(
        clouds(centres, seed=seed),
        clouds(centres, seed=99 + seed),
        rivals=rivals or [],
        rng=np.random.default_rng(seed),
    )


def spheres(centres: np.ndarray) -> Components:
    """Equal parts of unit Gaussians around the centres."""
    mean = torch.as_tensor(np.asarray(centres, float))
    m, d = mean.shape
    return Components(torch.full((m,), 1 / m, dtype=torch.float64), mean, torch.eye(d).double().expand(m, d, d))


# --- the density of components


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), d=st.integers(1, 5), m=st.integers(1, 4))
def test_log_densities_are_those_of_scipy(seed: int, d: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    x, mean, root = rng.normal(size=(7, d)), rng.normal(size=(m, d)), rng.normal(size=(m, d, d))
    covariance = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(d)
    expected = np.stack(
        [np.atleast_1d(multivariate_normal(*pair).logpdf(x)) for pair in zip(mean, covariance, strict=True)]
    )
    log_density = component_log_density(*(torch.as_tensor(part) for part in (x, mean, covariance)))
    np.testing.assert_allclose(log_density.numpy(), expected.T)


@pytest.mark.parametrize("n", [100, 512, 2_000])
def test_log_density_is_the_same_by_several_threads(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mixture, *_ = three()
    x = torch.as_tensor(np.random.default_rng(1).normal(size=(n, D)))
    alone = component_log_density(x, mixture.mean, mixture.covariance)
    monkeypatch.setattr(_components, "MANY_PRODUCTS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with one_torch_thread():
        together = component_log_density(x, mixture.mean, mixture.covariance)
    assert torch.equal(together, alone)


def three() -> tuple[Components, np.ndarray, np.ndarray]:
    """Components of unequal weights, cells, and the log of weight times density of these by scipy."""
    mean, weight = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]), np.array([0.5, 0.3, 0.2])
    covariance = np.stack([np.diag(diagonal) for diagonal in ([1.0, 1, 1], [2.0, 1, 0.5], [0.5, 3, 1])])
    x = np.random.default_rng(0).normal(size=(9, D))
    joint = [
        np.log(w) + multivariate_normal(mu, sigma).logpdf(x)
        for w, mu, sigma in zip(weight, mean, covariance, strict=True)
    ]
    return Components(*(torch.as_tensor(part) for part in (weight, mean, covariance))), x, np.stack(joint, axis=1)


def test_log_likelihood_is_that_of_scipy() -> None:
    components, x, joint = three()
    np.testing.assert_allclose(components.log_likelihood(torch.as_tensor(x)), logsumexp(joint, axis=1))


def test_responsibilities_are_those_of_bayes_rule() -> None:
    components, x, joint = three()
    expected = np.exp(joint) / np.exp(joint).sum(1, keepdims=True)
    np.testing.assert_allclose(components.responsibilities(torch.as_tensor(x)), expected)


# --- the search


@pytest.mark.parametrize("n", CENTRES)
def test_as_many_components_are_found_as_there_are_clusters(n: int) -> None:
    """Mostly: an extra component that the held-out cells like by chance is kept."""
    assert np.median([len(found(CENTRES[n], seed=seed).weight) for seed in range(5)]) == n


def test_components_lie_where_the_clusters_do() -> None:
    mean = found(CENTRES[4]).mean
    nearest = torch.cdist(torch.as_tensor(CENTRES[4]), mean).min(1).values
    assert nearest.max() < 4 * np.sqrt(D / 150)


def test_components_have_the_covariances_of_the_clusters() -> None:
    components = found(CENTRES[4])
    np.testing.assert_allclose(components.covariance, np.tile(np.eye(D), (4, 1, 1)), atol=5 * np.sqrt(2 / 150))


def test_weights_are_the_sizes_of_the_clusters() -> None:
    x, judge = (
        torch.cat([clouds(CENTRES[2][:1], 300, seed=s), clouds(CENTRES[2][1:], 100, seed=s + 1)]) for s in (0, 2)
    )
    components = find_components(x, judge, rivals=[], rng=np.random.default_rng(0))
    np.testing.assert_allclose(sorted(components.weight.tolist()), [0.25, 0.75], atol=1e-3)


def test_one_component_where_a_rival_explains_cells_better() -> None:
    centres = CENTRES[4]
    assert len(found(centres, rivals=[spheres(centres)]).weight) == 1


def test_rival_that_explains_cells_worse_changes_nothing() -> None:
    components, expected = found(CENTRES[4], rivals=[spheres(CENTRES[1])]), found(CENTRES[4])
    assert torch.equal(components.mean, expected.mean)


def test_few_types_are_found_in_many_dimensions() -> None:
    """There, the search starts from components that are too many to explain cells better than one Gaussian does."""
    centres = np.zeros((2, 20))
    centres[1, 0] = 8
    x, judge = clouds(centres, 750), clouds(centres, 200, seed=1)
    components = find_components(x, judge, rivals=gaussian_groups(x, np.zeros(len(x))), rng=np.random.default_rng(0))
    np.testing.assert_allclose(components.weight, [0.5, 0.5], atol=0.01)


def test_single_component_has_the_moments_of_all_cells() -> None:
    x, judge = clouds(CENTRES[4]), clouds(CENTRES[4], seed=1)
    one = find_components(x, judge, rivals=[spheres(CENTRES[4])], rng=np.random.default_rng(0))
    torch.testing.assert_close(one.mean[0], x.mean(0))
    torch.testing.assert_close(one.covariance[0], x.T.cov(correction=0), rtol=1e-4, atol=1e-4)


def test_same_generator_finds_the_same_components() -> None:
    first, second = found(CENTRES[4], seed=3), found(CENTRES[4], seed=3)
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.covariance, second.covariance)


@pytest.mark.parametrize("n", [1, 5])
def test_few_cells_have_one_component(n: int) -> None:
    x = clouds(CENTRES[1], n)
    components = find_components(x, x, rivals=[], rng=np.random.default_rng(0))
    assert components.weight.tolist() == [1.0]
    assert torch.isfinite(components.log_likelihood(x)).all()


# --- Gaussian groups


def test_gaussian_groups_have_the_moments_of_their_cells() -> None:
    x, group = clouds(np.array([[0.0, 0, 0], [1, 0, 0]]), 2000), np.repeat([0, 1], 2000)
    _, own = gaussian_groups(x, group)
    for g in range(2):
        cells = x[group == g]
        torch.testing.assert_close(own.mean[g], cells.mean(0))
        torch.testing.assert_close(own.covariance[g], cells.T.cov(), atol=0.01, rtol=0.01)


def test_gaussian_groups_that_share_a_covariance_have_the_pooled_one() -> None:
    x, group = torch.cat([clouds(CENTRES[1], 100), 3 * clouds(CENTRES[1], 300, seed=1)]), np.repeat([4, 7], [100, 300])
    shared, own = gaussian_groups(x, group)
    torch.testing.assert_close(shared.covariance[0], shared.covariance[1])
    torch.testing.assert_close(shared.covariance[0], 0.25 * own.covariance[0] + 0.75 * own.covariance[1])


# --- covariances of few cells


def test_covariance_of_no_cells_is_the_pooled_one() -> None:
    scatter = torch.stack([100 * torch.diag(torch.tensor([1.0, 2, 3])), torch.zeros(3, 3)]).double()
    covariance = pulled(scatter, torch.tensor([100.0, 0.0]).double())
    torch.testing.assert_close(covariance[1], scatter[0] / 100, atol=1e-5, rtol=0)


def test_covariances_of_many_cells_stay() -> None:
    own = torch.stack([torch.diag(torch.tensor([1.0, 2, 3])), torch.eye(3)]).double()
    torch.testing.assert_close(pulled(1e6 * own, torch.full((2,), 1e6).double()), own, atol=1e-4, rtol=0)


def sample_covariance(n: int, root: np.ndarray, *, seed: int = 0) -> np.ndarray:
    return np.cov((np.random.default_rng(seed).standard_normal((n, len(root))) @ root.T).T)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), d=st.integers(2, 10), n=st.integers(40, 2000))
def test_shrinkage_keeps_the_eigenvectors(seed: int, d: int, n: int) -> None:
    root = np.random.default_rng(seed).normal(size=(d, d))
    covariance = sample_covariance(n, root, seed=seed)
    shrunken = nonlinear_shrinkage(covariance, np.array(n))
    np.testing.assert_allclose(shrunken @ covariance, covariance @ shrunken, atol=1e-8 * np.trace(covariance) ** 2)


@pytest.mark.parametrize("n", [100, 400, 2000])
def test_shrinkage_roughly_keeps_the_trace(n: int) -> None:
    covariance = sample_covariance(n, np.diag([2.0] * 10 + [1.0] * 20))
    shrunken = nonlinear_shrinkage(covariance, np.array(n))
    assert np.trace(shrunken) == pytest.approx(np.trace(covariance), rel=0.05)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_shrinkage_brings_a_covariance_closer_to_the_identity_it_comes_from(seed: int) -> None:
    covariance = sample_covariance(100, np.eye(30), seed=seed)
    shrunken = nonlinear_shrinkage(covariance, np.array(100))
    assert np.linalg.norm(shrunken - np.eye(30)) < 0.5 * np.linalg.norm(covariance - np.eye(30))


@pytest.mark.parametrize("d", [1, 5, 20])
def test_shrinkage_leaves_covariances_of_endless_cells_alone(d: int) -> None:
    covariance = np.diag(np.linspace(1, 3, d))
    np.testing.assert_allclose(nonlinear_shrinkage(covariance, np.array(1e9)), covariance, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 10, 20])
def test_shrinkage_leaves_covariances_of_too_few_cells_alone(n: int) -> None:
    covariance = sample_covariance(12, np.eye(10)) + 1e-6 * np.eye(10)
    np.testing.assert_allclose(nonlinear_shrinkage(covariance, np.array(n)), covariance, atol=1e-12)


@pytest.mark.parametrize("small", [1e-4, 1e-6, 1e-9])
def test_dimension_of_almost_no_variance_makes_no_difference_to_the_others(small: float) -> None:
    """Of almost no variance, because the constant dimensions of cells have that."""
    first, second = (np.diag(nonlinear_shrinkage(np.diag([v, 1.0, 1.5]), np.array(60))) for v in (small, 1e-3))
    np.testing.assert_allclose(first[1:], second[1:], rtol=1e-3)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), d=st.integers(1, 10), n=st.integers(1, 500))
def test_shrunken_covariances_stay_positive_definite(seed: int, d: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    covariance = sample_covariance(d + 2, rng.normal(size=(d, d)), seed=seed).reshape(d, d) + 1e-6 * np.eye(d)
    assert np.linalg.eigvalsh(nonlinear_shrinkage(covariance, np.array(n))).min() > 0


def test_covariances_are_shrunk_one_by_one() -> None:
    n = np.array([[10, 50, 100], [20, 500, 0]])
    covariance = np.stack([sample_covariance(60, np.eye(4), seed=s) for s in range(6)]).reshape(2, 3, 4, 4)
    shrunken = nonlinear_shrinkage(covariance, n)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(shrunken[index], nonlinear_shrinkage(covariance[index], n[index]))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
def test_shrinkage_turns_and_scales_with_the_cells(seed: int, factor: float) -> None:
    covariance, q = sample_covariance(50, np.diag([3.0, 2, 1, 1]), seed=seed), ortho_group(4, seed=seed).rvs()
    there = nonlinear_shrinkage(factor * q @ covariance @ q.T, np.array(50))
    np.testing.assert_allclose(
        there, factor * q @ nonlinear_shrinkage(covariance, np.array(50)) @ q.T, atol=1e-8 * factor
    )


# --- the tree


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), m=st.integers(2, 7))
def test_first_split_is_between_all_components(seed: int, m: int) -> None:
    centres = 10 * np.random.default_rng(seed).standard_normal((m, 2))
    assert np.all(merge_tree(clouds(centres, 30), spheres(centres))[0] != 0)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), m=st.integers(2, 7))
def test_every_split_separates_components(seed: int, m: int) -> None:
    centres = 10 * np.random.default_rng(seed).standard_normal((m, 2))
    splits = merge_tree(clouds(centres, 30), spheres(centres))
    assert splits.shape == (m - 1, m)
    assert np.all((splits > 0).any(1) & (splits < 0).any(1))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), m=st.integers(3, 7))
def test_every_further_split_divides_one_side_of_an_earlier_one(seed: int, m: int) -> None:
    centres = 10 * np.random.default_rng(seed).standard_normal((m, 2))
    splits = merge_tree(clouds(centres, 30), spheres(centres))
    for i in range(1, m - 1):
        sides = [side for split in splits[:i] for side in (split > 0, split < 0)]
        assert any(np.array_equal(splits[i] != 0, side) for side in sides)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), m=st.integers(2, 7))
def test_splits_tell_every_component_from_every_other(seed: int, m: int) -> None:
    centres = 10 * np.random.default_rng(seed).standard_normal((m, 2))
    splits = merge_tree(clouds(centres, 30), spheres(centres)).astype(int)
    assert all(np.any(splits[:, i] * splits[:, j] < 0) for i in range(m) for j in range(i))


def test_components_that_are_alike_part_last() -> None:
    centres = np.array([[0.0, 0], [50, 0], [2, 0], [52, 0]])
    splits = merge_tree(clouds(centres, 50), spheres(centres))
    assert np.array_equal(np.abs(splits[0] @ [[1], [-1], [1], [-1]]), [4])


def test_tree_of_one_component_has_no_splits() -> None:
    assert merge_tree(clouds(CENTRES[1], 20), spheres(CENTRES[1])).shape == (0, 1)
