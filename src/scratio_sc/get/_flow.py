"""The stored flow as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scratio_sc._check import read_flow

if TYPE_CHECKING:
    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow


def flow(adata: AnnData, key: str = "scratio") -> ConditionalFlow:
    """Get the flow that :func:`scratio_sc.tl.fit` stored.

    Parameters
    ----------
    adata
        Reads `adata.uns[key]`; nothing is written.
    key
        Slot of `adata.uns` with the fitted flow.

    Returns
    -------
    The flow, pure torch and numpy: score other cells with it, save it as a file, pass it to
    :func:`scratio_sc.tl.log_ratio`. It is on the device of the fit where this machine has that; `to` moves it.

    Raises
    ------
    KeyError
        If there is no such slot.
    ValueError
        If the slot is damaged or of another format version.
    TypeError
        If `adata` is no AnnData.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=20, n_members=2, progress=False)
    >>> scratio.get.flow(adata).n_dims
    2
    """
    return read_flow(adata, key)
