"""Logging and progress, always on standard error so that standard output carries results only."""

from __future__ import annotations

import logging
import re
import sys
import threading
import warnings

from tqdm import tqdm

LOG = logging.getLogger(__name__)

# No bar is shared by processes. tqdm's own lock is, and of a worker that is ended it leaves a
# semaphore, of which Python warns on standard error.
tqdm.set_lock(threading.RLock())

LINE_EVERY = 60.0
"""Seconds between two lines about progress where there is no terminal."""

_LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}{postfix}, {remaining} left"

_SLOW = re.compile(r"([0-9.]+)s/ \w+")
"""How tqdm has a rate below one a second."""

_UNKNOWN = re.compile(r", *\? [^,]*/s|, \? left")
"""What tqdm has for rate and time left while nothing is done."""

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
    # Where it cannot keep its list of fonts, as in a container, that is slower and nothing else.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # PEFT 0.21 causes this warning in transformers 5.23; a user cannot avoid it.
    message = "`is_gradient_checkpointing` is deprecated"
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)


class _Records:
    """The lines of a progress bar as log records."""

    def write(self, text: str) -> None:
        """Logs a line that is not empty."""
        if line := text.strip():
            LOG.info("%s", _SLOW.sub(r"\1 s each", _UNKNOWN.sub("", line)))

    def flush(self) -> None:
        """Does nothing, since records are written at once."""


def progress_bar(total: int, description: str, unit: str = "events", *, initial: int = 0) -> tqdm:
    """Makes a one-line progress bar with rate and time left; off a terminal, a log line a minute.

    The ``initial`` units of an earlier run do not count for the rate.
    """
    quiet = not logging.getLogger("hepllm").isEnabledFor(logging.INFO)
    if not quiet and not sys.stderr.isatty():
        return tqdm(
            total=total,
            initial=initial,
            desc=description,
            unit=f" {unit}",
            file=_Records(),
            position=0,  # one bar inside another would move a cursor
            leave=False,
            delay=LINE_EVERY,
            mininterval=LINE_EVERY,
            maxinterval=LINE_EVERY,
            bar_format=_LINE,
        )
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=f" {unit}",
        file=sys.stderr,
        disable=quiet,
        dynamic_ncols=True,
        leave=False,
        mininterval=0.2,
    )
