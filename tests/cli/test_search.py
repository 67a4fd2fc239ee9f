"""The options of ``hepllm search``: what they mean, and which do not fit together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hepllm import cli


def _run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, ["search", *map(str, words)])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(2)
    file = tmp_path_factory.mktemp("tables") / "box.npz"
    score, m_jj = random.normal(size=4000), 3.2 + random.exponential(0.5, 4000)
    np.savez(file, cls=score, mjj=m_jj, truth=np.zeros(4000))
    return file


@pytest.mark.usefixtures("undrawn_figures")
def test_options_reach_the_search(table: Path, tmp_path: Path) -> None:
    options = (
        *("--score", "cls", "--mass", "mjj", "--label", "truth", "--energy-unit", "TeV"),
        *("--mass-range", "3300", "7000", "--efficiencies", "0.05", "--select", "cls > -1"),
        *("--seed", "5", "--set", "evaluation.search.max_toys=1000", "--output", tmp_path / "out"),
        *("--set", "evaluation.search.limit_step=0.2", "--set", "evaluation.search.limit_toys=50"),
    )
    made = _run(table, *options, "--json", "-q")
    assert made.exit_code == 0, made.output
    tree = json.loads(made.stdout)
    found = tree["submission"]
    assert found["m_jj_range_gev"] == [3300, 7000]
    assert (found["mass"], found["seed"], found["select"]) == ("mjj", 5, "cls > -1")
    assert [one["efficiency"] for one in found["selections"]] == [0.05]
    assert found["scores"]["energy_unit"] == "TeV"
    assert tree["unblinding"]["truth"]["n_signal_box"] == 0
    assert json.loads((tmp_path / "out" / "submission.json").read_text()) == {
        "schema_version": 1,
        **found,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--run", "runs/x"), "--run and --scores are for a dataset"),
        (("--efficiencies", "0.1,x"), "expected numbers such as 0.01,0.001, found '0.1,x'"),
        (("--run", "runs/x", "--signal", "s.csv"), "--run and --scores are for a dataset"),
    ],
)
def test_options_of_tables_that_do_not_fit(
    options: tuple[str, ...], message: str, table: Path
) -> None:
    made = _run(table, *options)
    assert made.exit_code == 2
    assert message in " ".join(made.output.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "a dataset has no scores; give --run RUN, or --scores FILE"),
        (("--run", "runs/x", "--scores", "s.csv"), "a dataset has no scores; give --run"),
        (("--run", "runs/x", "--light", "a"), "--light: for tables, and"),
        (("--run", "runs/x", "--signal", "s.csv"), "--signal: a run has its own"),
    ],
)
def test_options_of_datasets_that_do_not_fit(
    options: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    made = _run(tmp_path, *options)
    assert made.exit_code == 2
    assert message in " ".join(made.output.split())
