"""The commands of suites: what they print, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from hepllm.cli import cli
from hepllm.errors import ConfigError, InputError

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("plan", "small.yaml")`` in a folder with this suite."""
    monkeypatch.chdir(tmp_path)
    dataset = str(tiny_data / "data" / "rnd")
    tree = {"config": "tiny", "datasets": [dataset], "experiments": {"plain": [], "b": []}}
    Path("small.yaml").write_text(json.dumps({**tree, "seeds": 2}))

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(cli, ["experiments", *words, "-q"], standalone_mode=False)

    return invoke


def test_a_plan_is_printed_and_writes_nothing(run: Run) -> None:
    done = run("plan", "small.yaml", "--seeds", "3")
    assert done.exit_code == 0, done.exception
    assert "small: 6 trainings in experiments/small: 0 done, 0 failed, 6 to run" in done.output
    assert not Path("experiments").exists()
    tree = json.loads(run("plan", "small.yaml", "--json", "--set", "train.lr=7").output)
    assert [one["place"].split("/")[0] for one in tree["experiments"]] == ["plain"] * 2 + ["b"] * 2
    assert tree["seconds"] is None


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (["plan", "small.yaml", "--seed", "3"], click.UsageError, "give --seeds NUMBER"),
        (["analyze", "small.yaml", "--set", "train.lr=1"], click.UsageError, "takes no settings"),
        (["analyze", "small.yaml"], InputError, "nothing was run here"),
        (["plan", "smal.yaml"], ConfigError, "no such suite"),
        (["plan", "small.yaml", "--set", "train.lrr=1"], ConfigError, "did you mean 'train.lr'"),
        (["plan", "small.yaml", "--config", "no.yaml"], ConfigError, "no such configuration file"),
        (["plan", "small.yaml", "--dataset", "none"], InputError, "none"),
        (["one", "."], InputError, "run the suite again"),
    ],
)
def test_what_cannot_be_done_is_told(
    words: list[str], kind: type[Exception], told: str, run: Run
) -> None:
    done = run(*words)
    assert isinstance(done.exception, kind)
    assert told in str(done.exception)
