"""Views: the events of a split that are used, as a pure function of labels and seed."""

from __future__ import annotations

import numpy as np

from hepllm.arrays import Ints, Labels
from hepllm.schema import BACKGROUND, SIGNAL


def balanced_view(labels: Labels, balance: str, seed: int) -> Ints:
    """Chooses events with a ratio of signal to background.

    Takes all events of the class that is rarer than the ratio asks, samples the other class without
    replacement, and never takes events of unknown label. The ``balance`` is ``natural`` or
    ``signal:background``, such as ``1:10``. Returns sorted indices.
    """
    signal = np.flatnonzero(labels == SIGNAL)
    background = np.flatnonzero(labels == BACKGROUND)
    if balance == "natural":
        return np.sort(np.concatenate([signal, background]))
    n_signal, n_background = (int(part) for part in balance.split(":"))
    unit = min(len(signal) / n_signal, len(background) / n_background)
    sizes = [round(unit * n_signal), round(unit * n_background)]
    return _sample([signal, background], sizes, [seed, 0])


def validation_view(labels: Labels, limit: int, seed: int) -> Ints:
    """Chooses at most ``limit`` events, up to half of them from the rarer class.

    AUC and SIC are ratios within a class, so this reduces their errors without a bias. Events of
    unknown label are never chosen. Returns sorted indices.
    """
    classes = [np.flatnonzero(labels == SIGNAL), np.flatnonzero(labels == BACKGROUND)]
    rarer, commoner = sorted(classes, key=len)
    n_rarer = min(len(rarer), limit // 2)
    return _sample([rarer, commoner], [n_rarer, limit - n_rarer], [seed, 3])


def _sample(classes: list[Ints], sizes: list[int], seed: list[int]) -> Ints:
    """Samples up to the given number of each class without replacement."""
    generator = np.random.default_rng(seed)
    chosen = [
        generator.choice(indices, size=min(len(indices), size), replace=False)
        for indices, size in zip(classes, sizes, strict=True)
    ]
    return np.sort(np.concatenate(chosen))
