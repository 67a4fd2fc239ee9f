from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hepllm.cartography.dynamics import DYNAMICS, read_dynamics
from hepllm.cartography.event_map import read_map
from hepllm.cli import cli
from hepllm.config import CartographyConfig, Config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.stages.map import map_run
from hepllm.stages.train import resume, train


@pytest.fixture(scope="module")
def recorded(
    make_once: Callable[[str, Callable[[Path], None]], Path],
    tiny_config: Callable[..., Config],
    tiny_data: Path,
) -> Path:
    """A run whose training was recorded."""

    def fill(folder: Path) -> None:
        config = tiny_config(
            *("preprocess.executor=serial", "train.dynamics=true", "train.epochs=3"),
            *("train.nfa_alone.epochs=2", "cartography.ambiguous_variability=0.05"),
        )
        train(tiny_data / "data" / "rnd", folder / "run", config, overwrite=False)

    return make_once("recorded-run", fill) / "run"


def test_a_map_has_tables_text_and_pictures(
    recorded: Path, tiny_data: Path, tmp_path: Path
) -> None:
    config = CartographyConfig(ambiguous_variability=0.05, examples=1, samples=2)
    report = map_run(recorded, config, tmp_path / "map")
    record = report.record
    assert (record.epochs, record.n_epochs) == ("model", 3)
    assert all(file.stat().st_size for file in report.files)
    names = {file.name for file in report.files}
    assert {"map.json", "map.parquet", "map.csv", "map.png", "samples.txt"} <= names
    assert {"features-signal.png", "features-background.png"} <= names
    epochs = sorted((tmp_path / "map").glob("epoch-*.json"))
    assert [json.loads(file.read_text())["epoch"] for file in epochs] == [1, 2, 3]
    table = pq.read_table(tmp_path / "map" / "map.parquet")
    assert pyarrow.csv.read_csv(tmp_path / "map" / "map.csv").num_rows == table.num_rows
    found = read_map(tmp_path / "map")
    dataset = read_dataset(tiny_data / "data" / "rnd").load((), "train")
    of_events = dict(zip(dataset.event_digest.tolist(), dataset.event_id.tolist(), strict=True))
    digests = table["event_digest"].to_pylist()
    assert table["event_id"].to_pylist() == [of_events[one] for one in digests]
    dynamics = read_dynamics(recorded, "")
    assert record.n_events + record.n_unseen == len(dynamics.label)
    margins = dynamics.parts["model"].margin.astype(float)
    shown = ~np.isnan(margins).all(axis=1)
    np.testing.assert_allclose(
        found.measures.area_under_margin, np.nanmean(margins[shown], axis=1), rtol=1e-6
    )
    # Directions of jets and the event file are known, so some event of each category is drawn.
    drawn = [file for file in report.files if file.parent.name == "events"]
    n_filled = sum(one.n_events > 0 for kinds in record.classes.values() for one in kinds.values())
    assert len(drawn) == n_filled
    text = (tmp_path / "map" / "samples.txt").read_text()
    assert "m_jj" in text
    assert "of 3 epochs" in text
    assert "Map of run" in report.text
    assert "median (16 to 84 % quantile" in report.text


def test_the_command_writes_to_the_run_and_again(recorded: Path, tmp_path: Path) -> None:
    run = shutil.copytree(recorded, tmp_path / "run")
    command = ["map", str(run), "--set", "cartography.epochs=adapter", "--json"]
    done = CliRunner().invoke(cli, [*command, "--set", "cartography.examples=0"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["run"]["epochs"] == "adapter"
    assert read_map(run).part == "adapter"
    map_run(run, CartographyConfig(examples=0))
    assert read_map(run).part == "model"
    (run / "other").mkdir()
    (run / "other" / "file").touch()
    with pytest.raises(InputError, match="contains no map but other files"):
        map_run(run, CartographyConfig(examples=0), run / "other")


def test_a_run_without_a_record_is_told_how_to_get_one(tiny_run: Path) -> None:
    with pytest.raises(InputError, match=r"dynamics\.parquet: missing; .*train --dynamics$"):
        map_run(tiny_run, CartographyConfig())


def test_recording_cannot_begin_in_the_middle(recorded: Path) -> None:
    with pytest.raises(InputError, match=r"train\.dynamics cannot change in a training"):
        resume(recorded, ["train.dynamics=false"])
    assert (recorded / DYNAMICS).is_file()
