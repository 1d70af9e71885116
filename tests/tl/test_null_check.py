"""Permuted labels: what is shuffled, that it comes out small, and what is refused before any refit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

from scratio_sc import get, tl
from scratio_sc._embedding import read_flow_and_cells
from scratio_sc._permutable import Permutable
from scratio_sc.flow._design import Design
from scratio_sc.flow._member_scores import observed
from scratio_sc.tl import _null_check

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from scratio_sc.flow import ConditionalFlow

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

SIDES = {"target": "stim", "reference": "ctrl"}
ONCE = {**SIDES, "n_permutations": 1, "progress": False}


def shuffle(text: np.ndarray, unit: np.ndarray | None = None, *, role: np.ndarray | None = None) -> np.ndarray:
    """The first permutation of labels whose first column is the condition."""
    unit = np.arange(len(text)) if unit is None else unit
    design, _ = Design.of(text, ["condition", "batch"][: text.shape[1]], 1)
    (shuffled,) = Permutable.of(text, unit, design, role=role).permuted(1, rng=np.random.default_rng(0))
    return shuffled


LABELS = np.column_stack([np.tile(["a", "b"], 50), np.repeat(["x", "y"], 50)])


def test_conditions_are_permuted() -> None:
    shuffled = shuffle(LABELS[:, :1])
    assert (shuffled != LABELS[:, :1]).any()
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(LABELS[:, :1], axis=0))


def test_covariates_stay_where_they_are() -> None:
    np.testing.assert_array_equal(shuffle(LABELS)[:, 1], LABELS[:, 1])


def test_conditions_are_permuted_within_covariates() -> None:
    only_a_in_x = LABELS.copy()
    only_a_in_x[:50, 0] = "a"
    assert (shuffle(only_a_in_x)[:50, 0] == "a").all()


def test_other_conditions_stay_where_they_are() -> None:
    text = np.tile(["a", "b", "c"], 40)[:, None]
    shuffled = shuffle(text, role=np.tile([1, 2, 0], 40))
    np.testing.assert_array_equal(shuffled == "c", text == "c")
    assert (shuffled != text).any()


def test_samples_are_permuted_as_a_whole() -> None:
    sample = np.repeat(np.arange(10), 10)
    text = np.where(sample % 2 == 0, "a", "b")[:, None]
    shuffled = shuffle(text, sample)[:, 0]
    assert all(len(set(shuffled[sample == s])) == 1 for s in range(10))


def test_sample_of_several_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="Sample '0' has cells of several conditions"):
        shuffle(LABELS[:, :1], np.zeros(100, int))


def test_every_other_grouping_into_sides_comes_once() -> None:
    """Which of the target's conditions a sample has makes no other grouping, the reference's samples do."""
    sample = np.arange(6)
    text = np.array(["a", "a", "b", "b", "c", "c"])[:, None]
    design, _ = Design.of(text, ["condition"], 1)
    labels = Permutable.of(text, sample, design, role=np.array([1, 1, 1, 1, 2, 2]))
    assert labels.count(14, sample_key=None) == labels.units.n_others == 14
    references = {
        tuple(np.flatnonzero(other[:, 0] == "c")) for other in labels.permuted(20, rng=np.random.default_rng(0))
    }
    assert len(references) == 14
    assert (4, 5) not in references


def test_covariates_that_differ_within_samples_do_not_keep_these_from_being_permuted() -> None:
    sample, batch, kind = np.repeat(np.arange(8), 10), np.repeat(["x", "y"], 40), np.tile(["T", "B"], 40)
    text = np.column_stack([np.where(sample % 2 == 0, "a", "b"), kind, batch])
    design, _ = Design.of(text, ["condition", "type", "batch"], 1)
    labels = Permutable.of(text, sample, design, role=None)
    assert labels.units.n_others == 17, "2 of 4 samples in either batch, up to exchanged names"
    for other in labels.permuted(50, rng=np.random.default_rng(0)):
        np.testing.assert_array_equal(other[:, 1:], text[:, 1:])
        assert all((other[batch == b, 0] == "a").mean() == 0.5 for b in "xy")


def test_covariate_that_differs_within_one_sample_only_is_named() -> None:
    sample, batch = np.repeat(np.arange(8), 10), np.repeat(["x", "y"], 40)
    batch[0] = "y"
    text = np.column_stack([np.where(sample % 2 == 0, "a", "b"), batch])
    design, _ = Design.of(text, ["condition", "batch"], 1)
    with pytest.warns(UserWarning, match="'batch' is the same in all cells of most samples, but differs within '0',"):
        labels = Permutable.of(text, sample, design, role=None)
    assert labels.units.n_others == 34, "4 of 8 samples, up to exchanged names"


def test_cells_that_are_not_permuted_do_not_say_what_differs_within_samples() -> None:
    sample, batch = np.repeat(np.arange(9), 10), np.repeat(["x", "y", "x"], [40, 40, 10])
    batch[-1] = "y"
    text = np.column_stack([np.array(["a", "b"] * 4 + ["c"])[sample], batch])
    design, _ = Design.of(text, ["condition", "batch"], 1)
    role = np.array([1, 2] * 4 + [0])[sample]
    assert Permutable.of(text, sample, design, role=role).units.n_others == 17


def test_one_sample_a_dose_can_be_permuted() -> None:
    """Doses are no names: three in another order are another grouping, unless the order is turned round."""
    sample = np.repeat(np.arange(3), 30)
    text = sample.astype(str)[:, None]
    design, _ = Design.of(text, ["dose"], 1, numeric=["dose"])
    assert Permutable.of(text, sample, design, role=None).count(2, sample_key="donor") == 2


def with_samples(adata: AnnData, n: int) -> AnnData:
    """The cells with samples of their condition: ctrl_0, stim_0, ctrl_1, ..."""
    sample = np.arange(adata.n_obs) // 2 % (n // 2)
    adata.obs["sample"] = [f"{condition}_{i}" for condition, i in zip(adata.obs["condition"], sample, strict=True)]
    return adata


@pytest.fixture
def refits(fresh_fit: AnnData, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of every refit; none is carried out, and the flow of the fit stands in for it."""
    calls: list[dict[str, Any]] = []

    def fit_flow(x: np.ndarray, labels: np.ndarray, **options: Any) -> tuple[ConditionalFlow, np.ndarray]:
        calls.append({"x": x, "labels": labels, **options})
        return get.flow(fresh_fit), np.full(len(x), -1)

    monkeypatch.setattr(_null_check, "fit_flow", fit_flow)
    return calls


def test_few_samples_give_every_other_grouping_once(fresh_fit: AnnData, refits: list[dict[str, Any]]) -> None:
    adata = with_samples(fresh_fit, 4)
    with pytest.warns(UserWarning, match=r"4 samples of 'sample' there are 2 others only.*2 instead of 5 times"):
        tl.null_check(adata, **{**ONCE, "n_permutations": 5}, sample_key="sample")
    assert len(adata.uns["null_check"]["null"]) == len(refits) == 2
    for call in refits:
        agree = call["labels"][:, 0] == adata.obs["condition"].to_numpy()
        assert agree.mean() == 0.5, "neither the observed labels nor their mirror image"


def test_cells_of_other_conditions_keep_theirs(fitted: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[np.ndarray] = []

    def fit_flow(x: np.ndarray, text: np.ndarray, **_: Any) -> tuple[ConditionalFlow, np.ndarray]:
        labels.append(text[:, 0])
        return get.flow(fitted), np.full(len(x), -1)

    monkeypatch.setattr(_null_check, "fit_flow", fit_flow)
    tl.null_check(fitted, **ONCE)
    observed = fitted.obs["condition"].to_numpy()
    np.testing.assert_array_equal(labels[0] == "drug/high", observed == "drug/high")
    assert (labels[0] != observed).any()


@pytest.fixture
def rare_type() -> AnnData:
    """Eight samples, four of a condition, two of which have a second type, in other places: one of either condition."""
    rng, sample = np.random.default_rng(0), np.repeat(np.arange(8), 30)
    second = (sample < 2) & (np.arange(240) % 30 < 15)
    kind, condition = np.where(second, "T", "B"), np.tile(["a", "b"], 4)[sample]
    obs = pd.DataFrame({"sample": sample, "type": kind, "condition": condition})
    x = rng.standard_normal((240, 2)) + 6.0 * second[:, None] + 4.0 * (second & (sample == 0))[:, None]
    adata = AnnData(obs=obs.astype(str).rename(str), obsm={"X_pca": x})
    tl.fit(adata, "condition", covariates=["type"], max_steps=0, n_members=2, progress=False)
    return adata


@pytest.mark.filterwarnings("ignore:'type' is the same in all cells of most samples")
def test_permutations_that_leave_a_side_without_cells_are_left_out(rare_type: AnnData) -> None:
    sides = {name: {"condition": level, "type": "T"} for name, level in (("target", "a"), ("reference", "b"))}
    with pytest.warns(UserWarning, match=r"of 8 permutations are left out: one of the sides had no cells"):
        tl.null_check(rare_type, **sides, sample_key="sample", n_permutations=8, progress=False)
    null = rare_type.uns["null_check"]["null"]
    assert 0 < len(null) < 8
    assert null.min() > 1, "the two samples differ, whatever their condition"


def test_one_sample_a_condition_is_refused(fresh_fit: AnnData, unchanged: Unchanged) -> None:
    adata = with_samples(fresh_fit, 2)
    with unchanged(adata), pytest.raises(ValueError, match=r"2 samples of 'sample' cannot be permuted.*More samples"):
        tl.null_check(adata, **ONCE, sample_key="sample")


def test_pairs_of_samples_within_a_covariate_are_refused(fresh_fit: AnnData) -> None:
    """With a ratio for each donor, exchanging the two samples of a donor turns its sign and leaves its size."""
    adata = with_samples(fresh_fit, 8)
    adata.obs["donor"] = adata.obs["sample"].str[-1]
    tl.fit(adata, "condition", covariates=["donor"], max_steps=0, n_members=2, progress=False)
    with pytest.raises(ValueError, match=r"Each level of 'donor' has one sample of 'sample'.*Fit without 'donor'"):
        tl.null_check(adata, **ONCE, sample_key="sample")


def test_covariates_that_go_with_the_condition_are_refused(fresh: AnnData) -> None:
    fresh.obs["lane"] = fresh.obs["condition"].map({"ctrl": "l1", "stim": "l2"})
    with pytest.warns(UserWarning, match="Every level of 'lane' has cells of one"):
        tl.fit(fresh, "condition", covariates=["lane"], max_steps=0, n_members=2, progress=False)
    with pytest.raises(ValueError, match="every level of 'lane' has one condition only"):
        tl.null_check(fresh, **ONCE)


def test_text_for_a_missing_sample_is_told(fresh_fit: AnnData, refits: list[dict[str, Any]]) -> None:
    adata = with_samples(fresh_fit, 6)
    adata.obs.loc[adata.obs["sample"] == "ctrl_0", "sample"] = "nan"
    with pytest.warns(UserWarning, match="10 cells have the label 'nan' in 'sample'"):
        tl.null_check(adata, **ONCE, sample_key="sample")
    assert refits


def test_cells_without_a_sample_are_left_out(fresh_fit: AnnData, refits: list[dict[str, Any]]) -> None:
    adata = with_samples(fresh_fit, 6)
    adata.obs.loc[adata.obs_names[:8], "sample"] = np.nan
    with pytest.warns(UserWarning, match="8 of 60 cells have no label in 'sample' and are left out of the null check"):
        tl.null_check(adata, **ONCE, sample_key="sample")
    assert len(refits[0]["x"]) == 52


def test_fewer_cells_than_were_fitted_are_warned_of(fresh_fit: AnnData, refits: list[dict[str, Any]]) -> None:
    some = fresh_fit[:30].copy()
    with pytest.warns(UserWarning, match="fitted on 60 cells, and 30 of them are among the 30 that are refitted"):
        tl.null_check(some, **ONCE)
    assert refits


def test_more_cells_than_were_fitted_are_warned_of(fresh_fit: AnnData, refits: list[dict[str, Any]]) -> None:
    fresh_fit.obs.loc[fresh_fit.obs_names[:20], "scratio_fold"] = -1
    with pytest.warns(UserWarning, match="and 40 of them are among the 60 that are refitted"):
        tl.null_check(fresh_fit, **ONCE)
    assert refits


@pytest.mark.parametrize("missing", [["ctrl", "stim"], ["stim"]])
def test_cells_of_one_side_or_none_are_refused(fresh_fit: AnnData, unchanged: Unchanged, *, missing: list[str]) -> None:
    own = fresh_fit.obs["condition"].astype(object)
    fresh_fit.obs["condition"] = own.where(~own.isin(missing), np.nan)
    with unchanged(fresh_fit), pytest.raises(ValueError, match=r"No cells of 'condition=stim' .*in the target"):
        tl.null_check(fresh_fit, **ONCE)


@pytest.mark.parametrize(
    ("target", "reference", "absent"),
    [
        (["stim", "drug/high"], "ctrl", "condition=drug/high"),
        ({"condition": "stim", "donor": "d2"}, {"condition": "ctrl", "donor": "d2"}, "condition=stim, donor=d2"),
    ],
)
def test_every_level_of_a_side_needs_cells(cells: AnnData, *, target: Any, reference: Any, absent: str) -> None:
    some = cells[~cells.obs["condition"].isin(["drug/high"]) & (cells.obs["donor"] == "d1")].copy()
    with pytest.raises(ValueError, match=f"No cells of '{absent}'"):
        tl.null_check(some, target=target, reference=reference, key="by_donor", progress=False)


def test_own_labels_that_the_flow_does_not_know_are_refused(cells: AnnData, refits: list[dict[str, Any]]) -> None:
    cells.obs["donor"] = "d9"
    with pytest.raises(ValueError, match="None of the 35 cells has a log ratio: their own labels in 'donor'"):
        tl.null_check(cells, **ONCE, key="by_donor")
    assert not refits


def test_device_of_the_fit_may_be_gone(
    fresh_fit: AnnData, refits: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fresh_fit.uns["scratio"]["params"]["device"] = "cuda:99"
    tl.null_check(fresh_fit, **ONCE)
    assert refits[0]["device"] == "auto"


@pytest.mark.parametrize("damage", [{"n_members": None}, {"n_members": 0}, {"max_steps": "many"}])
def test_damaged_params_are_refused(fresh_fit: AnnData, damage: dict[str, Any]) -> None:
    fresh_fit.uns["scratio"]["params"] |= damage
    with pytest.raises(ValueError, match=r"damaged at 'params' .*with `scratio\.tl\.fit\(adata, 'condition'\)`"):
        tl.null_check(fresh_fit, **ONCE)


def test_params_that_lack_an_argument_are_refused(fresh_fit: AnnData) -> None:
    del fresh_fit.uns["scratio"]["params"]["n_members"]
    with pytest.raises(ValueError, match=r"damaged at 'params' \('n_members'\)"):
        tl.null_check(fresh_fit, **ONCE)


def root_mean_square(ratio: np.ndarray) -> float:
    return float(np.sqrt((ratio**2).mean()))


def test_observed_size_is_that_of_the_log_ratio(fresh_fit: AnnData, refits: list[dict[str, Any]]) -> None:
    """Which is out of fold."""
    tl.log_ratio(fresh_fit, **SIDES, progress=False)
    tl.null_check(fresh_fit, **ONCE)
    expected = root_mean_square(fresh_fit.obs["log_ratio"].to_numpy())
    assert fresh_fit.uns["null_check"]["observed"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:The flow was fitted on 240 cells")
def test_size_of_a_refit_is_that_of_its_own_folds_and_labels(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow stands in for the refit; without `donor`, a side is of the donor that a cell is said to be of."""
    flow, given = read_flow_and_cells(cells, "joint")
    labels: list[np.ndarray] = []

    def fit_flow(_: np.ndarray, text: np.ndarray, **__: Any) -> tuple[ConditionalFlow, np.ndarray]:
        labels.append(text)
        return flow, given.fold

    monkeypatch.setattr(_null_check, "fit_flow", fit_flow)
    sides = {name: {"condition": level} for name, level in SIDES.items()}
    tl.null_check(cells, **{**ONCE, **sides}, key="joint")
    own = cells.obs[["condition", "donor"]].astype(str).to_numpy()
    real, null = (flow.log_ratio(given.x, **sides, own=each, fold=given.fold) for each in (own, labels[0]))
    told = ~real.far.all(1) & np.all([observed(flow, 35, [*sides.values()], own=each) for each in (own, labels[0])], 0)
    assert 0 < told.sum() < 35
    assert cells.uns["null_check"]["null"] == pytest.approx(root_mean_square(null.value[told]))


def test_bandwidth_is_that_of_all_ratios(fresh_fit: AnnData, refits: list[dict[str, Any]]) -> None:
    """The flow of the fit stands in for the refit."""
    x, flow = fresh_fit.obsm["X_pca"], get.flow(fresh_fit)
    tl.null_check(fresh_fit, **ONCE, bandwidth=0.5)
    assert refits
    result = fresh_fit.uns["null_check"]
    assert result["params"]["bandwidth"] == 0.5
    assert result["null"] == pytest.approx(root_mean_square(flow.log_ratio(x, **SIDES, bandwidth=0.5).value))


def test_real_ratio_is_larger_than_that_of_permuted_labels(fresh_fit: AnnData) -> None:
    tl.null_check(fresh_fit, **SIDES, n_permutations=2, progress=False)
    result = fresh_fit.uns["null_check"]
    assert result["null"].shape == result["q95_null"].shape == (2,)
    assert result["observed"] > result["null"].max()


def test_same_seed_gives_the_same_null(fresh_fit: AnnData) -> None:
    found = [tl.null_check(fresh_fit, **SIDES, n_permutations=1, progress=False, copy=True) for _ in range(2)]
    assert found[0].uns["null_check"]["null"] == found[1].uns["null_check"]["null"]


def test_copy_leaves_the_cells_alone(fresh_fit: AnnData) -> None:
    tl.null_check(fresh_fit, **SIDES, n_permutations=1, progress=False, copy=True)
    assert "null_check" not in fresh_fit.uns


def test_no_permutations_are_refused(fresh_fit: AnnData) -> None:
    with pytest.raises(ValueError, match="n_permutations=0, expected an integer of 1 or more"):
        tl.null_check(fresh_fit, **SIDES, n_permutations=0)


@pytest.mark.parametrize(
    "sides",
    [
        ({"donor": "d1"}, {"donor": "d2"}),
        ({"condition": "stim", "donor": "d1"}, {"condition": "ctrl", "donor": "d2"}),
    ],
)
def test_difference_that_is_not_permuted_is_refused(
    fitted: AnnData, unchanged: Unchanged, sides: tuple[Any, Any]
) -> None:
    with unchanged(fitted), pytest.raises(ValueError, match="differ in 'donor', the null would hold that difference"):
        tl.null_check(fitted, target=sides[0], reference=sides[1], key="by_donor", progress=False)


@pytest.mark.filterwarnings("ignore:.*is not what the flow was fitted on")
def test_cells_like_none_of_the_fit_are_refused(fresh_fit: AnnData) -> None:
    fresh_fit.obs["scratio_fold"] = -1
    fresh_fit.obsm["X_pca"] = fresh_fit.obsm["X_pca"] + 100
    with pytest.raises(ValueError, match="None of the 60 cells is like those"):
        tl.null_check(fresh_fit, **ONCE)


def test_cells_of_labels_that_the_fit_has_not_seen_are_counted(
    fresh_fit: AnnData, refits: list[dict[str, Any]]
) -> None:
    fresh_fit.obs["condition"] = fresh_fit.obs["condition"].astype(str)
    fresh_fit.obs.iloc[:10, fresh_fit.obs.columns.get_loc("condition")] = "renamed"
    with pytest.warns(UserWarning, match=r"10 cells have labels in 'condition' .* \('renamed'\), and take no part"):
        tl.null_check(fresh_fit, **ONCE)
    assert refits
