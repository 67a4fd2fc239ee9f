"""hepllm: an event classifier that joins a language model with exact numbers.

The Python interface is ``hepllm.EventClassifier``, whose first use loads torch, and
``hepllm.find_resonance``.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepllm.api import EventClassifier as EventClassifier
    from hepllm.resonances import find_resonance as find_resonance

__version__ = "0.1.0"

# Threads that spin while they wait make scoring and training many times slower as soon as another
# process needs one of the cores; threads that sleep at once lose all that a second one gains, since
# most operations take no longer than waking it. So they spin for some microseconds. OpenMP reads
# these variables when torch is imported, which no module of the package does before this one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_PLACES = {"EventClassifier": "hepllm.api", "find_resonance": "hepllm.resonances"}

__all__ = ["EventClassifier", "__version__", "find_resonance"]


def __getattr__(name: str) -> Any:
    """Imports a part of the interface at its first use."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'hepllm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
