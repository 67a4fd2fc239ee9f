"""The signals that a model was trained on, and what of a hypothesis lies outside of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Self

from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.hypotheses.signal import PRONGS, Decay, Signal
from hepllm.records import Gev, Record

_SLACK = 0.03
"""Share by which a mass may lie outside, because masses are rounded."""


class TrainedRange(Record):
    """The signals of a training."""

    heavier_min: Gev
    """Smallest mass of the heavier of X and Y."""
    heavier_max: Gev
    """Largest mass of the heavier one."""
    lighter_min: Gev
    """Smallest mass of the lighter one."""
    lighter_max: Gev
    """Largest mass of the lighter one."""
    decays: tuple[Decay, ...]
    """Decays of X and Y."""

    @classmethod
    def of(cls, signals: Iterable[Signal]) -> Self:
        """The range of some signals. The mass of a single quark is not known, and left out.

        Raises:
            InputError: if no mass is known.
        """
        known = list(signals)
        heavier, lighter = (
            (
                [mass for mass in side if not math.isnan(mass)]
                for side in zip(*(one.masses for one in known), strict=True)
            )
            if known
            else ([], [])
        )
        if not heavier:
            raise InputError("a range of hypotheses needs signals of known masses")
        lighter = lighter or heavier
        found = {decay for one in known for decay in one.decays if decay is not None}
        return cls(
            heavier_min=min(heavier),
            heavier_max=max(heavier),
            lighter_min=min(lighter),
            lighter_max=max(lighter),
            decays=tuple(sorted(found, key=list(PRONGS).index)),
        )


def outside(hypothesis: Hypothesis, trained: TrainedRange) -> list[str]:
    """Says, one sentence each, what of a hypothesis the training never had."""
    sentences = []
    first, second = hypothesis.masses
    lowest, highest = trained.heavier_min, trained.heavier_max
    if math.isnan(second):  # A mass alone may be that of either.
        lowest = trained.lighter_min
    for mass, low, high in (
        (first, lowest, highest),
        (second, trained.lighter_min, trained.lighter_max),
    ):
        if mass < low * (1 - _SLACK) or mass > high * (1 + _SLACK):
            sentences.append(
                f"the model was trained on particles of {low:g} to {high:g} GeV, "
                f"the hypothesis states {mass:g} GeV"
            )
    known = ", ".join(trained.decays)
    for product in hypothesis.signal.products:
        if product.decay is not None and product.decay not in trained.decays:
            sentences.append(f"the model was trained on decays to {known}, not to {product.decay}")
        elif product.n_prongs not in (None, *(PRONGS[one] for one in trained.decays)):
            sentences.append(
                f"the model was trained on decays to {known}, none of which has "
                f"{product.n_prongs} prongs"
            )
    return list(dict.fromkeys(sentences))
