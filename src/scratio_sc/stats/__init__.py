"""Statistics whose unit is the sample: pure numpy."""

from __future__ import annotations

from scratio_sc.stats._abundance import Abundance
from scratio_sc.stats._permutation import PermutationTest, Relabelling

__all__ = ["Abundance", "PermutationTest", "Relabelling"]
