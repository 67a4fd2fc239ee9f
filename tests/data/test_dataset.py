"""Datasets on disk: shards, splits, manifest, and what is no dataset."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepllm.config import SplitConfig
from hepllm.data import writer
from hepllm.data.dataset import Dataset, overlap, read_dataset
from hepllm.data.manifest import CutFlowStep, SourceFile
from hepllm.data.writer import DatasetWriter, make_table
from hepllm.errors import InputError
from hepllm.schema import FEATURES, SPLITS

_SOURCES = [
    SourceFile(name=name, file=f"{name}.h5", size=1, sha256="", events=1) for name in ("a", "b")
]


def _table(first: int, n_events: int, position: int = 0, label: int = 0) -> pa.Table:
    """Events whose m_jj is their event_id, with every third one missing."""
    event_id = np.arange(first, first + n_events)
    m_jj = np.where(event_id % 3 == 0, np.nan, event_id).astype(float)
    rows = {
        "event_id": event_id,
        "event_digest": event_id.astype(np.uint64) * np.uint64(7919),
        "label_raw": np.full(n_events, label),
        "weight": np.full(n_events, -0.5),
    }
    features = dict.fromkeys(FEATURES, np.zeros(n_events)) | {"m_jj": m_jj}
    return make_table(rows, features, (position, ["a", "b"]), SplitConfig())


def _write(folder: Path, *tables: pa.Table) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    writer = DatasetWriter(folder)
    for table in tables:
        writer.write(table)
    cut_flow = [CutFlowStep(name="events read", events=9)]
    writer.finish({"seed": 1}, _SOURCES, cut_flow, tuple(FEATURES))
    return read_dataset(folder)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SHARD_ROWS", 10)


@pytest.fixture
def dataset(tmp_path: Path, small_shards: None) -> Dataset:
    return _write(tmp_path / "d", _table(0, 13), _table(13, 12, label=2), _table(0, 7, 1, label=-1))


def test_what_was_written_is_read(dataset: Dataset) -> None:
    events = dataset.load(["m_jj", "ht"])
    assert events.names == ("m_jj", "ht")
    assert events.features.shape == (32, 2)
    assert events.features.dtype == np.float64
    np.testing.assert_array_equal(events.event_id, [*range(25), *range(7)])
    np.testing.assert_array_equal(np.isnan(events.column("m_jj")), events.event_id % 3 == 0)
    known = ~np.isnan(events.column("m_jj"))
    np.testing.assert_array_equal(events.column("m_jj")[known], events.event_id[known])
    assert events.source.tolist() == ["a"] * 25 + ["b"] * 7
    assert events.label.tolist() == [0] * 13 + [1] * 12 + [-1] * 7
    assert events.label_raw.tolist() == [0] * 13 + [2] * 12 + [-1] * 7
    assert events.label.dtype == np.int8
    assert events.event_digest.dtype == np.uint64
    np.testing.assert_array_equal(events.weight, -0.5)
    assert set(events.split) <= set(SPLITS)


def test_equal_texts_of_a_shard_are_one_object(dataset: Dataset) -> None:
    table, n_shards = dataset.load([]), len(dataset.manifest.shards)
    for texts in (table.source, table.split):
        assert len({id(text) for text in texts}) <= n_shards * len(set(texts)) < len(texts)


def test_events_that_the_manifest_does_not_count_are_refused(dataset: Dataset) -> None:
    counts = {"all": {"signal": 1, "background": 2, "unknown": 0}}
    manifest = dataset.manifest.model_copy(update={"counts": counts})
    with pytest.raises(InputError, match="not the 3 events that its manifest counts"):
        Dataset(dataset.folder, manifest).load([])


def test_missing_values_are_null_on_disk(dataset: Dataset) -> None:
    column = pq.read_table(dataset.folder / dataset.manifest.shards[0].file)["m_jj"]
    assert column.null_count == 4
    assert not np.isnan(column.drop_null().to_numpy()).any()


def test_shards_have_a_fixed_size(dataset: Dataset) -> None:
    assert [shard.events for shard in dataset.manifest.shards] == [10, 10, 10, 2]
    assert sorted(path.name for path in dataset.folder.glob("*.parquet")) == [
        shard.file for shard in dataset.manifest.shards
    ]


@pytest.mark.usefixtures("small_shards")
@given(sizes=st.lists(st.integers(0, 25), min_size=1, max_size=5))
@settings(max_examples=15)
def test_shards_do_not_depend_on_how_tables_come(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    starts = np.cumsum([0, *sizes[:-1]])
    pieces = [_table(int(start), size) for start, size in zip(starts, sizes, strict=True)]
    in_pieces = _write(folder / "pieces", *pieces)
    whole = _write(folder / "whole", _table(0, sum(sizes)))
    assert in_pieces.digest == whole.digest
    assert in_pieces.manifest == whole.manifest
    assert in_pieces.n_events == sum(sizes)


def test_splits_are_loaded_alone(dataset: Dataset) -> None:
    everything = dataset.load(["m_jj"])
    for split in SPLITS:
        part = dataset.load(["m_jj"], split)
        assert set(part.split) <= {split}
        expected = everything.take(everything.split == split)
        np.testing.assert_array_equal(part.event_digest, expected.event_digest)
    assert sum(len(dataset.load([], split)) for split in SPLITS) == 32


@pytest.mark.parametrize("split", [None, "train"])
@pytest.mark.parametrize("size", [1, 3, 10, 32, 100])
def test_batches_are_the_whole_in_pieces(size: int, split: str | None, dataset: Dataset) -> None:
    whole = dataset.load(["m_jj"], split)
    batches = list(dataset.batches(["m_jj"], size, split))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert 0 < len(batches[-1]) <= size
    np.testing.assert_array_equal(
        np.concatenate([batch.features for batch in batches]), whole.features
    )


def test_counts_and_duplicates_are_in_the_manifest(tmp_path: Path) -> None:
    dataset = _write(
        tmp_path / "d", _table(0, 10, label=1), _table(5, 10), _table(0, 4, 1, label=-1)
    )
    manifest = dataset.manifest
    assert manifest.counts["all"] == {"signal": 10, "background": 10, "unknown": 4}
    for name in ("signal", "background", "unknown"):
        assert sum(manifest.counts[split][name] for split in SPLITS) == manifest.counts["all"][name]
    events = dataset.load([])
    assert (
        manifest.counts["train"]["signal"]
        == ((events.split == "train") & (events.label == 1)).sum()
    )
    # Events 5 to 9 came twice from source a; the same events from source b are another matter.
    assert manifest.duplicate_events == 5


def test_take_by_mask_and_by_position(dataset: Dataset) -> None:
    events = dataset.load(["m_jj"])
    np.testing.assert_array_equal(
        events.take(events.event_id > 20).event_id, events.event_id[events.event_id > 20]
    )
    assert events.take(np.array([3, 1])).event_id.tolist() == [3, 1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        events.label = events.label  # type: ignore[misc]


def test_a_dataset_without_events(tmp_path: Path) -> None:
    dataset = _write(tmp_path / "d", _table(0, 0))
    assert dataset.n_events == 0
    assert dataset.load(["m_jj"]).features.shape == (0, 1)
    assert list(dataset.batches(["m_jj"], 5)) == []


def test_unknown_names(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="no feature 'mjj'"):
        dataset.load(["mjj"])
    with pytest.raises(InputError, match="no split 'dev'; there are train, val, test"):
        dataset.load(["m_jj"], "dev")


def test_without_manifest_it_is_no_dataset(dataset: Dataset) -> None:
    (dataset.folder / "manifest.json").unlink()
    with pytest.raises(InputError, match="not a complete dataset"):
        read_dataset(dataset.folder)
    with pytest.raises(InputError, match="no such dataset"):
        read_dataset(dataset.folder / "absent")
    with pytest.raises(InputError, match="expected the folder of a dataset, found a file"):
        read_dataset(next(dataset.folder.glob("*.parquet")))


def _edit(dataset: Dataset, **changes: Any) -> None:
    file = dataset.folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_damaged_manifests(dataset: Dataset) -> None:
    _edit(dataset, n_events="many")
    with pytest.raises(InputError, match="damaged manifest"):
        read_dataset(dataset.folder)
    _edit(dataset, schema_version=99)
    with pytest.raises(InputError, match="schema version 99"):
        read_dataset(dataset.folder)
    (dataset.folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="damaged manifest"):
        read_dataset(dataset.folder)


def test_missing_and_short_shards(dataset: Dataset) -> None:
    files = [dataset.folder / shard.file for shard in dataset.manifest.shards]
    files[1].write_bytes(files[3].read_bytes())
    with pytest.raises(InputError, match="2 events, expected 10 by the manifest"):
        dataset.load(["m_jj"])
    files[1].unlink()
    with pytest.raises(InputError, match=r"events-00001.parquet: cannot be read"):
        dataset.load(["m_jj"])


def test_digest_tells_contents_apart(tmp_path: Path) -> None:
    one, same = (_write(tmp_path / name, _table(0, 9)) for name in ("one", "same"))
    other = _write(tmp_path / "other", _table(1, 9))
    assert one.digest == same.digest
    assert one.digest != other.digest


def test_overlap_counts_common_events() -> None:
    first, second = np.array([1, 2, 2, 3], np.uint64), np.array([2, 3, 4], np.uint64)
    assert overlap(first, second) == 2
    assert overlap(first, np.array([9], np.uint64)) == 0
