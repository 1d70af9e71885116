"""Labels of cells from columns of obs."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from scratio_sc import _labels, _sides


def with_column(values: object) -> AnnData:
    column = pd.Series(values)
    column.index = [f"cell_{i}" for i in range(len(column))]
    return AnnData(obs=pd.DataFrame({"label": column}))


def texts(values: object) -> list[str | None]:
    labels = _labels.read_labels(with_column(values), ["label"])
    return [text if known else None for text, known in zip(labels.text[:, 0], labels.known[:, 0], strict=True)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], ["1", "2"]),
        ([1.0, 2.0], ["1", "2"]),
        ([1.0, np.nan], ["1", None]),
        ([1.0, 2.5], ["1", "2.5"]),
        (np.array([0.1, 2], np.float32), ["0.1", "2"]),
        (np.array([0.1], np.float64), ["0.1"]),
        ([True, False], ["True", "False"]),
        (["a", None, np.nan, pd.NA, ""], ["a", None, None, None, ""]),
        (["a/b", "a / b"], ["a/b", "a / b"]),
        (["nan", "None"], ["nan", "None"]),
        (pd.Categorical(["a", None], categories=["z", "a"]), ["a", None]),
        (pd.Categorical([1.0, 2.0]), ["1", "2"]),
        (pd.Categorical([True, False]), ["True", "False"]),
        (pd.array([1, None], dtype="Int8"), ["1", None]),
        (pd.array([1.5, None], dtype="Float32"), ["1.5", None]),
        (pd.array([True, None], dtype="boolean"), ["True", None]),
        (pd.array(["a", None], dtype="string"), ["a", None]),
        ([float("inf"), 1e20], ["inf", "100000000000000000000"]),
        (pd.to_datetime(["2024-01-01"]), ["2024-01-01 00:00:00"]),
        (pd.to_timedelta(["1h"]), ["0 days 01:00:00"]),
        (pd.Series([dt.timedelta(hours=1)], dtype=object), ["0 days 01:00:00"]),
    ],
)
def test_labels_as_text(values, expected):
    assert texts(values) == expected


LABELS = st.one_of(
    st.lists(st.integers(-(2**53), 2**53), min_size=1),
    st.lists(st.floats(allow_nan=False), min_size=1),
    st.lists(st.floats(allow_nan=False, width=32), min_size=1).map(lambda v: np.array(v, np.float32)),
    st.lists(st.booleans(), min_size=1),
    st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), min_size=1),
)


@given(values=LABELS, as_category=st.booleans())
def test_a_label_is_called_by_its_value(values, as_category):
    """Whatever is in a column, the same value names its level as a side of a contrast."""
    column = pd.Series(values, dtype="category" if as_category else None)
    assert texts(column) == [_sides.as_spec(value) for value in values]


@pytest.mark.parametrize(
    "values", [[1, "1", 2], ["True", True, "b"], pd.Categorical([1, "1", "z"]), ["1", 1.0, "b", None]]
)
def test_labels_that_are_one_as_text_are_refused(values) -> None:
    adata = with_column(values)
    with pytest.raises(ValueError, match=r"which are one label as text\. Rename one, or unite them") as refused:
        _labels.read_labels(adata, ["label"])
    exec(str(refused.value).split("`")[1], {"adata": adata})
    labels = _labels.read_labels(adata, ["label"])
    assert len(set(labels.text[labels.known])) == 2


@pytest.mark.parametrize("label", ["nan", "None", "NA", "<NA>", ""])
@pytest.mark.parametrize("dtype", [object, "category"])
def test_text_for_a_missing_label(label, dtype):
    """It is a level, with a warning whose way out can be run."""
    adata = with_column(pd.Series(["a", "b", label] * 20, dtype=dtype))
    with pytest.warns(UserWarning, match=f"20 cells have the label '{label}' in 'label'") as caught:
        _labels.check_levels(_labels.read_labels(adata, ["label"]), 1)
    exec(str(caught[0].message).split("`")[3], {"adata": adata})
    assert adata.obs["label"].isna().sum() == 20


@given(values=st.lists(st.integers(-1000, 1000), min_size=1))
def test_missing_labels_do_not_rename_the_others(values):
    assert texts([*values, np.nan])[:-1] == texts(values)


@pytest.mark.parametrize("condition", ["label", ["label"], ("label",), pd.Index(["label"]), np.array(["label"])])
def test_one_column(condition):
    assert _labels.columns_of(condition, (), with_column([1])) == (("label",), ())


def test_a_set_of_columns_has_an_order():
    assert _labels.columns_of({"b", "c", "a"}, (), with_column([1])) == (("a", "b", "c"), ())


def test_empty_names_are_refused_with_what_mends_it() -> None:
    labels = _labels.read_labels(with_column(["a", "", "", None]), ["label"])
    mended = r"adata.obs\['label'\] = adata.obs\['label'\].mask\(adata.obs\['label'\] == ''\)"
    with pytest.raises(ValueError, match=f"2 cells have an empty label in 'label'.*{mended}"):
        _labels.check_names(labels)
    _labels.check_names(_labels.read_labels(with_column(["a", None]), ["label"]))
