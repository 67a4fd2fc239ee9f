"""What every classifier that the model is compared with gets, and what it must be able to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepllm.arrays import Floats
from hepllm.config import FusionConfig
from hepllm.errors import InputError
from hepllm.schema import BACKGROUND, SIGNAL

_MIN_EVENTS = 20


class Scorer(Protocol):
    """A trained classifier."""

    def score(self, features: Floats) -> Floats:
        """Scores events.

        Args:
            features: (N, F) in the units and the order of the training; NaN where missing.

        Returns:
            (N,), larger for signal: logits in the balance of the training events, but for a cut,
            whose score says no more than which of two events goes first.
        """
        ...


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """The events that the model was trained on.

    Attributes:
        features: (N, F), NaN where missing.
        names: of the F features.
        label: (N,) of 1 (signal) and 0 (background).
        weight: (N,), may be negative; None for 1 each.
        seed: of everything random.
        fusion: the model's numerical embedding, for a baseline that shares it.
    """

    features: Floats
    names: tuple[str, ...]
    label: NDArray[np.integer]
    weight: Floats | None = None
    seed: int = 1
    fusion: FusionConfig = field(default_factory=FusionConfig)

    def checked(self) -> TrainingSample:
        """Itself, if a classifier can be trained on it."""
        check_training(self.features, self.label, self.weight)
        return self


Fit = Callable[[TrainingSample], Scorer]


def check_training(features: Floats, label: ArrayLike, weight: Floats | None) -> None:
    """Refuses events that no classifier can be trained on.

    Raises:
        InputError: for infinite features, other labels, fewer than 20 events of a class, or a
            class whose weights do not sum to a positive number.
    """
    labels = np.asarray(label)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise InputError(
            f"training features of shape {features.shape} do not fit labels of {labels.shape}"
        )
    infinite = np.flatnonzero(np.isinf(features).any(axis=1))
    if len(infinite):
        raise InputError(
            f"training features are infinite in {len(infinite)} rows, the first is {infinite[0]}"
        )
    if not np.isin(labels, (SIGNAL, BACKGROUND)).all():
        raise InputError(
            f"training labels must be {SIGNAL} or {BACKGROUND}, found {np.unique(labels)}"
        )
    for name, chosen in (("signal", labels == SIGNAL), ("background", labels == BACKGROUND)):
        if np.count_nonzero(chosen) < _MIN_EVENTS:
            raise InputError(
                f"a baseline needs {_MIN_EVENTS} training events of each class, "
                f"found {np.count_nonzero(chosen)} {name} events; train on more, or leave them out "
                "with evaluation.baselines=[]"
            )
        if weight is not None and not weight[chosen].sum() > 0:
            raise InputError(
                f"the {name} weights of the training events do not sum to a positive number"
            )
