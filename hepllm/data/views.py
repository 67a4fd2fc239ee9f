"""Views: which events of a split are used, as a pure function of labels and seed."""

from __future__ import annotations

import numpy as np

from hepllm.arrays import Ints, Labels
from hepllm.schema import BACKGROUND, SIGNAL


def balanced_view(labels: Labels, balance: str, seed: int) -> Ints:
    """Chooses events so that signal stands to background as stated.

    All of the class that is rarer with respect to the ratio stay; the other is sampled without
    replacement.

    Args:
        labels: shape (N,); events of unknown label are never chosen.
        balance: ``natural`` or ``signal:background``, such as ``1:10``.
        seed: of the sampling.

    Returns:
        Rising indices of the chosen events.
    """
    signal = np.flatnonzero(labels == SIGNAL)
    background = np.flatnonzero(labels == BACKGROUND)
    if balance == "natural":
        return np.sort(np.concatenate([signal, background]))
    share_signal, share_background = (int(part) for part in balance.split(":"))
    unit = min(len(signal) / share_signal, len(background) / share_background)
    generator = np.random.default_rng([seed, 0])
    chosen = [
        generator.choice(indices, size=min(len(indices), round(unit * share)), replace=False)
        for indices, share in ((signal, share_signal), (background, share_background))
    ]
    return np.sort(np.concatenate(chosen))


def validation_view(labels: Labels, limit: int, seed: int) -> Ints:
    """Chooses at most ``limit`` events with as much of the rarer class as there is.

    AUC and SIC are ratios within a class, so this makes them more certain and biases nothing.

    Args:
        labels: shape (N,); events of unknown label are never chosen.
        limit: events at most.
        seed: of the sampling.

    Returns:
        Rising indices of the chosen events.
    """
    classes = [np.flatnonzero(labels == SIGNAL), np.flatnonzero(labels == BACKGROUND)]
    rarer, commoner = sorted(classes, key=len)
    n_rarer = min(len(rarer), limit // 2)
    n_commoner = min(len(commoner), limit - n_rarer)
    generator = np.random.default_rng([seed, 3])
    chosen = [
        generator.choice(indices, size=size, replace=False)
        for indices, size in ((rarer, n_rarer), (commoner, n_commoner))
    ]
    return np.sort(np.concatenate(chosen))
