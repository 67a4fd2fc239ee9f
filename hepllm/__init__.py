"""hepllm: an event classifier that joins a language model with exact numbers.

``hepllm.EventClassifier`` is the Python interface; its first use loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepllm.api import EventClassifier as EventClassifier

__version__ = "0.1.0"

__all__ = ["EventClassifier", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports ``EventClassifier`` at its first use."""
    if name == "EventClassifier":
        return getattr(importlib.import_module("hepllm.api"), name)
    raise AttributeError(f"module 'hepllm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), "EventClassifier"])
