"""hepllm: an event classifier that joins a language model with exact numbers.

``hepllm.EventClassifier`` is the Python interface; it loads torch when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepllm.api import EventClassifier as EventClassifier

__version__ = "0.1.0"

_PUBLIC = ("EventClassifier",)

__all__ = ["EventClassifier", "__version__"]


def __getattr__(name: str) -> Any:
    """Loads what the package offers when it is first asked for."""
    if name in _PUBLIC:
        return getattr(importlib.import_module("hepllm.api"), name)
    raise AttributeError(f"module 'hepllm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
