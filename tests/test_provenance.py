from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime, timedelta

import pytest

from hepllm.provenance import shown_date, this_call, versions


@pytest.mark.parametrize("program", ["/usr/bin/hepllm", "/a/hepllm/__main__.py"])
def test_the_command_can_be_pasted(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    arguments = ["train", "my data/rnd", "--set", "seed=2"]
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    assert shlex.split(this_call().command) == ["hepllm", *arguments]


def test_the_date_is_now_in_utc() -> None:
    date = datetime.fromisoformat(this_call().date)
    assert timedelta(0) <= datetime.now(UTC) - date < timedelta(minutes=1)
    assert shown_date("2026-03-01T01:30:59+02:00") == "2026-02-28 23:30 UTC"


def test_packages_that_are_missing_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepllm.provenance._PACKAGES", ("numpy", "no-such-package"))
    found = versions()
    assert found["no-such-package"] == "not installed"
    assert found["numpy"][0].isdigit()
