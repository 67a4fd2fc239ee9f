"""Decides how many processes score, by what they save and what they need."""

from __future__ import annotations

START_SECONDS = 20.0
"""Time until a new worker scores: it imports torch and transformers and loads the model."""

PROCESS_BYTES = 2**30
"""Memory of a worker besides the weights: Python with its libraries, and one batch."""

_WEIGHTS_FACTOR = 1.3
"""Memory while weights are loaded, over their size."""

_THREAD_GAIN = 0.7
"""What a further thread adds to the rate of a process, over its rate on one (bench_eval.py)."""


def choose_workers(
    n_pieces: int, seconds: float, weights: int, *, threads: int, cores: int, free: int
) -> int:
    """Returns the number of worker processes that end soonest; 1: score in this process.

    Args:
        n_pieces: pieces that are left.
        seconds: time that they take on one thread.
        weights: bytes of the model's weights, of which each worker has its own.
        threads: threads that this process would use.
        cores: cores that may be used.
        free: bytes of memory that are free.
    """
    needed = PROCESS_BYTES + int(_WEIGHTS_FACTOR * weights)
    workers = min(cores, n_pieces, free // needed)
    alone = seconds / (1 + _THREAD_GAIN * (threads - 1))
    if workers < 2 or START_SECONDS + seconds / workers >= alone:
        return 1
    return workers
