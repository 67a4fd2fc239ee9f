"""The result of a check of the installation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: name of the check.
        level: ``problem`` where the configured job cannot run as it should.
        found: one line about the state.
        remedy: one line about what to do; empty where there is nothing to do.
    """

    name: str
    level: Level
    found: str
    remedy: str = ""
