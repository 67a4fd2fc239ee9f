"""What an evaluation has found on one set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hepllm.evaluation.curves import CurvesRecord
from hepllm.report.records import SetMetrics


@dataclass(frozen=True)
class SetReport:
    """What was found on one set.

    Attributes:
        name: of the set.
        metrics: the content of ``metrics.json``.
        text: the same for a person.
        files: what was written, pictures included.
        curves: the content of ``curves.json``; None without labels.
    """

    name: str
    metrics: SetMetrics
    text: str
    files: tuple[Path, ...]
    curves: CurvesRecord | None = None
