"""A dataset on disk: Parquet shards with one row per event, and a manifest that is written last.

A folder without a manifest is not a dataset. The contents depend only on the input files and on the
settings in the manifest, not on how the work was divided.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from hepllm.arrays import Digests, Floats
from hepllm.arrow_files import read_parquet
from hepllm.data.event_table import (
    ROW_SCHEMA,
    EventTable,
    concatenate,
    table_of_rows,
    table_schema,
)
from hepllm.data.manifest import Manifest
from hepllm.data.particles import JET_COLUMNS, PARTICLE_COLUMNS
from hepllm.data.signal_points import (
    SignalPoint,
    masses_of_points,
    point_of_rows,
    signals_of_points,
)
from hepllm.errors import InputError
from hepllm.expressions import NO_VARIABLES, NewVariables
from hepllm.files import file_digest
from hepllm.schema import BACKGROUND, EXTENDED_FEATURES, SCHEMA_VERSION, SIGNAL, SPLITS, UNKNOWN

MANIFEST = "manifest.json"

LABEL_NAMES: Mapping[int, str] = {SIGNAL: "signal", BACKGROUND: "background", UNKNOWN: "unknown"}

_REMEDY = "; make it again with preprocess.extended=true"
_LABELS = ("label", "label_raw")


@dataclass(frozen=True)
class Dataset:
    """A complete dataset; made by ``read_dataset``.

    Attributes:
        variables: new variables that are computed where the dataset lacks their columns.
    """

    folder: Path
    manifest: Manifest
    variables: NewVariables = NO_VARIABLES

    def with_variables(self, variables: NewVariables) -> Dataset:
        """The dataset in which new variables are columns too.

        Raises:
            InputError: the dataset has another column of the same name.
        """
        own = self.manifest.config.get("preprocess", {}).get("new_variables", {})
        for name, expression in variables.expressions.items():
            if name in self.manifest.features and own.get(name) != expression.text:
                was = f"'{own[name]}'" if name in own else "a column of its files"
                raise InputError(
                    f"{self.folder}: has '{name}' as {was}, and preprocess.new_variables has it as "
                    f"'{expression.text}'; name one of them otherwise"
                )
        return replace(self, variables=variables)

    @property
    def n_events(self) -> int:
        """Number of events in all splits."""
        return self.manifest.n_events

    def require_events(self) -> None:
        """Raises ``InputError`` if the dataset has no events, because its selection kept none."""
        if not self.n_events:
            raise InputError(
                f"{self.folder}: contains no events; see its cut flow with 'hepllm inspect', and "
                "preprocess again with another selection"
            )

    def check_shards(self) -> None:
        """Raises ``InputError`` if a shard is missing or has another content than was written."""
        for shard in self.manifest.shards:
            file = self.folder / shard.file
            if not file.is_file() or file_digest(file) != shard.sha256:
                raise InputError(f"{file}: missing or damaged")

    @property
    def digest(self) -> str:
        """SHA-256 of the contents: equal for equal shards, whatever folder they are in."""
        content = [shard.model_dump() for shard in self.manifest.shards]
        text = json.dumps([self.manifest.schema_version, content])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def has_labels(self) -> bool:
        """Whether the labels of all events are known; the events themselves are not read."""
        return not self.manifest.counts["all"].get(LABEL_NAMES[UNKNOWN], 0)

    def load(
        self,
        features: Sequence[str],
        split: str | None = None,
        *,
        labels: bool = True,
        particles: int = 0,
    ) -> EventTable:
        """Reads features of all events, or of one split, into memory.

        Args:
            features: names of the features.
            split: split to read; None for all events.
            labels: whether to read the labels; without, all are unknown, and the columns stay
                unread.
            particles: most constituents of each leading jet to read; 0: no particles.

        Raises:
            InputError: for an unknown feature or split, fewer constituents than asked for, or a
                shard that is missing or damaged.
        """
        self._check(features, split, particles)
        schema = table_schema(dict.fromkeys((*features, *JET_COLUMNS)), particles > 0)
        empty = table_of_rows(schema.empty_table(), tuple(features), particles)
        counts = self.manifest.counts["all" if split is None else split]
        n_events, stop = sum(counts.values()), 0
        # One array of each kind, filled shard by shard: a list of shards would double the memory.
        whole = {
            name: np.empty((n_events, *values.shape[1:]), values.dtype)
            for name, values in empty.arrays().items()
        }
        for table in self._shard_tables(features, split, labels=labels, particles=particles):
            start, stop = stop, stop + len(table)
            if stop > n_events:
                break
            for name, values in whole.items():
                values[start:stop] = getattr(table, name)
        if stop != n_events:
            raise InputError(
                f"{self.folder}: not the {n_events} events that its manifest counts; make the "
                "dataset again"
            )
        return EventTable(names=tuple(features), **whole)

    def batches(
        self, features: Sequence[str], size: int, split: str | None = None, *, particles: int = 0
    ) -> Iterator[EventTable]:
        """Reads events in file order, ``size`` at a time, fewer at the end; as ``load`` does."""
        self._check(features, split, particles)
        kept: list[EventTable] = []
        n_kept = 0
        for table in self._shard_tables(features, split, particles=particles):
            kept.append(table)
            n_kept += len(table)
            if n_kept < size:
                continue
            whole = concatenate(kept)
            n_full = n_kept - n_kept % size
            for start in range(0, n_full, size):
                yield whole.take(np.arange(start, start + size))
            kept, n_kept = [whole.take(np.arange(n_full, n_kept))], n_kept - n_full
        if n_kept:
            yield concatenate(kept)

    @property
    def has_signal_points(self) -> bool:
        """Whether the true masses and decays of all signal events are known."""
        return all(source.signal_points for source in self.manifest.sources)

    def true_masses(self, table: EventTable) -> Floats:
        """Masses of Z', X and Y in GeV with which events of this dataset were simulated.

        Args:
            table: N events of this dataset, with labels.

        Returns:
            Shape (N, 3); NaN for background, for a single quark, and where nothing is known.
        """
        masses = np.full((len(table), 3), np.nan)
        for points, mine in self._known_signal(table):
            masses[mine] = masses_of_points(points)[point_of_rows(points, table.event_id[mine])]
        return masses

    def true_signals(self, table: EventTable) -> NDArray[np.object_]:
        """The ``hypotheses.Signal`` that events of this dataset were simulated with.

        Args:
            table: N events of this dataset, with labels.

        Returns:
            Shape (N,); None for background, and where nothing is known.
        """
        signals = np.full(len(table), None, dtype=object)
        for points, mine in self._known_signal(table):
            signals[mine] = signals_of_points(points)[point_of_rows(points, table.event_id[mine])]
        return signals

    def _known_signal(
        self, table: EventTable
    ) -> Iterator[tuple[tuple[SignalPoint, ...], NDArray[np.bool_]]]:
        """The points of each source that has some, and which events of a table are its signal."""
        for source in self.manifest.sources:
            mine = (table.source == source.name) & (table.label == SIGNAL)
            if source.signal_points and mine.any():
                yield source.signal_points, mine

    @property
    def particles_per_jet(self) -> int:
        """The most constituents of a leading jet that its lists have; 0 without lists."""
        return int(self.manifest.config.get("preprocess", {}).get("particles_per_jet", 0))

    def require_particles(self, per_jet: int) -> None:
        """Raises ``InputError`` if the lists have fewer constituents of each leading jet."""
        if per_jet > self.particles_per_jet:
            has = self.particles_per_jet or "no"
            raise InputError(
                f"{self.folder}: has {has} constituents of each jet, and {per_jet} are needed; "
                f"preprocess files of particles with --set preprocess.particles_per_jet={per_jet}, "
                "or choose a method that reads features alone, such as fusion.inputs=numbers"
            )

    def _check(self, features: Sequence[str], split: str | None, particles: int) -> None:
        unknown = [name for name in self._stored(features) if name not in self.manifest.features]
        if unknown:
            remedy = _REMEDY if unknown[0] in EXTENDED_FEATURES else ""
            raise InputError(f"{self.folder}: no feature '{unknown[0]}' in this dataset{remedy}")
        if split is not None and split not in SPLITS:
            raise InputError(f"{self.folder}: no split '{split}'; there are {', '.join(SPLITS)}")
        self.require_particles(particles)

    def _stored(self, features: Iterable[str]) -> list[str]:
        """The columns on disk from which features are read or computed."""
        stored = self.manifest.features
        names = [(name,) if name in stored else self.variables.inputs((name,)) for name in features]
        return list(dict.fromkeys(itertools.chain.from_iterable(names)))

    def _with_computed(self, table: pa.Table, features: Iterable[str]) -> pa.Table:
        """A shard with those of the features that are computed from its columns."""
        missing = [name for name in features if name not in table.column_names]
        if not missing:
            return table
        inputs = {name: table[name].to_numpy() for name in self.variables.inputs(missing)}
        found = self.variables.computed(inputs, missing)
        for name in missing:
            table = table.append_column(name, pa.array(found[name]))
        return table

    def _shard_tables(
        self,
        features: Sequence[str],
        split: str | None,
        *,
        labels: bool = True,
        particles: int = 0,
    ) -> Iterator[EventTable]:
        rows = [name for name in ROW_SCHEMA.names if labels or name not in _LABELS]
        lists = (*PARTICLE_COLUMNS, *JET_COLUMNS) if particles else ()
        columns = list(dict.fromkeys([*rows, *self._stored(features), *lists]))
        for shard in self.manifest.shards:
            file = self.folder / shard.file
            try:
                table = read_parquet(file, columns)
            except (OSError, pa.ArrowException) as error:
                raise InputError(
                    f"{file}: cannot be read, make the dataset again: {error}"
                ) from None
            if table.num_rows != shard.events:
                raise InputError(
                    f"{file}: {table.num_rows} events, expected {shard.events} by the manifest; "
                    "make the dataset again"
                )
            if split is not None:
                table = table.filter(pc.equal(table["split"], split))
            yield table_of_rows(self._with_computed(table, features), tuple(features), particles)


def read_dataset(folder: Path) -> Dataset:
    """Opens a dataset.

    Raises:
        InputError: the folder does not exist, or is not a complete dataset.
    """
    file = folder / MANIFEST
    if folder.is_file():
        raise InputError(f"{folder}: expected the folder of a dataset, found a file")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such dataset; make it with 'hepllm preprocess'")
    if not file.is_file():
        raise InputError(f"{folder}: not a complete dataset: it has no {MANIFEST}")
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(tree, dict) and tree.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"{file}: schema version {tree.get('schema_version')}, expected "
                f"{SCHEMA_VERSION}; run 'hepllm preprocess' again"
            )
        manifest = Manifest.model_validate(tree)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise InputError(
            f"{file}: damaged manifest: {' '.join(str(error).split())[:200]}"
        ) from None
    return Dataset(folder, manifest)


def overlap(first: Digests, second: Digests) -> int:
    """The number of distinct events, by digest, that are in both."""
    return len(np.intersect1d(first, second))
