"""Columns of numbers: what counts as one, and what lies beyond the numbers of a fit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scratio_sc.flow._arguments import closest, named, refuse
from scratio_sc.flow._contrast import named_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scratio_sc.flow import ConditionalFlow

NOT_FINITE = ("inf", "-inf")
LONG_NUMBER = re.compile(r"(?<![\w.])\d+\.\d{4,}(e[+-]?\d+)?(?![\w.])")
"""A number that stands alone, and is no part of a name such as an accession."""


def numeric_of(numeric: Any, columns: Sequence[str]) -> tuple[str, ...]:
    """Which of the columns hold numbers, each named once; None for none of them."""
    if numeric is None:
        return ()
    names = tuple(numeric) if isinstance(numeric, Iterable) and not isinstance(numeric, str) else (numeric,)
    for name in names:
        if not isinstance(name, str):
            refuse(
                "numeric", numeric, "the name of a column of `condition` or `covariates`, or a list of names", types=()
            )
        if name not in columns:
            msg = (
                f"numeric={list(names)!r} names {name!r}, which is neither the condition nor a covariate "
                f"({named(columns)}).{closest(name, columns)} Name it there too, or leave it out of `numeric`."
            )
            raise ValueError(msg)
    return tuple(dict.fromkeys(names))


def check_numbers(column: pd.Series, name: str) -> None:
    """Refuse a column of text, bool or dates, and of categories that are no numbers."""
    kind = column.cat.categories.dtype if isinstance(column.dtype, pd.CategoricalDtype) else column.dtype
    if not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind):
        stored = f"adata.obs[{name!r}]"
        way = _as_numbers(column, kind, stored)
        make = f"Make it one, `{stored} = {way}`, or fit" if way else "Fit"
        holds = f"{named(column.dropna().unique()[:3])} ({column.dtype})"
        msg = (
            f"{stored} counts as a column of numbers, but holds {holds}. "
            f"{make} it as labels: leave it out of `numeric`."
        )
        raise ValueError(msg)


def _as_numbers(column: pd.Series, kind: Any, stored: str) -> str:
    """Code that makes numbers of a column of such a kind; empty where it holds none."""
    if pd.api.types.is_datetime64_any_dtype(kind):
        # categories of dates stay categories in `to_datetime`
        dates = f"pd.to_datetime({stored}.astype(object))"
        return f"({dates} - {dates}.min()) / pd.Timedelta('1D')"
    if pd.api.types.is_timedelta64_dtype(kind):
        return f"pd.to_timedelta({stored}) / pd.Timedelta('1D')"
    try:
        column.astype(float)
    except (TypeError, ValueError):
        return ""
    return f"{stored}.astype(float)"


def rounded(name: str) -> str:
    """A name with four digits of each number that has more, as people read it."""
    return LONG_NUMBER.sub(lambda number: f"{float(number[0]):.4g}", name)


def beyond_fit(flow: ConditionalFlow, sides: Sequence[Any]) -> str:
    """The first number that a side names outside the range of the fit, for a message; empty where there is none."""
    for side in sides:
        for column, levels in named_levels(flow.design, side).items():
            number = flow.design.numbers.get(flow.design.columns.index(column))
            far = [] if number is None else np.array(levels)[~number.covers(np.array(levels))].tolist()
            if far:
                return f"{column}={far[0]:g} ({flow.design.choices(column)} in the fit)"
    return ""
