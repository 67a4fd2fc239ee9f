"""The export: every event once, in the file of its class, with numbers that are exact."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import load_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError, RunError
from hepllm.model.prompts import parse
from hepllm.stages import export as stage
from hepllm.stages.export import export
from hepllm.stages.preprocess import preprocess

_SERIAL = load_config(None, ["preprocess.executor=serial"])


@pytest.fixture(scope="module")
def dataset(lhco_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "rnd"
    preprocess([lhco_file], folder, _SERIAL)
    return folder


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("batch", [7, 1000])
def test_every_event_once_with_its_numbers(
    batch: int, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "BATCH", batch)
    config = load_config(None, ["train.features=all"])
    made = export(dataset, tmp_path, config)
    assert [file.path.name for file in made] == ["signal.jsonl", "background.jsonl"]
    events = read_dataset(dataset).load(config.train.feature_names())
    lines = [line for file in made for line in _lines(file.path)]
    assert len(lines) == sum(file.n_events for file in made) == len(events)
    by_id = {line["event_id"]: line for line in lines}
    n_missing = 0
    for i, row in enumerate(events.features):
        line = by_id[i]
        assert line["label"] == ("signal" if events.label[i] else "background")
        assert line["split"] == events.split[i]
        assert int(line["event_digest"], 16) == int(events.event_digest[i])
        for name, value in zip(events.names, row, strict=True):
            if math.isnan(value):
                assert line["features"][name] is None
                n_missing += 1
            else:
                assert line["features"][name] == value
    assert n_missing > 0
    assert {line["label"] for line in _lines(tmp_path / "signal.jsonl")} == {"signal"}


def test_the_prompt_says_what_the_numbers_say(dataset: Path, tmp_path: Path) -> None:
    export(dataset, tmp_path, load_config(None, ["prompt.layout=full"]))
    for line in _lines(tmp_path / "background.jsonl"):
        read = parse(line["prompt"])
        assert read["jet1_mass"] == pytest.approx(line["features"]["jet1_mass"], abs=1e-9)


def test_completion_and_messages(dataset: Path, tmp_path: Path) -> None:
    export(dataset, tmp_path / "a", load_config(), style="completion")
    export(dataset, tmp_path / "b", load_config(), style="messages")
    signal, chat = _lines(tmp_path / "a" / "signal.jsonl"), _lines(tmp_path / "b" / "signal.jsonl")
    assert {line["completion"] for line in signal} == {" signal"}
    assert chat[0]["messages"] == [
        {"role": "user", "content": signal[0]["prompt"]},
        {"role": "assistant", "content": "signal"},
    ]


def test_unlabelled_events_have_no_answer(
    dijet_events: Callable[..., NDArray[np.float64]],
    write_lhco: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = write_lhco(tmp_path / "bb.h5", dijet_events(5)[:, :2100])
    preprocess([path], tmp_path / "bb", _SERIAL)
    for style in ("completion", "messages"):
        (made,) = export(tmp_path / "bb", tmp_path / style, load_config(), style=style)
        assert made.path.name == "unknown.jsonl"
        assert made.n_events == 5
    assert set(_lines(tmp_path / "completion" / "unknown.jsonl")[0]) == {"prompt"}
    assert len(_lines(tmp_path / "messages" / "unknown.jsonl")[0]["messages"]) == 1


def test_one_split_replaces_an_earlier_export_only_when_asked(
    dataset: Path, tmp_path: Path
) -> None:
    export(dataset, tmp_path, load_config())
    before = (tmp_path / "signal.jsonl").read_bytes()
    (tmp_path / "unknown.jsonl").write_text("of an earlier export\n")
    with pytest.raises(InputError, match=r"signal\.jsonl, background\.jsonl.*--overwrite"):
        export(dataset, tmp_path, load_config(), split="train")
    assert (tmp_path / "signal.jsonl").read_bytes() == before
    export(dataset, tmp_path, load_config(), split="train", overwrite=True)
    assert {line["split"] for line in _lines(tmp_path / "signal.jsonl")} == {"train"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["background.jsonl", "signal.jsonl"]


def test_a_full_disk_leaves_nothing(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage, "_lines", full)
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        export(dataset, tmp_path / "out", load_config())
    assert not (tmp_path / "out").exists()


def test_wrong_input(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prints no numbers"):
        export(dataset, tmp_path, load_config(None, ["prompt.layout=minimal"]))
    with pytest.raises(InputError, match="no such dataset"):
        export(tmp_path / "gone", tmp_path, load_config())
    with pytest.raises(InputError, match="no split 'most'"):
        export(dataset, tmp_path, load_config(), split="most")
