"""Trainings that go by the map of another one: filter, smoothing, weights and order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.cartography.event_map import read_map
from hepllm.cli import cli
from hepllm.config import CartographyConfig, Config
from hepllm.data.dataset import read_dataset
from hepllm.errors import ConfigError, InputError
from hepllm.runs.folder import open_run, training_events
from hepllm.runs.training_samples import training_sample
from hepllm.runs.used_map import read_used_map, use_map
from hepllm.stages.map import map_run
from hepllm.stages.train import _load_data, _used_map, resume, train

DROP = "train.filter=[{least_margin: 0.1}]"


@pytest.fixture(scope="module")
def mapped(
    make_once: Callable[[str, Callable[[Path], None]], Path],
    tiny_config: Callable[..., Config],
    tiny_data: Path,
) -> Path:
    """A run with a map."""

    def fill(folder: Path) -> None:
        config = tiny_config("preprocess.executor=serial", "train.dynamics=true", "train.epochs=2")
        train(tiny_data / "data" / "rnd", folder / "run", config, overwrite=False)
        map_run(folder / "run", CartographyConfig(examples=0, samples=1))

    return make_once("mapped-run", fill) / "run"


@pytest.fixture(scope="module")
def config(mapped: Path, tiny_config: Callable[..., Config]) -> Callable[..., Config]:
    common = ("preprocess.executor=serial", "train.epochs=1", f"train.map={mapped}")
    return lambda *overrides: tiny_config(*common, *overrides)


def test_a_filtered_run_trains_on_what_is_kept_and_says_so(
    mapped: Path, config: Callable[..., Config], tiny_data: Path, tmp_path: Path
) -> None:
    dataset, run = tiny_data / "data" / "rnd", tmp_path / "run"
    own = Path(shutil.copytree(mapped, tmp_path / "mapped"))
    settings = config(DROP, f"train.map={own}", "train.by_map.weight_power=1")
    train(dataset, run, settings, overwrite=False)
    opened = open_run(run)
    use = opened.record.used_map
    assert use is not None
    assert use.map == str(own)
    margins = read_map(mapped)
    n_events = len(margins)
    dropped = sum(use.filter.rules[0].dropped.values())
    assert dropped == round(0.1 * n_events)
    whole = training_events(read_dataset(dataset), settings.train, settings.seed)
    assert sum(opened.record.n_train.values()) == len(whole) - dropped
    lowest = np.argsort(margins.measures.area_under_margin)[:dropped]
    kept = opened.kept_events()
    assert kept is not None
    assert not np.isin(margins.event_digest[lowest], kept).any()
    shutil.rmtree(own)  # all that is needed later is in the run
    assert len(training_sample(opened).label) == len(kept)
    resume(run, ["train.epochs=1.5"])
    assert open_run(run).record.used_map == use
    with pytest.raises(InputError, match=r"train\.filter cannot change"):
        resume(run, ["train.filter=[]"])


def test_smoothing_weights_and_order_reach_the_training(
    config: Callable[..., Config], tiny_data: Path
) -> None:
    dataset = read_dataset(tiny_data / "data" / "rnd")
    by_map = ("smoothing=0.8", "weight_power=1", "curriculum=easy_first")
    settings = config(*(f"train.by_map.{one}" for one in by_map))
    used = _used_map(dataset, settings)
    assert used is not None
    data = _load_data(dataset, settings, used)
    assert data.soft_targets is not None
    np.testing.assert_array_equal(data.soft_targets > 0.5, data.train.label == 1)
    seen = ~np.isnan(used.variability)
    share = 0.8 * used.variability[seen] / 0.5
    found = np.abs(data.soft_targets - data.train.label)[seen]
    np.testing.assert_allclose(found, share / 2)
    assert data.train.weight.std() > 0
    assert data.rank is not None
    order = np.argsort(data.rank[data.train.label == 1])
    believed = used.confidence[data.train.label == 1][order]
    assert (np.diff(believed[~np.isnan(believed)]) <= 0).all()
    plain = config()
    assert _used_map(dataset, plain) is None
    assert _load_data(dataset, plain, None).soft_targets is None


def test_a_dry_run_counts_and_trains_nothing(mapped: Path, tiny_data: Path, tmp_path: Path) -> None:
    file = Path(__file__).parents[2] / "configs" / "tiny.yaml"
    command = ["train", str(tiny_data / "data" / "rnd"), "--config", str(file), "--dry-run"]
    command += ["--output", str(tmp_path / "run"), "--set", f"train.map={mapped}", "--set", DROP]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    lines = {line[:40].strip(): line.split()[-2:] for line in done.stdout.splitlines()}
    assert sum(map(int, lines["training events"])) > sum(map(int, lines["kept"]))
    assert not (tmp_path / "run").exists()
    json.loads(next(name for name in lines if "dropped" in name).removeprefix("dropped by "))


def test_a_map_of_other_events_or_of_none_is_refused(
    mapped: Path, config: Callable[..., Config], tiny_data: Path, tmp_path: Path
) -> None:
    other = read_dataset(tiny_data / "data" / "bb")
    table = training_events(other, config().train, 1, ())
    with pytest.raises(InputError, match=r"has none of the \d+ training events"):
        use_map(table, config(DROP).train)
    with pytest.raises(InputError, match="make it with: hepllm map"):
        use_map(table, config(DROP, f"train.map={tmp_path}").train)
    with pytest.raises(InputError, match=r"used-map\.parquet: missing"):
        read_used_map(mapped)
    table = training_events(read_dataset(tiny_data / "data" / "rnd"), config().train, 1, ())
    with pytest.raises(InputError, match=r"drops all .* training .* events; loosen a rule"):
        use_map(table, config("train.filter=[{confidence: [0.0, 0.001]}]").train)
    with pytest.raises(ConfigError, match="need the run whose map"):
        config(DROP, "train.map=null")
