from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from hepllm.installation import packages
from hepllm.installation.packages import (
    check_extra,
    check_fastjet,
    check_packages,
    check_tensorboard,
)
from hepllm.learning.monitor import Monitor
from hepllm.physics import jets

DECLARED = ["torch>=2.11", "numpy>=2.0", "pythia8mc>=8.317; extra == 'simulate'"]


def installed(**versions: str) -> packages.Callable[[str], str]:
    def version_of(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    return version_of


def test_all_required_packages_in_their_versions() -> None:
    finding = check_packages(lambda: DECLARED, installed(torch="2.13.0+cpu", numpy="2.0"))
    assert finding.level == "ok"
    assert "all 2 required packages; torch 2.13.0+cpu" in finding.found


def test_what_is_missing_or_too_old_is_named() -> None:
    finding = check_packages(lambda: DECLARED, installed(torch="2.9.1"))
    assert finding.level == "problem"
    assert finding.found == "torch 2.9.1, wanted >=2.11; numpy>=2.0 is not installed"
    assert "pip install" in finding.remedy


def test_an_optional_package_may_be_missing() -> None:
    assert check_packages(lambda: DECLARED[1:], installed(numpy="2.4")).level == "ok"
    finding = check_extra("simulate", lambda: DECLARED, installed(numpy="2.4"))
    assert finding.level == "warning"
    assert "pythia8mc>=8.317 is not installed (only hepllm simulate needs it)" in finding.found
    there = check_extra("simulate", lambda: DECLARED, installed(pythia8mc="8.317.2"))
    assert (there.level, there.found) == ("ok", "pythia8mc 8.317.2")


def test_a_requirement_of_this_platform_belongs_to_no_extra() -> None:
    declared = [*DECLARED, "scipy>=1.14; python_version >= '3'"]
    there = check_extra("simulate", lambda: declared, installed(pythia8mc="8.317.2"))
    assert there.found == "pythia8mc 8.317.2"
    needed = check_packages(lambda: declared, installed(torch="2.13.0", numpy="2.4"))
    assert needed.found == "scipy>=1.14 is not installed"


def test_this_installation_has_what_it_declares() -> None:
    assert check_packages().level == "ok"


def test_fastjet_is_seen_to_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_fastjet().level == "ok"
    whole = jets.cluster
    # A radius beyond pi puts the two back-to-back particles into one jet.
    monkeypatch.setattr(
        jets,
        "cluster",
        lambda events, config: whole(events, config.model_copy(update={"radius": 9})),
    )
    finding = check_fastjet()
    assert finding.level == "problem"
    assert "became jets" in finding.found


def test_tensorboard_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_tensorboard(tmp_path).level == "ok"
    good = Monitor.step
    monkeypatch.setattr(
        Monitor, "step", lambda self, step, values, groups: good(self, step, {"doctor": 1.0}, [])
    )
    assert check_tensorboard(tmp_path / "other").level == "problem"
