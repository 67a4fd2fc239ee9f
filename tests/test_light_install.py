"""Files are read, clustered and shown without a language model's packages; what make installs."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from packaging.requirements import Requirement

MAKE = shutil.which("make")
ROOT = Path(__file__).parents[1]
MODEL = (
    *("bitsandbytes", "captum", "gguf", "peft", "safetensors", "tensorboard", "torch"),
    "transformers",
)

_BLOCKED = """
import sys


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Blocked())
from hepllm.cli import cli

for words in {commands}:
    cli(words, standalone_mode=False)
print(sorted(set({packages}) & set(sys.modules)))
"""


def run_blocked(folder: Path, *commands: list[str]) -> str:
    """Runs commands in a process in which the packages of language models are not installed."""
    code = _BLOCKED.format(packages=MODEL, commands=commands)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_become_datasets_without_a_language_model(
    dijet_events: Callable[..., NDArray[Any]], write_lhco: Callable[..., Path], tmp_path: Path
) -> None:
    write_lhco(tmp_path / "rnd.h5", dijet_events(6))
    said = run_blocked(
        tmp_path,
        ["preprocess", "rnd.h5", "--executor", "serial"],
        ["inspect", "data/processed/rnd"],
    )
    assert "data/processed/rnd: 6 events" in said
    assert (tmp_path / "data/processed/rnd/features.png").stat().st_size > 10_000
    assert said.endswith("[]\n")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pythia8mc") is None, reason="no Pythia")
def test_events_are_simulated_without_a_language_model(tmp_path: Path) -> None:
    small = ["--rnd", "2", "--blackbox", "0", "--set", "simulate.executor=serial"]
    said = run_blocked(tmp_path, ["simulate", *small])
    assert "data/raw/rnd.h5: 2 events" in said
    assert said.endswith("[]\n")


def test_a_run_that_is_not_there_is_told_before_slow_imports(tmp_path: Path) -> None:
    code = (
        "import sys, hepllm.cli as c\n"
        "for words in (['eval', 'gone'], ['predict', 'gone', 'x.h5', '--output', 'y.csv'],\n"
        "              ['explain', 'gone', '1'], ['report', 'gone']):\n"
        "    try:\n"
        "        c.cli(words, standalone_mode=False)\n"
        "    except c.HepllmError as error:\n"
        "        print(error)\n"
        "print({'torch', 'pyarrow', 'sklearn'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *told, loaded = done.stdout.splitlines()
    assert told == 4 * ["gone: no such run; train one with 'hepllm train'"]
    assert loaded == "set()"


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_light_requirements_are_those_of_the_project_without_the_model() -> None:
    text = (ROOT / "requirements-light.txt").read_text(encoding="utf-8")
    light = [line for line in text.splitlines() if not line.startswith("#")]
    declared = project()["dependencies"]
    assert light == [line for line in declared if Requirement(line).name not in MODEL]


def test_every_extra_is_in_all_and_within_the_constraints() -> None:
    extras = project()["optional-dependencies"]
    (everything,) = (Requirement(line) for line in extras["all"])
    assert everything.extras == set(extras) - {"all", "dev"}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {one.name.lower(): one for one in map(Requirement, filter(_is_pin, pins))}
    for line in [*project()["dependencies"], *chain.from_iterable(extras.values())]:
        wanted = Requirement(line)
        pin = pinned.get(wanted.name.lower())
        if pin is not None:
            (version,) = (one.version for one in pin.specifier)
            assert wanted.specifier.contains(version), line


def _is_pin(line: str) -> bool:
    return bool(re.match(r"[\w.-]+==", line))


@pytest.mark.skipif(MAKE is None, reason="no make")
@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("TORCH=cpu", "for CPUs, from https://download.pytorch.org/whl/cpu;"),
        ("TORCH=pypi", "from PyPI, or from pip's own index;"),
        ("TORCH=cuda", "TORCH=cuda: expected cpu or pypi"),
    ],
)
def test_make_says_which_torch_it_installs(choice: str, said: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        [str(MAKE), "-n", "demo", choice], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said in done.stdout + done.stderr
    assert ("--index-url" in done.stdout) == (choice == "TORCH=cpu")
    assert (done.returncode == 0) == (choice != "TORCH=cuda")
