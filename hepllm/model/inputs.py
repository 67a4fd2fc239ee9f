"""The inputs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """The inputs of N events.

    Attributes:
        numbers: shape (N, F), features in the model's order in GeV and radians; NaN where missing.
        particles: shape (N, 2, 1 + K, 4), both leading jets, each followed by its K hardest
            constituents: pT in GeV, eta, phi and mass in GeV, NaN where there is none; as
            ``hepllm.data.particles.leading_jets`` makes them. None: not read.
        text: shape (N,), prompts as ``PromptEncoder.write`` makes them; None: the encoder writes
            them from the numbers or, in the layout ``question``, from the hypotheses.
        hypothesis: shape (N,), the ``Hypothesis`` under which each event is scored; None: ``OPEN``
            for all.
    """

    numbers: Floats
    particles: NDArray[np.float32] | None = None
    text: NDArray[np.object_] | None = None
    hypothesis: NDArray[np.object_] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if one part has another number of events."""
        for name, part in self._parts().items():
            if len(part) != len(self):
                raise ValueError(f"{name} of {len(part)} events beside numbers of {len(self)}")

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, events: NDArray[Any] | slice) -> Self:
        """Returns the events of a mask of shape (N,), of an array of positions, or of a slice."""
        return type(self)(**{name: part[events] for name, part in self._parts().items()})

    def exchange(self, order: NDArray[np.intp], *names: str) -> Self:
        """Gives each event some parts of another one, as an ablation does.

        Args:
            order: shape (N,), the event from which each event gets them.
            names: the parts; one that is None stays so.
        """
        parts = self._parts()
        return replace(self, **{name: parts[name][order] for name in names if name in parts})

    @classmethod
    def concatenate(cls, several: Sequence[Self]) -> Self:
        """Joins the events of several inputs; raises ValueError if their parts differ."""
        kinds = {tuple(inputs._parts()) for inputs in several}
        if len(kinds) != 1:
            raise ValueError(f"expected inputs of the same parts, found {sorted(kinds)}")
        (names,) = kinds
        return cls(**{name: np.concatenate([getattr(i, name) for i in several]) for name in names})

    def _parts(self) -> dict[str, NDArray[Any]]:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}
