"""Writes a dataset: splits by hash, the columns of a shard, shards and the manifest."""

from __future__ import annotations

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm.arrays import Bools, Columns, Digests
from hepllm.arrow_files import write_parquet
from hepllm.config import SplitConfig
from hepllm.data.dataset import LABEL_NAMES, MANIFEST
from hepllm.data.event_table import table_schema
from hepllm.data.manifest import CutFlowStep, Manifest, Shard, SourceFile
from hepllm.files import file_digest, sync, write_text
from hepllm.schema import SCHEMA_VERSION, SPLITS

SHARD_ROWS = 50_000

_CATEGORIES = ("source", "label", "label_raw", "split")
"""Columns with few distinct values, where Parquet's dictionary encoding saves space."""

_PACKAGES = ("hepllm", "awkward", "fastjet", "h5py", "numpy", "pyarrow")


def assign_splits(digests: Digests, config: SplitConfig) -> NDArray[np.int8]:
    """Splits of events as positions in ``schema.SPLITS``, by a seeded hash of their content.

    The same event in another file is assigned to the same split.
    """
    seed = _mix(np.array([config.seed % 2**64], dtype=np.uint64))
    uniform = (_mix(digests ^ seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    edges = np.cumsum([getattr(config, name) for name in SPLITS])[:-1]
    return np.searchsorted(edges, uniform, side="right").astype(np.int8)


def _mix(values: Digests) -> Digests:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def make_table(
    rows: Mapping[str, NDArray[Any]],
    features: Columns,
    source: tuple[int, Sequence[str]],
    splits: SplitConfig | NDArray[np.int8],
    particles: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """Makes the table of some events of one source with the columns of a shard.

    Args:
        rows: ``event_id``, ``event_digest``, ``label_raw`` (-1 unknown) and ``weight``.
        features: every feature of the dataset, NaN where missing.
        source: the position of the source in the list of all sources' names, and that list.
        splits: shares and seed of the splits, or the split of each event as a position in
            ``schema.SPLITS``.
        particles: the optional lists of constituents.
    """
    position, names = source
    places = np.full(len(rows["event_id"]), position, dtype=np.int32)
    if isinstance(splits, SplitConfig):
        splits = assign_splits(rows["event_digest"], splits)
    numbers: dict[str, NDArray[Any]] = {
        **rows,
        "label": np.sign(rows["label_raw"]).astype(np.int8),
        "label_raw": rows["label_raw"].astype(np.int16),
    }
    columns = {
        **{name: _to_arrow(values) for name, values in numbers.items()},
        "source": _to_categories(places, names),
        "split": _to_categories(splits, SPLITS),
        **{name: _to_arrow(values, np.isnan(values)) for name, values in features.items()},
        **(particles or {}),
    }
    schema = table_schema(features, particles is not None)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _to_arrow(values: NDArray[Any], missing: Bools | None = None) -> pa.Array:
    """Converts values without a copy where they are contiguous in memory.

    ``pa.array`` would import pandas, where that is installed, in every worker.
    """
    kind = pa.from_numpy_dtype(values.dtype)
    validity = None
    if missing is not None and missing.any():
        validity = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    buffers = [validity, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _to_categories(positions: NDArray[Any], names: Sequence[str]) -> pa.DictionaryArray:
    encoded = [name.encode() for name in names]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    strings = pa.StringArray.from_buffers(
        len(names), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    )
    return pa.DictionaryArray.from_arrays(_to_arrow(positions), strings)


def _to_numpy(values: pa.Array) -> NDArray[Any]:
    """The numbers of an array without nulls; ``values.to_numpy`` would import pandas."""
    numbers: NDArray[Any] = np.from_dlpack(values)
    return numbers


def _categories(column: pa.DictionaryArray) -> Iterator[tuple[str, Bools]]:
    """The strings that occur in a column, and the rows of each."""
    positions = _to_numpy(column.indices)
    for position, name in enumerate(column.dictionary.to_pylist()):
        mine = positions == position
        if mine.any():
            yield name, mine


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide the contents of a dataset."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


class DatasetWriter:
    """Writes a dataset into an existing folder, which is complete only after ``finish``.

    Shards have ``SHARD_ROWS`` rows, independent of the sizes of the tables.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: list[Shard] = []
        self._buffer: list[pa.Table] = []
        self._n_buffered = 0
        self._counts: Counter[tuple[str, int]] = Counter()
        self._digests: dict[str, list[Digests]] = {}

    def write(self, table: pa.Table) -> None:
        """Appends events of a table that ``make_table`` made."""
        self._buffer.append(table)
        self._n_buffered += table.num_rows
        if self._n_buffered >= SHARD_ROWS:
            self._flush()

    def finish(
        self,
        config: Mapping[str, Any],
        sources: Sequence[SourceFile],
        cut_flow: Sequence[CutFlowStep],
        features: Sequence[str],
    ) -> Manifest:
        """Writes the last shard, then the manifest, which makes the folder a dataset.

        Args:
            config: the resolved configuration.
            sources: the input files.
            cut_flow: events left after each step of the selection.
            features: names of the feature columns.
        """
        self._flush(last=True)
        digests = map(np.concatenate, self._digests.values())
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            config=dict(config),
            sources=list(sources),
            cut_flow=list(cut_flow),
            n_events=sum(shard.events for shard in self._shards),
            counts=self._table_of_counts(),
            duplicate_events=sum(len(one) - len(np.unique(one)) for one in digests),
            packages=package_versions(),
            features=list(features),
            shards=self._shards,
        )
        text = json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n"
        write_text(self._folder / MANIFEST, text, durable=True)
        return manifest

    def _flush(self, last: bool = False) -> None:
        if not self._buffer:
            return
        whole = pa.concat_tables(self._buffer)
        n_full = whole.num_rows if last else whole.num_rows - whole.num_rows % SHARD_ROWS
        for start in range(0, n_full, SHARD_ROWS):
            self._write_shard(whole.slice(start, min(SHARD_ROWS, n_full - start)))
        rest = whole.slice(n_full)
        self._buffer = [rest] if rest.num_rows else []
        self._n_buffered = rest.num_rows

    def _write_shard(self, table: pa.Table) -> None:
        table = table.combine_chunks()
        self._count(table)
        file = self._folder / f"events-{len(self._shards):05d}.parquet"
        floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
        write_parquet(
            table,
            file,
            row_group_size=SHARD_ROWS,
            use_dictionary=list(_CATEGORIES),
            use_byte_stream_split=floats,
        )
        sync(file)
        self._shards.append(Shard(file=file.name, events=table.num_rows, sha256=file_digest(file)))

    def _count(self, table: pa.Table) -> None:
        labels, digests = (_to_numpy(table[name].chunk(0)) for name in ("label", "event_digest"))
        for split, mine in _categories(table["split"].chunk(0)):
            for label in LABEL_NAMES:
                self._counts[split, label] += int((mine & (labels == label)).sum())
        for source, mine in _categories(table["source"].chunk(0)):
            self._digests.setdefault(source, []).append(digests[mine])

    def _table_of_counts(self) -> dict[str, dict[str, int]]:
        by_split = {
            split: {name: self._counts[split, label] for label, name in LABEL_NAMES.items()}
            for split in SPLITS
        }
        total = sum(map(Counter, by_split.values()), Counter())
        return {"all": {name: total[name] for name in LABEL_NAMES.values()}, **by_split}
