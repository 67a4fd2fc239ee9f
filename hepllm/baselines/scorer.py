"""The interface of the classifiers that the model is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.config import FusionConfig
from hepllm.errors import InputError
from hepllm.schema import BACKGROUND, SIGNAL

_MIN_EVENTS = 20


class Scorer(Protocol):
    """A trained classifier."""

    def score(self, features: Floats, hypothesis: NDArray[np.object_] | None = None) -> Floats:
        """Scores events, shape (N,), with features (N, F), NaN where missing, as in the training.

        The hypothesis of each event, shape (N,), is read by those that were trained with it.

        Scores are larger for signal: logits for the class balance of the training events, except
        for a cut, whose score only ranks events.
        """
        ...


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """The events that the model was trained on.

    Attributes:
        features: (N, F), NaN where missing.
        names: names of the F features.
        label: (N,), 1 for signal and 0 for background.
        weight: (N,), may be negative; None for 1 each.
        seed: seed of all random numbers.
        fusion: numerical embedding of the model, for a baseline that shares it.
        hypothesis: (N,), the ``Hypothesis`` under which each event is shown; None without.
        disco: weight in the loss of the dependence of score and m_jj of background, for a baseline
            that is trained by gradients.
        m_jj: (N,) in GeV; None where ``disco`` is 0.
    """

    features: Floats
    names: tuple[str, ...]
    label: NDArray[np.integer]
    weight: Floats | None = None
    seed: int = 1
    fusion: FusionConfig = field(default_factory=FusionConfig)
    hypothesis: NDArray[np.object_] | None = None
    disco: float = 0.0
    m_jj: Floats | None = None

    def check(self) -> None:
        """Refuses events that no classifier can be trained on.

        Raises:
            InputError: for infinite features, other labels, fewer than 20 events of a class, or a
                class whose weights do not sum to a positive number.
        """
        features, labels, weight = self.features, self.label, self.weight
        if features.ndim != 2 or labels.shape != features.shape[:1]:
            raise InputError(
                f"training features of shape {features.shape} do not fit labels of {labels.shape}"
            )
        infinite = np.flatnonzero(np.isinf(features).any(axis=1))
        if len(infinite):
            rows = f"{len(infinite)} rows, the first is {infinite[0]}"
            raise InputError(f"training features are infinite in {rows}")
        if not np.isin(labels, (SIGNAL, BACKGROUND)).all():
            raise InputError(
                f"training labels must be {SIGNAL} or {BACKGROUND}, found {np.unique(labels)}"
            )
        for name, chosen in (("signal", labels == SIGNAL), ("background", labels == BACKGROUND)):
            if np.count_nonzero(chosen) < _MIN_EVENTS:
                raise InputError(
                    f"a baseline needs {_MIN_EVENTS} training events of each class, found "
                    f"{np.count_nonzero(chosen)} {name} events; train on more events, or set "
                    "evaluation.baselines=[]"
                )
            if weight is not None and not weight[chosen].sum() > 0:
                raise InputError(
                    f"the {name} weights of the training events do not sum to a positive number"
                )


Fit = Callable[[TrainingSample], Scorer]
