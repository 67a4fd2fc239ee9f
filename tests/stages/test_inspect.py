"""The inspection: counts and quantiles against the dataset's own columns."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import load_config
from hepllm.data.dataset import EventTable, read_dataset
from hepllm.errors import InputError, RunError
from hepllm.schema import FEATURES
from hepllm.stages.inspect import inspect_dataset
from hepllm.stages.preprocess import preprocess


@pytest.fixture(scope="module")
def dataset(lhco_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "rnd"
    config = load_config(None, ["preprocess.executor=serial"])
    preprocess([lhco_file], folder, config)
    return folder


def _events(dataset: Path) -> EventTable:
    return read_dataset(dataset).load(tuple(FEATURES))


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
    assert list(found.summaries) == list(FEATURES)
    for name in ("m_jj", "delta_eta", "tau21_heavy"):
        for label, text in ((1, "signal"), (0, "background")):
            values = events.column(name)[events.label == label]
            present = values[~np.isnan(values)]
            summary = found.summaries[name][text]
            assert summary.median == pytest.approx(_quantile(present, 0.5))
            assert summary.low == pytest.approx(_quantile(present, 0.16))
            assert summary.high == pytest.approx(_quantile(present, 0.84))
            assert summary.missing == pytest.approx(np.isnan(values).mean())
    assert "unknown" not in found.summaries["m_jj"]
    third = found.summaries["jet3_pt"]["signal"]  # these events have two jets
    assert third.missing == 1
    assert np.isnan(third.median)


def test_json_holds_everything_and_no_nan(dataset: Path) -> None:
    tree = json.loads(json.dumps(inspect_dataset(dataset, page=None).as_json(), allow_nan=False))
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
    assert found.summaries["m_jj"]["background"].median == pytest.approx(_quantile(mine, 0.5))


def test_the_tables_are_for_reading(dataset: Path) -> None:
    text = inspect_dataset(dataset, page=None).as_text()
    assert "from rnd.h5: 60 events" in text
    assert "valid events: 60" in text
    assert "m_jj*" in text
    assert "jet_mass_light " in text  # not marked: the search set has it
    assert all(len(line) <= 130 for line in text.splitlines())


def test_the_page_is_a_picture_of_every_feature(dataset: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.png"
    assert inspect_dataset(dataset, page=page).page == page
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
    assert found.summaries["m_jj"] == {}
    assert found.as_json()["n_events"] == 0
    assert "0 events" in found.as_text()


def test_wrong_input(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such dataset"):
        inspect_dataset(tmp_path / "gone", page=None)
    with pytest.raises(RunError, match="cannot be written"):
        inspect_dataset(dataset, page=tmp_path / "gone" / "page.png")
