"""Small cells, flows of some members, their plain ratios, and the exact ones where networks are silent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import multivariate_normal

from scratio_sc.flow import ConditionalFlow

if TYPE_CHECKING:
    from scratio_sc.flow._member import Member

METHODS = ["denoising", "ode"]


def anchor_log_densities(flow: ConditionalFlow, x: np.ndarray, level: str) -> np.ndarray:
    """Log densities of the mixtures that the members start from, in the embedding's units, ``(n_members, n)``."""
    c, out = flow.design.levels[0].index(level), []
    for member in flow.members:
        anchor = member.anchor
        weight = np.exp(anchor.log_weight + anchor.weight_effect[c])
        mean = flow.scale * (anchor.center + (anchor.mean + anchor.mean_effect[c]) @ anchor.basis.T)
        covariance = flow.scale**2 * anchor.basis @ inner_covariances(member, c) @ anchor.basis.T
        density = weight[:, None] * [multivariate_normal(*each).pdf(x) for each in zip(mean, covariance, strict=True)]
        mine = [anchor.partition == p for p in range(anchor.n_parts)]
        out.append(np.mean([np.log(density[part].sum(0) / weight[part].sum()) for part in mine], axis=0))
    return np.stack(out)


def inner_covariances(member: Member, c: int) -> np.ndarray:
    """Covariances of the components of a group in a member's coordinates, ``(m, d, d)``."""
    anchor = member.anchor
    variance, rotation = anchor.variance, anchor.rotation
    if anchor.own_share:
        variance, rotation = anchor.own_variance[c], anchor.own_rotation[c]
    return rotation * variance[:, None] @ rotation.transpose(0, 2, 1)


def exact_ratios(flow: ConditionalFlow, x: np.ndarray, target: str, reference: str) -> np.ndarray:
    """Log ratios of these mixtures, ``(n_members, n)``."""
    return anchor_log_densities(flow, x, target) - anchor_log_densities(flow, x, reference)


def alone(flow: ConditionalFlow, *members: int) -> ConditionalFlow:
    """The flow of some of its members."""
    some = {"members": [flow.members[m] for m in members], "left_out": flow.left_out[list(members)]}
    return ConditionalFlow(**{**vars(flow), **some})


def plain(flow: ConditionalFlow, x: np.ndarray, target: Any, reference: Any, **options: Any) -> np.ndarray:
    """Log ratio at the finest bandwidth."""
    return flow.log_ratio(x, target, reference, **{"bandwidth": 0, **options}).value


def shifts(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Cells of three conditions, few because every change is fitted again."""
    labels = np.repeat(["a", "b", "c"], n // 3)
    x = np.random.default_rng(0).standard_normal((n, 3)) * [2.0, 1.0, 0.5]
    return x + np.repeat([[0.0, 0, 0], [1, 1, 0], [-1, 0.5, 0.5]], n // 3, axis=0), labels


def small(n: int = 60, d: int = 2, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two conditions a deviation apart."""
    labels = np.repeat(["a", "b"], n // 2)
    x = np.random.default_rng(seed).standard_normal((n, d))
    return x + (labels == "b")[:, None], labels
