"""The files of an audit: the table, the review list, pictures and event displays."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from scipy.special import expit

from hepllm import __version__
from hepllm.arrays import Bools, Ints
from hepllm.arrow_files import open_file, read_parquet, write_parquet
from hepllm.cartography.audit_records import EVENTS, HEAT, SCATTER, TEXT, AuditRecord
from hepllm.cartography.flags import RULES
from hepllm.cartography.overlaps import Method, count_methods
from hepllm.cartography.priority import SAME_EVENT, Priorities
from hepllm.data.dataset import LABEL_NAMES, Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import KEY, NotesRecord, notes_metadata
from hepllm.errors import InputError
from hepllm.files import write_text
from hepllm.logs import progress_bar
from hepllm.pictures.audit import Heat, Plane, agreement_heat, cluster_heat, plot_heat, plot_review
from hepllm.pictures.event_display import jets_of, plot_event
from hepllm.runs.evidence import Evidence
from hepllm.runs.picked_events import pick_from_dataset
from hepllm.schema import feature_of

LOG = logging.getLogger(__name__)

TABLE, REVIEW = "audit.parquet", "review.parquet"
"""Files in the folder of an audit beside those that a report shows."""

_IDS = (KEY, "event_id", "source", "split", "label", "weight")
_PLANES = (("jet_mass_light", "jet_mass_delta"), ("jet1_mass", "jet2_mass"))
_TOLD = ("m_jj", "jet1_pt", "jet2_pt", "jet_mass_light", "jet_mass_delta", "tau21_light")
"""Features that are told of an event on the list, of those that the dataset has."""


@dataclass(frozen=True, eq=False)
class Audit:
    """All that methods say of N events of a dataset.

    Attributes:
        evidence: what is known of the events.
        priorities: why events are worth a look.
        methods: what flags which events.
        review: rows of the review list.
        record: the record.
    """

    evidence: Evidence
    priorities: Priorities
    methods: Mapping[str, Method]
    review: Ints
    record: AuditRecord

    @property
    def table(self) -> EventTable:
        """The events, with the features that methods have read."""
        return self.evidence.table

    @property
    def dataset(self) -> Dataset:
        """Their dataset."""
        return self.evidence.dataset

    @cached_property
    def reasons(self) -> list[str]:
        """Why each event of the review list is on it, in its order."""
        return ["; ".join(_reasons(self, row)) for row in self.review.tolist()]


def write_audit(audit: Audit, folder: Path) -> list[str]:
    """Writes all files but the record, and returns the names of those that people look at."""
    names = [TABLE, "audit.csv", REVIEW, "review.csv", TEXT, HEAT]
    _write_table(audit, folder)
    _write_review(audit, folder)
    write_text(folder / TEXT, "\n".join(_review_text(audit)) + "\n")
    _draw_heat(audit, folder / HEAT)
    planes = list(_planes(audit))
    if planes:
        plot_review(planes, _why(audit), _title(audit), folder / SCATTER)
        names.append(SCATTER)
    return names + _draw_events(audit, folder)


def _title(audit: Audit) -> str:
    record = audit.record
    by = f" by {', '.join(record.runs)}" if record.runs else ""
    return f"{record.dataset}{by}: {record.n_events} events"


def _joined(audit: Audit) -> dict[str, pa.Array]:
    """The columns that the table has beside those of the dataset, in order."""
    flags, priorities, copies = audit.evidence.flags, audit.priorities, audit.evidence.copies
    n_events = len(audit.table)
    columns: dict[str, Any] = {
        "copy_of_row": pa.array(copies.first, mask=~copies.is_copy),
        "label_conflict": copies.has_conflict,
        **flags.broken,
        "n_flags": sum(flags.broken.values(), np.zeros(n_events, dtype=np.int64)),
        "flag_score": flags.score,
    }
    if audit.evidence.boosting is not None:
        columns |= {
            "boosting_margin": audit.evidence.boosting,
            "boosting_confidence": expit(audit.evidence.boosting),
        }
    for run in audit.evidence.runs:
        columns |= {f"{kind}_{run.name}": values for kind, values in run.columns.items()}
    for name, method in audit.methods.items():
        flagged = pa.array(method.flagged, mask=~method.covered)
        columns[f"by_{name.replace(' ', '_')}"] = flagged
    columns |= {
        "n_methods": count_methods(audit.methods, n_events),
        "margin": priorities.margin,
        "doubt": priorities.doubt,
        "faults": priorities.faults,
        "priority": priorities.priority,
    }
    # A missing value is null, not NaN: an empty cell in a CSV file.
    return {
        name: values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
        for name, values in columns.items()
    }


def _shards(audit: Audit) -> Iterator[pa.Table]:
    """The table, a shard of the dataset at a time."""
    joined, start = _joined(audit), 0
    for shard in audit.dataset.manifest.shards:
        file = audit.dataset.folder / shard.file
        try:
            table = read_parquet(file, [*_IDS, *audit.evidence.features])
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{file}: cannot be read, make the dataset again: {error}") from None
        for place, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                table = table.set_column(place, field.name, table[field.name].cast(pa.string()))
        row = pa.array(np.arange(start, start + table.num_rows))
        table = table.select([*_IDS, *audit.evidence.features]).add_column(1, "row", row)
        for name, values in joined.items():
            table = table.append_column(name, values.slice(start, table.num_rows))
        start += table.num_rows
        yield table


def _write_table(audit: Audit, folder: Path) -> None:
    """Writes the table as Parquet and CSV; one shard of the dataset is in memory at a time."""
    record = NotesRecord(
        holds="audit of a dataset",
        made_by=f"hepllm audit, version {__version__}",
        dataset_digest=audit.dataset.digest,
    )
    with ExitStack() as stack:
        writers: list[Any] = []
        for table in _shards(audit):
            part = table.replace_schema_metadata(notes_metadata(record))
            if not writers:
                streams = [
                    stack.enter_context(open_file(folder / name, "wb"))
                    for name in (TABLE, "audit.csv")
                ]
                writers = [
                    stack.enter_context(
                        pq.ParquetWriter(streams[0], part.schema, compression="zstd")
                    ),
                    stack.enter_context(pa.csv.CSVWriter(streams[1], part.schema)),
                ]
            for writer in writers:
                writer.write_table(part)


def _write_review(audit: Audit, folder: Path) -> None:
    table, rows, priorities = audit.table, audit.review, audit.priorities
    names = np.array([LABEL_NAMES[one] for one in table.label[rows].tolist()], dtype=object)
    listed = pa.table(
        {
            "rank": np.arange(1, len(rows) + 1),
            KEY: table.event_digest[rows],
            "row": rows,
            "event_id": table.event_id[rows],
            "source": pa.array(table.source[rows], pa.string()),
            "split": pa.array(table.split[rows], pa.string()),
            "label": pa.array(names, pa.string()),
            "priority": priorities.priority[rows],
            "faults": priorities.faults[rows],
            "doubt": priorities.doubt[rows],
            "n_methods": count_methods(audit.methods, len(table))[rows],
            "reasons": pa.array(audit.reasons, pa.string()),
        }
    )
    write_parquet(listed, folder / REVIEW)
    with open_file(folder / "review.csv", "wb") as stream:
        pa.csv.write_csv(listed, stream)


def _reasons(audit: Audit, row: int) -> Iterator[str]:
    """Why an event is on the list: its faults, then who doubts its label."""
    copies, priorities = audit.evidence.copies, audit.priorities
    if copies.has_conflict[row]:
        yield "an equal event has another label"
    for name, mask in priorities.counted.items():
        if mask[row]:
            told = (
                f"equal to row {copies.first[row]}" if name == SAME_EVENT else RULES[name].meaning
            )
            yield told
    beliefs = [
        f"{expit(margin[row]):.3f} by {name}"
        for name, margin in audit.evidence.margins.items()
        if not np.isnan(margin[row])
    ]
    if beliefs:
        label = LABEL_NAMES[int(audit.table.label[row])]
        yield f"probability of {label} {', '.join(beliefs)}"
    for run in audit.evidence.runs:
        method = audit.methods.get(f"clusters of {run.name}")
        if method is not None and method.flagged[row]:
            yield f"its label is rare in cluster {run.cluster[row]} of {run.name}"


def _review_text(audit: Audit) -> Iterator[str]:
    record, table = audit.record, audit.table
    samples = min(record.settings.samples, len(audit.review))
    yield (
        f"{record.dataset}: {record.n_review} of {record.n_events} events are on the review list; "
        f"the first {samples}"
    )
    names = [name for name in _TOLD if name in table.names]
    for rank, row in enumerate(audit.review[:samples].tolist()):
        yield ""
        yield (
            f"{rank + 1}. {_event(table, row)} ({LABEL_NAMES[int(table.label[row])]}, row {row}): "
            f"priority {audit.priorities.priority[row]:.3f}"
        )
        yield f"  {audit.reasons[rank]}"
        values = [
            f"{name} {value:.4g}{' ' * bool(unit)}{unit}"
            for name in names
            for value, unit in ((table.column(name)[row], feature_of(name).unit),)
            if not np.isnan(value)
        ]
        if values:
            yield f"  {', '.join(values)}"


def _event(table: EventTable, row: int) -> str:
    return f"event {table.event_id[row]} of {table.source[row]}"


def _draw_heat(audit: Audit, path: Path) -> None:
    methods = list(audit.methods.values())
    shared = np.array([[int((a.flagged & b.flagged).sum()) for b in methods] for a in methods])
    known = np.array([[int((a.flagged & b.covered).sum()) for b in methods] for a in methods])
    panels: list[Heat] = [agreement_heat(list(audit.methods), shared, known)]
    panels += [
        cluster_heat(name, found) for name, found in audit.record.categories_by_cluster.items()
    ]
    plot_heat(panels, _title(audit), path)


def _planes(audit: Audit) -> Iterator[Plane]:
    """Margins of two methods, and two masses of jets; what is known of them."""
    margins = list(audit.evidence.margins.items())
    if len(margins) > 1:
        (one, x), (other, y) = margins[0], margins[-1]
        yield Plane(x, y, f"margin of the label by {one}", f"margin of the label by {other}")
    table = audit.table
    for first, second in _PLANES:
        if {first, second} <= set(table.names):
            labels = [feature_of(name).axis_label for name in (first, second)]
            yield Plane(table.column(first), table.column(second), *labels)
            return


def _why(audit: Audit) -> dict[str, Bools]:
    """The events of the review list by what put them there."""
    listed = np.zeros(len(audit.table), dtype=np.bool_)
    listed[audit.review] = True
    priorities, copies = audit.priorities, audit.evidence.copies
    is_copy = listed & (copies.is_copy | copies.has_conflict)
    is_faulty = listed & ~is_copy & (priorities.faults > 0)
    found = {
        "label doubted": listed & ~is_copy & ~is_faulty,
        "measurement breaks a rule": is_faulty,
        "copy of another event": is_copy,
    }
    return {name: mask for name, mask in found.items() if mask.any()}


def _draw_events(audit: Audit, folder: Path) -> list[str]:
    """Draws the first events of the review list, where the directions of jets are known."""
    rows = audit.review[: audit.record.settings.examples].tolist()
    if not rows or "jet1_phi" not in audit.dataset.manifest.features:
        LOG.info("no event displays: eta and phi of the jets are unknown")
        return []
    (folder / EVENTS).mkdir()
    radius = float(audit.dataset.manifest.config["preprocess"]["jets"]["radius"])
    picked = pick_from_dataset(audit.dataset, [str(row) for row in rows], by_row=True)
    drawn = []
    with progress_bar(len(rows), "draw events") as bar:
        for rank, (row, event) in enumerate(zip(rows, picked, strict=True), 1):
            bar.update(1)
            jets = jets_of(event.features)
            if not jets:
                continue
            name = f"{EVENTS}/{rank:03d}-{event.name}.png"
            title = f"{rank}. {_event(audit.table, row)}, {LABEL_NAMES[event.label]}\n"
            title += _short(audit.reasons[rank - 1])
            plot_event(jets, event.particles, radius, title, folder / name)
            drawn.append(name)
    if not drawn:
        (folder / EVENTS).rmdir()
    return drawn


def _short(text: str, limit: int = 90) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
