"""``hepllm label``: tables, what is told afterwards, and a run that goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv as pacsv
import pytest

from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.notes import NotesRecord, read_notes, write_notes
from hepllm.errors import InputError
from hepllm.labelling.predictions import Predictions
from hepllm.labelling.records import LabellingRecord
from hepllm.stages.label import label

QUICK = ("label.pool=12", "label.context=3", "label.blocks=3", "label.coherence.sweeps=2")


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config(*QUICK, "label.layout=full", "label.features=[jet1_mass, jet2_mass]")


def labels(file: Path) -> dict[str, np.ndarray]:
    table = read_notes(file, "").table
    return {name: table[name].to_numpy() for name in table.column_names}


def test_labels_are_a_side_table_and_truth_is_told_afterwards(
    tiny_data: Path, config: Config, tmp_path: Path
) -> None:
    dataset = tiny_data / "data" / "rnd"
    report = label(dataset, config, tmp_path / "labels.parquet")
    found = labels(tmp_path / "labels.parquet")
    known = read_dataset(dataset).load(())
    assert np.isin(found["event_digest"], known.event_digest).all()
    assert len(np.unique(found["event_digest"])) == 12
    assert set(found["label"]) <= {-1, 0, 1}
    record = LabellingRecord.read(tmp_path / "labels.json", "")
    assert record.n_views == 2
    assert record.n_signal + record.n_background + record.n_unlabelled == 12
    assert record.truth is not None
    truth = dict(zip(known.event_digest.tolist(), known.label.tolist(), strict=True))
    right = [truth[d] == one for d, one in zip(found["event_digest"], found["label"], strict=True)]
    assert record.truth.accuracy.value == pytest.approx(np.mean(right))
    assert "read afterwards: accuracy" in report.text
    assert not (tmp_path / "labels.parquet.partial").exists()
    with pytest.raises(InputError, match="give --overwrite to replace it"):
        label(dataset, config, tmp_path / "labels.parquet")


def test_a_stopped_run_goes_on_and_ends_the_same(
    tiny_data: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tiny_data / "data" / "rnd"
    whole = label(dataset, config, tmp_path / "whole.parquet").record
    ask, calls = Predictions.__call__, []

    def interrupted(self, requests):
        calls.append(self)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return ask(self, requests)

    output = tmp_path / "stopped.parquet"
    monkeypatch.setattr(Predictions, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        label(dataset, config, output)
    first = calls[0].n_asked
    monkeypatch.undo()
    assert not output.exists()
    assert first > 0
    seen: list[Predictions] = []
    made = Predictions.__post_init__
    monkeypatch.setattr(
        Predictions, "__post_init__", lambda self: (seen.append(self), made(self))[1]
    )
    again = label(dataset, config, output).record
    assert seen[0].n_asked == whole.n_predictions - first
    assert again.model_dump(exclude={"truth"}) == whole.model_dump(exclude={"truth"})
    for name, values in labels(tmp_path / "whole.parquet").items():
        assert np.array_equal(values, labels(output)[name]), name


def test_predictions_of_other_prompts_are_refused(
    tiny_data: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, output = tiny_data / "data" / "rnd", tmp_path / "labels.csv"
    with monkeypatch.context() as patch:
        patch.setattr("hepllm.stages.label._describe", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            label(dataset, config, output)
    other = load_config(None, ["label.pool=10"]).label.pool
    changed = config.model_copy(update={"label": config.label.model_copy(update={"pool": other})})
    with pytest.raises(InputError, match=r"label\.pool was 12, is 10; give --overwrite"):
        label(dataset, changed, output)
    label(dataset, config, output)
    table = pacsv.read_csv(output)
    assert {"event_digest", "event_id", "source", "label", "soft_label"} <= set(table.column_names)
    assert json.loads((tmp_path / "labels.json").read_text())["method"] == "icm"


@pytest.mark.parametrize("method", ["zero-shot", "few-shot", "iterated", "k-means", "soft"])
def test_simpler_methods_keep_to_the_budget(
    tiny_data: Path, config: Config, tmp_path: Path, method: str
) -> None:
    settings = config.label.model_copy(update={"method": method, "budget": 120})
    changed = config.model_copy(update={"label": settings})
    report = label(tiny_data / "data" / "rnd", changed, tmp_path / "labels.parquet")
    assert report.record.n_predictions <= 120
    assert report.record.n_unlabelled == 0


def test_events_of_a_run_s_training_are_left_out(
    tiny_data: Path, tiny_run: Path, config: Config, tmp_path: Path
) -> None:
    from hepllm.runs.folder import open_run

    settings = config.label.model_copy(update={"backend": str(tiny_run), "method": "zero-shot"})
    changed = config.model_copy(update={"label": settings})
    label(tiny_data / "data" / "rnd", changed, tmp_path / "labels.parquet")
    found = labels(tmp_path / "labels.parquet")["event_digest"]
    assert not np.isin(found, open_run(tiny_run).used_events()).any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"backend": "gone"}, "label.backend: gone: neither local"),
        ({"budget": 3}, "label.budget: 3 predictions do not suffice for icm"),
        ({"context": 11, "layout": "full"}, ""),
    ],
)
def test_refusals_say_what_to_do(
    tiny_data: Path, config: Config, tmp_path: Path, changes: dict, reason: str
) -> None:
    settings = config.label.model_copy(update=changes)
    changed = config.model_copy(update={"label": settings})
    output = tmp_path / "labels.parquet"
    if not reason:
        assert label(tiny_data / "data" / "rnd", changed, output).record.n_events == 12
        return
    with pytest.raises(InputError, match=reason):
        label(tiny_data / "data" / "rnd", changed, output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_smollm2_labels_real_prompts_alike_in_serial(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEPLLM_CACHE")
    made = []
    for serial in (False, True):
        config = load_config(
            None,
            [
                *(*QUICK, "backbone.device=cpu", "train.threads=1", f"label.serial={serial}"),
                *("label.method=few-shot", "label.budget=60", "backbone.dtype=float32"),
            ],
        )
        output = tmp_path / f"{serial}.parquet"
        label(tiny_data / "data" / "rnd", config, output)
        made.append(labels(output)["log_odds"])
    np.testing.assert_allclose(made[0], made[1], atol=2e-3)
    assert np.abs(made[0]).max() > 0.01


def test_landmarks_calibrate_and_are_left_out_of_the_accuracy(
    tiny_data: Path, config: Config, tmp_path: Path
) -> None:
    dataset = tiny_data / "data" / "rnd"
    known = read_dataset(dataset).load(())
    file = tmp_path / "landmarks.parquet"
    record = NotesRecord(holds="landmarks", made_by="a test")
    soft = config.label.soft.model_copy(update={"landmarks": str(file), "epochs": 5})
    settings = config.label.model_copy(update={"method": "soft", "budget": 300, "soft": soft})
    changed = config.model_copy(update={"label": settings})
    write_notes(file, known.event_digest[:0], {"label": known.label[:0]}, record)
    with pytest.raises(InputError, match="has no label of the 12 events of the pool"):
        label(dataset, changed, tmp_path / "labels.parquet")
    plain = config.label.model_copy(update={"method": "zero-shot"})
    label(dataset, config.model_copy(update={"label": plain}), tmp_path / "plain.parquet")
    odds = labels(tmp_path / "plain.parquet")
    chosen = np.argsort(odds["log_odds"])[[0, 1, -1]]  # labels that the model agrees with
    given = {"label": np.array([0, 0, 1], dtype=np.int8)}
    write_notes(file, odds["event_digest"][chosen], given, record)
    found = label(dataset, changed, tmp_path / "labels.parquet").record
    assert found.truth is not None
    assert found.start_truth is not None
    assert found.truth.accuracy.n_events == 9
