"""Results as plots find them: entries of `uns`, and the columns that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scratio_sc._check import function_of
from scratio_sc._keys import RatioKeys
from scratio_sc.flow._arguments import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def names_of(keys: Any, what: str) -> list[str]:
    """One or several names of results; `what` they are, for a message."""
    names = [keys] if isinstance(keys, str) or not isinstance(keys, Iterable) else list(keys)
    if not all(isinstance(name, str) for name in names):
        refuse("keys", keys, f"the name of one {what}, or of several", types=())
    if not names:
        msg = f"`keys` has to name at least one {what}."
        raise ValueError(msg)
    return names


def entry_of(adata: AnnData, key: str, what: str, *, of: Sequence[str], call: str) -> Mapping[str, Any]:
    """An entry of `uns` that one of some functions of `tl` wrote.

    Else a KeyError says `what` is missing, which function wrote what is there, and the `call` to run.
    """
    entry = adata.uns.get(key)
    function = function_of(entry)
    if isinstance(entry, Mapping) and function in of:
        return entry
    instead = f", which is of `scratio.tl.{function}`" if function else ""
    msg = f"No {what} in `adata.uns[{key!r}]`{instead}. Run {call} first."
    raise KeyError(msg)


def refuse_unsigned(adata: AnnData, key: str, *, instead: str) -> None:
    """Refuse a column that has no middle which colours could be centred at; `instead` is a call that draws it."""
    if function_of(adata.uns.get(key)) == "log_density":
        msg = (
            f"`adata.obs[{key!r}]` is a log density, where 0 means nothing: its colours are not to be centred there. "
            f"Draw it with `{instead}`."
        )
        raise ValueError(msg)
    for ratio in (name for name, entry in adata.uns.items() if RatioKeys(name).sd == key and function_of(entry)):
        msg = (
            f"`adata.obs[{key!r}]` is the standard error of {ratio!r} and has no sign: its colours are not to be "
            f"centred at 0. Draw it with `{instead}`."
        )
        raise ValueError(msg)


def check_columns(adata: AnnData, columns: Iterable[str], *, key: str, function: str) -> None:
    """Refuse a result whose columns are gone from `obs`."""
    for column in columns:
        if column not in adata.obs:
            msg = f"No {column!r} in `adata.obs`. Run `scratio.tl.{function}(adata, ..., key_added={key!r})` again."
            raise KeyError(msg)
