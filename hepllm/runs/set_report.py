"""What an evaluation has found on one set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepllm.evaluation.results import EvaluationResults


@dataclass(frozen=True)
class SetReport:
    """What was found on one set.

    Attributes:
        name: of the set.
        metrics: the content of ``metrics.json``.
        text: the same for a person.
        files: what was written, pictures included.
        results: behind ``metrics``; None without labels.
    """

    name: str
    metrics: dict[str, Any]
    text: str
    files: tuple[Path, ...]
    results: EvaluationResults | None = None
