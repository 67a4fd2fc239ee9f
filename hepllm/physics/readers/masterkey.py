"""Reads master keys: text files with one label per line, in the order of the events."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hepllm.arrays import RawLabels
from hepllm.errors import InputError
from hepllm.physics.readers.content import is_number

HIGHEST_LABEL = 2
"""Black box 3 labels its two decay modes 1 and 2."""


def read_masterkey(path: Path, n_events: int) -> RawLabels:
    """Reads the labels of ``n_events`` events, ``0.0`` or ``1.0`` (black box 3: 0, 1 or 2) each.

    Returns:
        Shape (n_events,): 0 background, above 0 signal.

    Raises:
        InputError: the file is missing, holds something else, or has another number of labels.
    """
    try:
        words = path.read_bytes().split()
    except FileNotFoundError:
        raise InputError(f"{path}: no such master key") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        labels = np.array(words, dtype="S16").astype(np.float64)
    except ValueError:
        line, word = next(item for item in enumerate(words, 1) if not is_number(item[1]))
        found = word[:20].decode(errors="replace")
        raise InputError(f"{path}: entry {line}: expected 0.0 or 1.0, found '{found}'") from None
    wrong = ~np.isin(labels, np.arange(HIGHEST_LABEL + 1))
    if wrong.any():
        line = int(np.argmax(wrong)) + 1
        raise InputError(f"{path}: entry {line}: expected 0.0 or 1.0, found {labels[line - 1]:g}")
    if len(labels) != n_events:
        raise InputError(
            f"{path}: {len(labels)} labels for {n_events} events; is it the key of this file?"
        )
    return labels.astype(np.int16)
