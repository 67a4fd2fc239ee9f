"""``run.json``: written, read back, and read as the former version wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hepllm.errors import InputError
from hepllm.report.records import RunRecord

FORMER = {
    "hepllm": "0.1.0",
    "dataset": "/data/rnd",
    "dataset_digest": "81b7",
    "n_train": {"signal": 3, "background": 4},
    "n_validation": {"signal": 1, "background": 2},
    "starts": [{"date": "2026-11-26T01:56:13+00:00", "command": "hepllm train", "versions": {}}],
}


def test_a_file_of_the_former_version_is_read(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(FORMER), encoding="utf-8")
    record = RunRecord.read(file, "train it again")
    assert record.dataset == Path("/data/rnd")
    assert record.starts[0].command == "hepllm train"
    record.write(file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"schema_version": 1, **FORMER}
    assert RunRecord.read(file, "") == record


def test_a_file_that_lacks_something_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps({**FORMER, "n_train": None}), encoding="utf-8")
    with pytest.raises(InputError, match=r"n_train .*; train it again"):
        RunRecord.read(file, "train it again")
