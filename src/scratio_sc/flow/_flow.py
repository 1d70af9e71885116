"""The trained model: several members, and what is needed to ask them questions."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scratio_sc.flow import _storage
from scratio_sc.flow._arguments import check_bandwidth, check_method, generator_of
from scratio_sc.flow._bandwidth import choose_weights, cut_at, cut_weights
from scratio_sc.flow._baselines import BASELINES
from scratio_sc.flow._batches import asked, own_row
from scratio_sc.flow._calibration import Judged
from scratio_sc.flow._contrast import SideSpec, named_levels, side_of
from scratio_sc.flow._denoising_ratio import N_NODES, nodes
from scratio_sc.flow._device import choose_device
from scratio_sc.flow._draws import draw_cells
from scratio_sc.flow._judges import judges_of, rivals_of
from scratio_sc.flow._log_ratio import LogRatio
from scratio_sc.flow._member import Member
from scratio_sc.flow._ode_scores import ode_densities, ode_ratios
from scratio_sc.flow._scores import Scores, denoising_scores
from scratio_sc.flow._standard_error import standard_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._held_out import HeldOut

Method = Literal["denoising", "ode"]
CONTRAST = np.array([1.0, -1.0])
LONGEST = 80
"""Letters for the levels of a column where a flow is shown."""


@dataclass(repr=False)
class ConditionalFlow:
    """Conditional density of cells, as a denoiser trained by flow matching.

    Knows arrays, not AnnData. Made by :func:`scratio_sc.flow.fit_flow`, `load` or :func:`scratio_sc.get.flow`.

    Attributes
    ----------
    design
        Columns, labels and groups of the fit.
    scale
        The embedding is divided by this before anything else.
    members
        Networks with their anchors; member ``m`` has not seen the cells of fold ``left_out[m]``.
    left_out
        Fold that each member left out, ``(n_members,)``.
    held_out
        Log likelihoods of cells by members that had not seen them: they choose the bandwidth of every contrast.
    support
        Log density (nats, scaled embedding) below which a cell counts as far from all cells of a condition,
        ``(n_conditions,)``.
    history
        ``step (k,)``, and ``loss`` and ``held_out_loss (k, n_trained)`` of the members that were trained.
    seed
        Seed of the noise that log likelihoods are averaged over.
    sketch
        Cells of the fit along random directions, and their folds ``(k, 4)``, by which they are known again.
    withheld
        Square of what shrinking may have withheld of the effect of each feature on the log weights, nats²,
        ``(n_features, m, max m_p)``: of components ``m`` with those of the same partition.
    hidden_moves
        Square of the moves of components that shrinking may have withheld, in their standard deviations,
        ``(n_features, m)``.
    embedding
        Name of the embedding that the cells of the fit were in; empty where nobody said.

    Examples
    --------
    >>> import numpy as np
    >>> from scratio_sc.flow import fit_flow
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(1, 1, (500, 2))])
    >>> labels = np.repeat(["ctrl", "stim"], 500)
    >>> flow, fold = fit_flow(x, labels, max_steps=20, n_members=2)
    >>> flow.log_ratio(x, "stim", "ctrl", fold=fold).value.shape
    (1000,)
    """

    design: Design
    scale: float
    members: list[Member]
    left_out: np.ndarray
    held_out: HeldOut
    support: np.ndarray
    history: dict[str, np.ndarray]
    seed: int
    sketch: np.ndarray
    withheld: np.ndarray
    hidden_moves: np.ndarray
    embedding: str = ""

    def __repr__(self) -> str:
        columns = [f"{column} of {shorten(self.design.choices(column), LONGEST)}" for column in self.design.columns]
        found = f"networks {'silent' if self.silent else 'trained'}"
        found += ", a second opinion" if len(self.members[0].anchor.tilt) else ""
        fitted = f"{self.design.sizes.sum()} cells, {self.n_dims} dimensions, {'; '.join(columns)}"
        return f"<ConditionalFlow: {fitted}; {len(self.members)} members, {found}>"

    @property
    def n_dims(self) -> int:
        """Dimensions of the embedding."""
        return len(self.members[0].anchor.center)

    @property
    def silent(self) -> bool:
        """Whether networks have nothing to say; where the first one has not, the others were not trained."""
        return self.members[0].network.silent

    @property
    def node_bandwidths(self) -> np.ndarray:
        """Width of the Gaussian kernel down to which each node sees, in the embedding's units, ``(n_nodes,)``."""
        return nodes().bandwidth * self.scale

    def to(self, device: str) -> ConditionalFlow:
        """The same flow on another device; this one stays where it is.

        Parameters
        ----------
        device
            ``"auto"``, or a name such as ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        ValueError
            If there is no device of that name.
        """
        target = choose_device(device)
        members = [Member(member.anchor, copy.deepcopy(member.network), target) for member in self.members]
        return ConditionalFlow(**{**vars(self), "members": members})

    def log_ratio(
        self,
        x: ArrayLike,
        target: SideSpec,
        reference: SideSpec,
        *,
        own: np.ndarray | None = None,
        fold: np.ndarray | None = None,
        method: Method = "denoising",
        bandwidth: float | Literal["auto"] = "auto",
        progress: bool = False,
    ) -> LogRatio:
        """Log ratio of cells under two sides.

        Parameters
        ----------
        x
            Cells ``(n, d)`` in the embedding of the fit.
        target, reference
            A level, several or all (``...``; their mixture), or {column: level or levels}. Of a column of numbers,
            any number.
        own
            Each cell's own labels ``(n, n_columns)``, needed for columns that a side does not name.
        fold
            Fold of each cell in the fit ``(n,)``, -1 for cells that were not in it: a cell is scored by the members
            that did not see it where there are any. Without it, all members score all cells.
        method
            ``"denoising"`` sums the denoising identity, ``"ode"`` follows the probability flow (slow; the finest
            bandwidth only).
        bandwidth
            ``"auto"`` averages those that predict held-out cells as well as the best, 0 is the plain ratio, a number
            fixes the width of the kernel in the embedding's units.
        progress
            Whether to show a progress bar.

        Returns
        -------
        LogRatio
            Of cells whose own label is needed and was not fitted, NaN.

        Raises
        ------
        KeyError
            If a side names a level or column that was not fitted.
        ValueError
            If cells have other dimensions than those fitted, `own` or `fold` do not go with them, a column is neither
            named nor given by `own`, `method` or `bandwidth` do not exist, or ``"ode"`` is asked for a mixture or for
            another bandwidth than 0.
        TypeError
            If the condition has several columns and a side does not name them, or an argument is of another type.
        """
        check_method(method)
        weights = self.weights(target, reference, bandwidth=check_bandwidth(bandwidth, method))
        n = len(x := np.asarray(x))
        value, sd, far = np.full(n, np.nan), np.full(n, np.nan), np.zeros((n, 2), bool)
        score = self._ode_scores if method == "ode" else partial(self.scores, weights=weights)
        for batch in score(x, [target, reference], own=own, fold=fold, progress=progress):
            ratios, by_partition = (part[..., 0] - part[..., 1] for part in (batch.by_member, batch.by_partition))
            value[batch.cells] = batch.value[:, 0] - batch.value[:, 1]
            withheld = batch.withheld @ CONTRAST @ CONTRAST
            sd[batch.cells] = standard_error(ratios, by_partition, self.left_out, withheld=withheld)
            far[batch.cells] = batch.far
        return LogRatio(value, sd, far, weights)

    def log_likelihood(
        self,
        x: ArrayLike,
        condition: SideSpec,
        *,
        own: np.ndarray | None = None,
        fold: np.ndarray | None = None,
        method: Method = "denoising",
        progress: bool = False,
    ) -> np.ndarray:
        """Log density log p(x | condition) of cells.

        Parameters
        ----------
        x, own, fold, method, progress
            As in `log_ratio`.
        condition
            As the sides of `log_ratio`.

        Returns
        -------
        Nats, in the units of the embedding, ``(n,)``; NaN where a cell's own label is needed and was not fitted.

        Raises
        ------
        KeyError, ValueError, TypeError
            As `log_ratio`; ``"ode"`` takes mixtures here.
        """
        check_method(method)
        value = np.full(len(x := np.asarray(x)), np.nan)
        score = self._ode_scores if method == "ode" else self.scores
        for batch in score(x, [condition], own=own, fold=fold, progress=progress):
            value[batch.cells] = batch.value[:, 0]
        return value

    def scores(
        self,
        x: ArrayLike,
        sides: Sequence[SideSpec],
        *,
        own: np.ndarray | None = None,
        fold: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        progress: bool = False,
    ) -> Iterator[Scores]:
        """Log densities of cells under several sides, batch by batch.

        Parameters
        ----------
        x, own, fold, progress
            As in `log_ratio`.
        sides
            As the sides of `log_ratio`; ``{}`` is each cell's own combination of levels.
        weights
            Weights of the nodes ``(n_nodes,)``, see `weights`. All count fully by default: the finest bandwidth.

        Yields
        ------
        Scores
            Of some of the cells, nats. Cells whose own level is needed and was not fitted are in no batch.

        Raises
        ------
        KeyError, ValueError, TypeError
            As `log_ratio`.
        """
        x = self._cells(x)
        weights = np.ones(N_NODES) if weights is None else weights
        by_fold = not self.silent  # which directions a member takes goes by those that judge
        split: dict[str, Any] = {"own": own, "fold": fold, "left_out": self.left_out, "by_fold": by_fold}
        for batch, mixtures in asked(self.design, len(x), sides, progress=progress, **split):
            yield denoising_scores(self, x[batch.cells], batch, sides=mixtures, weights=weights)

    def sample(
        self, n: int, condition: SideSpec, *, own: np.ndarray | None = None, rng: int | np.random.Generator | None = 0
    ) -> np.ndarray:
        """Draw cells from p(x | condition).

        Parameters
        ----------
        n
            How many.
        condition
            As the sides of `log_ratio`.
        own
            Labels ``(n_columns,)`` that stand for columns which `condition` does not name.
        rng
            Seed or generator that all randomness comes from.

        Returns
        -------
        Cells in the embedding of the fit, ``(n, d)``.

        Raises
        ------
        KeyError
            If a level or column was not fitted.
        ValueError
            If a column is neither named nor given by `own`.
        """
        named = named_levels(self.design, condition)
        side = side_of(self.design, named, own_row(self.design, named, own))
        return draw_cells(self, n, side, rng=generator_of(rng))

    def weights(
        self, first: SideSpec, second: SideSpec, *others: SideSpec, bandwidth: float | Literal["auto"] = "auto"
    ) -> np.ndarray:
        """Weights of the nodes for a contrast of two or more sides.

        Parameters
        ----------
        first, second, *others
            As the sides of `log_ratio`.
        bandwidth
            As in `log_ratio`.

        Returns
        -------
        Coarse to fine, ``(n_nodes,)``, from 1 downwards.

        Raises
        ------
        KeyError, ValueError, TypeError
            As `log_ratio`.
        """
        width = check_bandwidth(bandwidth, "denoising")
        if width == "auto":
            return choose_weights(rivals_of(self, first, second, *others))
        return cut_weights(cut_at(width / self.scale, nodes().bandwidth), N_NODES)

    def judge(self, target: SideSpec, reference: SideSpec, weights: np.ndarray) -> Judged:
        """Held-out cells of a contrast and their ratios by members that had not seen them.

        With ``weights (n_nodes,)`` of the nodes (see `weights`). No cells where none can tell of the contrast.
        """
        held, sides = judges_of(self, target, reference)
        return Judged.of(held, sides, held.parts @ np.asarray(weights, np.float64))

    def judge_baselines(self, target: SideSpec, reference: SideSpec) -> dict[str, Judged]:
        """What `judge` gives by Gaussian conditions, fitted to the same cells: `Judged` by the name of the baseline."""
        held, sides = judges_of(self, target, reference)
        each = zip(BASELINES, np.moveaxis(held.baselines, 2, 0), strict=True)
        return {name: Judged.of(held, sides, part) for name, part in each}

    def save(self, path: str | Path) -> None:
        """Write the flow as a safetensors file.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist.
        """
        _storage.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> ConditionalFlow:
        """Read a flow written by `save`.

        Parameters
        ----------
        path
            The file.
        device
            As in `to`.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a safetensors file, or holds no flow, a damaged one or one of another format version.
        """
        return _storage.load(Path(path), device=device)

    def _cells(self, x: ArrayLike) -> np.ndarray:
        cells = np.asarray(x, np.float64)
        if cells.ndim != 2 or cells.shape[1] != self.n_dims:
            msg = f"The cells have shape {cells.shape}, but the flow was fitted on {self.n_dims} dimensions."
            raise ValueError(msg)
        return cells / self.scale

    def _ode_scores(self, x: ArrayLike, sides: Sequence[SideSpec], **options: Any) -> Iterator[Scores]:
        """As `scores`, along the probability flow: of one side, or of two with the second counting as 0."""
        x = self._cells(x)
        score = ode_densities if len(sides) == 1 else ode_ratios
        options |= {"left_out": self.left_out, "by_fold": True}
        for batch, mixtures in asked(self.design, len(x), sides, **options):
            yield score(self, x[batch.cells], batch, sides=mixtures)
