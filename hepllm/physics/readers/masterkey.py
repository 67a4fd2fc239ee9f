"""Master keys: text files with one label a line, in the order of the events."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hepllm.arrays import RawLabels
from hepllm.errors import InputError

HIGHEST_LABEL = 2
"""Black box 3 tells its two decay modes apart as 1 and 2."""


def read_masterkey(path: Path, n_events: int) -> RawLabels:
    """Reads a master key.

    Args:
        path: text file with ``0.0`` or ``1.0`` (black box 3: 0, 1 or 2) a line.
        n_events: number of events that it must tell about.

    Returns:
        Shape (n_events,): 0 background, above 0 signal.

    Raises:
        InputError: the file is missing, not such a text, or has another length.
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
        line = next(i for i, word in enumerate(words, start=1) if not _is_number(word))
        found = words[line - 1][:20].decode(errors="replace")
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


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
