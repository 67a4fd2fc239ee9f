"""The inspection: counts and quantiles against the dataset's own columns."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.summary import DatasetSummary
from hepllm.errors import InputError, RunError
from hepllm.report.data import dataset_chapter
from hepllm.report.text import as_text
from hepllm.schema import dataset_features
from hepllm.stages.inspect import inspect_dataset
from hepllm.stages.preprocess import preprocess


@pytest.fixture(scope="module")
def dataset(lhco_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "rnd"
    config = load_config(None, ["preprocess.executor=serial"])
    preprocess([lhco_file], folder, config)
    return folder


def _events(dataset: Path) -> EventTable:
    return read_dataset(dataset).load(dataset_features(extended=False))


def _text(found: DatasetSummary, split: str | None = None) -> str:
    return as_text(dataset_chapter(found, "Dataset", split))


def _quantile(values: NDArray[np.float64], q: float) -> float:
    """Linear interpolation between order statistics, by hand."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


def test_summaries_are_those_of_the_columns(dataset: Path) -> None:
    found = inspect_dataset(dataset, page=None)
    events = _events(dataset)
    assert tuple(found.features) == dataset_features(extended=False)
    for name in ("m_jj", "delta_eta", "tau21_heavy"):
        for label, text in ((1, "signal"), (0, "background")):
            values = events.column(name)[events.label == label]
            present = values[~np.isnan(values)]
            summary = found.features[name].classes[text]
            assert summary.median == pytest.approx(_quantile(present, 0.5))
            assert summary.low == pytest.approx(_quantile(present, 0.16))
            assert summary.high == pytest.approx(_quantile(present, 0.84))
            assert summary.missing == pytest.approx(np.isnan(values).mean())
    assert "unknown" not in found.features["m_jj"].classes
    third = found.features["jet3_pt"].classes["signal"]  # these events have two jets
    assert third.missing == 1
    assert third.median is third.low is third.high is None


def test_json_holds_everything_and_no_nan(dataset: Path) -> None:
    tree = json.loads(json.dumps(inspect_dataset(dataset, page=None).tree(), allow_nan=False))
    events = _events(dataset)
    assert tree["n_events"] == 60
    assert tree["counts"]["all"]["signal"] == int((events.label == 1).sum())
    for split in ("train", "val", "test"):
        in_split = events.label[events.split == split]
        assert tree["counts"][split]["background"] == int((in_split == 0).sum())
    assert tree["features"]["m_jj"]["mass_like"] is True
    assert tree["features"]["m_jj"]["unit"] == "GeV"
    assert tree["page"] is None


def test_one_split(dataset: Path) -> None:
    events = _events(dataset)
    mine = events.column("m_jj")[(events.split == "train") & (events.label == 0)]
    found = inspect_dataset(dataset, page=None, split="train")
    background = found.features["m_jj"].classes["background"]
    assert background.median == pytest.approx(_quantile(mine, 0.5))


def test_the_tables_are_for_reading(dataset: Path) -> None:
    lines = _text(inspect_dataset(dataset, page=None)).splitlines()
    words = [line.split() for line in lines]
    assert ["rnd.h5", "60"] in [line[:2] for line in words]
    assert ["valid", "events", "60"] in words
    named = {line[0]: line for line in words if line}
    assert "m_jj*" in named
    assert "jet_mass_light" in named  # not marked: the search set has it
    assert named["jet3_pt*"] == ["jet3_pt*", "[GeV]", "-", "100.0%", "-", "100.0%"]
    assert all(len(line) <= 120 for line in lines)


def test_the_page_is_a_picture_of_every_feature(dataset: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.png"
    assert inspect_dataset(dataset, page=page).page == str(page)
    content = page.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1500
    assert height > 1500
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]


def test_an_empty_dataset(lhco_file: Path, tmp_path: Path) -> None:
    config = load_config(None, ["preprocess.executor=serial", "preprocess.select=m_jj < 0"])
    preprocess([lhco_file], tmp_path / "none", config)
    found = inspect_dataset(tmp_path / "none", page=tmp_path / "page.png")
    assert found.features["m_jj"].classes == {}
    assert found.tree()["n_events"] == 0
    assert "events   0" in _text(found)


def test_wrong_input(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such dataset"):
        inspect_dataset(tmp_path / "gone", page=None)
    with pytest.raises(RunError, match="cannot be written"):
        inspect_dataset(dataset, page=tmp_path / "gone" / "page.png")
