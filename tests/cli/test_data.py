"""The commands around datasets: fetch, inspect and export, as a shell sees them."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from hepllm import cli
from hepllm.cli import data, options
from hepllm.config import load_config
from hepllm.data.download import PATIENT
from hepllm.errors import RunError
from hepllm.schema import SPLITS
from hepllm.stages.fetch import SETS
from hepllm.stages.preprocess import preprocess


@pytest.fixture(scope="module")
def dataset(lhco_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "rnd"
    preprocess([lhco_file], folder, load_config(None, ["preprocess.executor=serial"]))
    return folder


def test_inspect_prints_tables_and_draws(dataset: Path) -> None:
    done = CliRunner().invoke(cli.cli, ["inspect", str(dataset)], catch_exceptions=False)
    assert done.exit_code == 0
    assert "m_jj*" in done.output
    assert done.output.endswith(f"{dataset}/features.png\n")
    assert (dataset / "features.png").stat().st_size > 10_000


def test_inspect_json_is_one_document(dataset: Path) -> None:
    done = CliRunner().invoke(
        cli.cli, ["inspect", str(dataset), "--json", "--no-page"], catch_exceptions=False
    )
    assert json.loads(done.stdout)["n_events"] == 60


def test_export_tells_what_it_wrote(dataset: Path, tmp_path: Path) -> None:
    arguments = ["export", str(dataset), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(
        cli.cli, [*arguments, "--prompt", "full", "--features", "cathode"], catch_exceptions=False
    )
    assert done.exit_code == 0
    lines = (tmp_path / "out" / "signal.jsonl").read_text().splitlines()
    assert done.output.splitlines()[0] == f"{tmp_path}/out/signal.jsonl: {len(lines)} events"
    assert len(json.loads(lines[0])["features"]) == 4
    assert "jet_mass_light [GeV]:" in json.loads(lines[0])["prompt"]


def test_fetch_knows_what_the_stage_knows() -> None:
    assert tuple(SETS) == data.FETCHABLE
    assert tuple(options.SPLIT.choices) == SPLITS


def test_fetch_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepllm.data.download.time.sleep", lambda _: None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        mirror = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        arguments = ["fetch", "bb1", "--output", str(tmp_path), "--mirror", mirror]
        with pytest.raises(RunError, match=f"given up after {PATIENT.tries} tries"):
            CliRunner().invoke(cli.cli, arguments, catch_exceptions=False)
    assert not (tmp_path / "bb1.h5").exists()


def test_fetch_of_something_unknown() -> None:
    done = CliRunner().invoke(cli.cli, ["fetch", "bb4"])
    assert done.exit_code == 2
