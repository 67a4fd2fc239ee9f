"""Logging and progress, always on standard error so that standard output carries results only."""

from __future__ import annotations

import logging
import sys
import warnings

from tqdm import tqdm

_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


def configure_logging(verbosity: int = 0) -> None:
    """Sends log records to standard error; -1: only warnings, 0: also progress, 1: details."""
    level = {-1: logging.WARNING, 0: logging.INFO}.get(max(verbosity, -1), logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT, datefmt="%H:%M:%S"))
    logger = logging.getLogger("hepllm")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").handlers[:] = [handler]
    silence_libraries()


def silence_libraries() -> None:
    """Hides what libraries say and a user cannot change; called before they are imported."""
    # bitsandbytes recommends an optional kernel, which would be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # PEFT 0.21 causes this warning in transformers 5.23; a user cannot avoid it.
    message = "`is_gradient_checkpointing` is deprecated"
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)


def progress_bar(total: int, description: str, unit: str = "events", *, initial: int = 0) -> tqdm:
    """Makes a one-line progress bar with rate and time left, shown on terminals only.

    The ``initial`` units of an earlier run do not count for the rate.
    """
    quiet = logging.getLogger("hepllm").getEffectiveLevel() > logging.INFO
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=f" {unit}",
        file=sys.stderr,
        disable=True if quiet else None,  # None: shown on a terminal only
        dynamic_ncols=True,
        leave=False,
        mininterval=0.2,
    )
