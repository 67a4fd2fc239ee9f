"""What the model gets of each event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """The inputs of N events.

    Attributes:
        numbers: shape (N, F), features in the model's order in GeV and radians; NaN where missing.
        particles: shape (N, P, 4), ``pt`` (GeV), ``eta``, ``phi`` and number of the jet of the P
            hardest particles, NaN after the last one. Reserved: no model reads them yet, and
            ``PromptEncoder.encode`` refuses them.
        text: shape (N,), prompts as ``PromptEncoder.write`` makes them; None where they are
            written from the numbers.
    """

    numbers: Floats
    particles: NDArray[np.float32] | None = None
    text: NDArray[np.object_] | None = None

    def __post_init__(self) -> None:
        """Checks that all parts are of the same events.

        Raises:
            ValueError: naming the part that is not.
        """
        for name, part in self._parts().items():
            if len(part) != len(self):
                raise ValueError(f"{name} of {len(part)} events beside numbers of {len(self)}")

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, events: NDArray[Any] | slice) -> Self:
        """The events of a mask, shape (N,), of an array of positions, or of a slice."""
        return type(self)(**{name: part[events] for name, part in self._parts().items()})

    @classmethod
    def concatenate(cls, several: Sequence[Self]) -> Self:
        """Events of several inputs with the same parts, in order.

        Raises:
            ValueError: where one has a part that another lacks.
        """
        kinds = {tuple(inputs._parts()) for inputs in several}
        if len(kinds) != 1:
            raise ValueError(f"expected inputs of the same parts, found {sorted(kinds)}")
        (names,) = kinds
        return cls(**{name: np.concatenate([getattr(i, name) for i in several]) for name in names})

    def with_numbers_of(self, order: NDArray[np.intp]) -> Self:
        """The same texts beside the numbers of other events: an ablation of the numbers.

        Args:
            order: shape (N,), the positions of those events.

        Raises:
            ValueError: without ``text``, which would be written from the exchanged numbers; see
                ``PromptEncoder.with_text``.
        """
        return type(self)(self.numbers[order], self.particles, self._written())

    def with_text_of(self, order: NDArray[np.intp]) -> Self:
        """The same numbers beside the texts of other events: an ablation of the text.

        Args:
            order: shape (N,), the positions of those events.

        Raises:
            ValueError: without ``text``, as for ``with_numbers_of``.
        """
        return type(self)(self.numbers, self.particles, self._written()[order])

    def _written(self) -> NDArray[np.object_]:
        if self.text is None:
            raise ValueError("the prompts are not written: use PromptEncoder.with_text first")
        return self.text

    def _parts(self) -> dict[str, NDArray[Any]]:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}
