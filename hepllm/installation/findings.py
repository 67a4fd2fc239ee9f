"""What a check of the installation answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The answer of one check.

    Attributes:
        name: of the check.
        level: ``problem`` where the configured job cannot run as it should.
        found: one line.
        remedy: one line on what to do; empty where there is nothing to do.
    """

    name: str
    level: Level
    found: str
    remedy: str = ""
