"""Score files, and the calibration of scores with a run's validation events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from hepllm.arrow_files import open_file, write_parquet
from hepllm.errors import InputError
from hepllm.evaluation.averaging import SPREAD
from hepllm.evaluation.calibration import Calibration
from hepllm.evaluation.calibration_choice import Choice, choose_calibration
from hepllm.evaluation.scores import ScoredEvents
from hepllm.files import write_aside
from hepllm.runs.folder import Run

LOG = logging.getLogger(__name__)

CASCADED = "cascaded"
"""Additional column of a cascade: whether the score is that of the boosting."""

SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("label", pa.int8()),
        pa.field("score", pa.float64()),
        pa.field("probability", pa.float64()),
    ]
)
"""Columns of a score file, one row per event."""


@dataclass(frozen=True, eq=False)
class RunCalibration:
    """A run's map from scores to probabilities, and the scores that it was fitted to."""

    validation: ScoredEvents
    map: Calibration


def calibrate(run: Run, choice: Choice) -> RunCalibration:
    """Fits the calibration of a run to its validation scores.

    Where this is not possible, for instance because the model has learnt nothing, scores are not
    calibrated, with a warning.

    Raises:
        InputError: the training of the run did not finish.
    """
    validation = ScoredEvents(run.validation_scores(), *run.validation_labels())
    found = calibrate_scores(validation, choice, prior_of(run), str(run.folder))
    return RunCalibration(validation, found)


def prior_of(run: Run) -> float:
    """The signal fraction of the training events of a run."""
    n_signal, n_background = run.record.n_train["signal"], run.record.n_train["background"]
    return n_signal / (n_signal + n_background)


def calibrate_scores(
    validation: ScoredEvents, choice: Choice, prior: float, what: str
) -> Calibration:
    """Fits a calibration; where this is not possible, none, with a warning about ``what``."""
    try:
        return choose_calibration(validation, choice, prior)
    except InputError as error:
        LOG.warning("%s: probabilities are not calibrated: %s", what, error)
        return Calibration("none", prior)


def score_schema(
    prior_name: str,
    cascaded: bool = False,
    hypothesis: str | None = None,
    keep: Sequence[str] = (),
    *,
    spread: bool = False,
) -> pa.Schema:
    """Columns of a score file, with the prior of ``probability`` in words as metadata.

    Scores of an ensemble have their ``spread`` beside them. Features to ``keep`` are the last
    columns.
    The metadata also have the hypothesis under which the events were scored, if there was one.
    """
    probability = SCHEMA.field("probability").with_metadata({"prior": prior_name})
    place = SCHEMA.get_field_index("probability")
    facts = {"probability_prior": prior_name}
    facts |= {} if hypothesis is None else {"hypothesis": hypothesis}
    schema = SCHEMA.set(place, probability).with_metadata(facts)
    schema = schema.append(pa.field(SPREAD, pa.float64())) if spread else schema
    schema = schema.append(pa.field(CASCADED, pa.bool_())) if cascaded else schema
    for name in keep:
        schema = schema.append(pa.field(name, pa.float64()))
    return schema


def write_scores(
    file: Path, columns: dict[str, object], prior_name: str, hypothesis: str | None = None
) -> None:
    """Writes scores as Parquet, completely or not at all; ``score_schema`` has the arguments."""
    schema = score_schema(prior_name, CASCADED in columns, hypothesis, spread=SPREAD in columns)
    table = pa.table(columns, schema=schema)
    with write_aside(file) as aside:
        write_parquet(table, aside)


SUFFIXES = (".parquet", ".csv", ".root")
"""Suffixes of score files, one per format."""


class ScoreWriter:
    """Writes scores in several steps; a context manager.

    A ROOT file has the tree ``scores``, where ``source`` is a position in the comma-separated
    object ``sources``, and prior and hypothesis are objects ``probability_prior`` and
    ``hypothesis``. A CSV file contains neither.
    """

    def __init__(self, file: Path, suffix: str, schema: pa.Schema) -> None:
        """Begins a file.

        Args:
            file: the file.
            suffix: one of ``SUFFIXES``, which says the format; where the file is what a link points
                to, it may have another name.
            schema: its columns, from ``score_schema``.
        """
        self._schema = schema
        self._sources: list[str] = []
        self._stack = ExitStack()
        self._write: Callable[[pa.Table], None]
        match suffix.lower():
            case ".parquet":
                stream = self._stack.enter_context(open_file(file, "wb"))
                parquet = pq.ParquetWriter(stream, self._schema, compression="zstd")
                self._write = self._stack.enter_context(parquet).write_table
            case ".csv":
                stream = self._stack.enter_context(open_file(file, "wb"))
                table = pacsv.CSVWriter(stream, self._schema)
                self._write = self._stack.enter_context(table).write_table
            case _:
                self._write = self._root(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, table: pa.Table) -> None:
        """Appends rows of a table; other columns than those of the file are left out."""
        self._write(table.select(self._schema.names).cast(self._schema))

    def _root(self, file: Path) -> Callable[[pa.Table], None]:
        import uproot

        writer = self._stack.enter_context(uproot.recreate(file.absolute()))
        kinds = {field.name: np.dtype(field.type.to_pandas_dtype()) for field in self._schema}
        branches = kinds | {"source": np.dtype(np.int32)}
        tree = writer.mktree("scores", branches)
        for name, text in self._schema.metadata.items():
            writer[name.decode()] = text.decode()

        def write(table: pa.Table) -> None:
            names = table["source"].to_pylist()
            known = len(self._sources)
            self._sources += sorted(set(names) - set(self._sources))
            if len(self._sources) > known:
                writer["sources"] = ",".join(self._sources)
            place = {name: index for index, name in enumerate(self._sources)}
            columns = {name: table[name].to_numpy() for name in branches if name != "source"}
            columns["source"] = np.array([place[name] for name in names], dtype=np.int32)
            tree.extend(columns)

        return write
