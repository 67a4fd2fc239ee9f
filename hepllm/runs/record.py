"""``run.json``: what a run was trained on, when and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepllm.provenance import Call
from hepllm.records import Events, FileRecord


class RunRecord(FileRecord):
    """What a run was trained on."""

    hepllm: str
    """Version of the package that wrote the file."""

    dataset: Path
    """Absolute path of the dataset."""

    dataset_digest: str
    """Digest of the dataset's contents (SHA-256)."""

    n_train: Mapping[str, Events]
    """Training events by class."""

    n_validation: Mapping[str, Events]
    """Validation events by class."""

    starts: tuple[Call, ...] = ()
    """When and by which command the training was started and resumed, oldest first."""

    @classmethod
    def of_former_version(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """A file without a version has the keys of version 1."""
        return {"schema_version": 1, "hepllm": "unknown", **tree}
