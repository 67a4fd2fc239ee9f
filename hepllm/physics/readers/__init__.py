"""Readers of event files; a reader checks a file once and then reads rows of it in workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.events import EventBatch
from hepllm.physics.readers.columns import ColumnTable
from hepllm.physics.readers.content import kind_of_content
from hepllm.physics.readers.delimited import open_delimited
from hepllm.physics.readers.features import has_known_columns, open_features
from hepllm.physics.readers.frames import open_frame
from hepllm.physics.readers.hepmc import open_hepmc
from hepllm.physics.readers.lhco import N_COLUMNS, lhco_of_frame
from hepllm.physics.readers.npy import open_npy
from hepllm.physics.readers.parquet import open_parquet


class EventFile(Protocol):
    """An event file of known structure; frozen and picklable."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def n_events(self) -> int:
        """Number of rows."""

    @property
    def has_labels(self) -> bool:
        """Whether the file has labels."""

    @property
    def observers(self) -> Collection[str]:
        """Names of the further columns that are read."""

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads the rows from ``start`` to before ``stop``."""


_TABLES: Mapping[str, Callable[[Path], ColumnTable]] = {
    "hdf5": open_frame,
    "csv": open_delimited,
    "parquet": open_parquet,
    "npy": open_npy,
}


def open_event_file(path: Path, config: PreprocessConfig | None = None) -> EventFile:
    """Opens an event file of any known format.

    Args:
        path: the file.
        config: format, and contents of columns or branches; None: all detected from the file.

    Raises:
        InputError: the file is missing, damaged, empty or of unknown format.
    """
    config = config or PreprocessConfig()
    kind = kind_of_content(path)
    expected = {"lhco": "hdf5", "auto": kind, "features": kind}.get(config.format, config.format)
    if kind != expected:
        raise InputError(
            f"{path}: --format {config.format} does not fit its content, which is {kind.upper()}"
        )
    if kind == "root":
        from hepllm.physics.readers.root import open_root  # noqa: PLC0415 (uproot loads slowly)

        return open_root(path, config)
    if kind == "hepmc":
        return open_hepmc(path, config)
    if kind == "hdf5" and config.format != "features":
        frame = open_frame(path)
        named = config.columns is not None or has_known_columns(frame)
        if config.format == "lhco" or frame.n_columns >= N_COLUMNS or not named:
            return lhco_of_frame(frame, config)
        return open_features(frame, config)
    return open_features(_TABLES[kind](path), config)
