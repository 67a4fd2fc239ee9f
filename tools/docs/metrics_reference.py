"""Makes docs/metrics.md, the reference of all result files, from their records.

python tools/docs/metrics_reference.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hepllm.cartography.audit_records import AuditRecord
from hepllm.cartography.cluster_records import ClustersRecord
from hepllm.cartography.records import EpochRecord, FlagsRecord, MapRecord
from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.experiment_records import ExperimentResult, FailureRecord, SuiteRecord
from hepllm.evaluation.seeds import SpreadRecord
from hepllm.labelling.records import LabellingRecord
from hepllm.records import FileRecord, Quantity, Record, is_by_efficiency, quantity_of
from hepllm.report.records import LabelledMetrics, RunRecord, SelfTrainingRecord, UnlabelledMetrics
from hepllm.search.plane_records import PlaneScan
from hepllm.search.records import Submission, Unblinding
from hepllm.weak.mixture_records import MixtureScan
from hepllm.weak.origin import WeakRuns
from hepllm.weak.records import WeakScan

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

FILES: Mapping[str, type[FileRecord]] = {
    "metrics.json of a set with labels": LabelledMetrics,
    "metrics.json of a set without labels": UnlabelledMetrics,
    "curves.json": CurvesRecord,
    "spread.json": SpreadRecord,
    "submission.json": Submission,
    "unblinding.json": Unblinding,
    "scan.json": PlaneScan,
    "mixture.json": MixtureScan,
    "weak.json": WeakScan,
    "weak_runs.json": WeakRuns,
    "run.json": RunRecord,
    "map.json": MapRecord,
    "epoch-001.json": EpochRecord,
    "flags.json": FlagsRecord,
    "clusters.json": ClustersRecord,
    "overlap.json": AuditRecord,
    "the record beside a table of labels": LabellingRecord,
    "self_training.json": SelfTrainingRecord,
    "analysis.json": SuiteRecord,
    "result.json of an experiment": ExperimentResult,
    "failure.json of an experiment": FailureRecord,
}

_INTRODUCTION = """\
# Result files

<!-- made by tools/docs/metrics_reference.py; change the records in hepllm/ and run it again -->

`hepllm eval` writes `metrics.json` and `curves.json` below `RUN/eval/<set>/`, `spread.json` for
several runs, `submission.json` for a search and `unblinding.json` for its key; `hepllm search
--scan` writes `scan.json`, with `--fit` `mixture.json`, with `--weak` `weak.json`; `hepllm train`
and `hepllm ensemble` write `run.json`, `hepllm map` `map.json` and a file for each epoch, `hepllm
label` a record beside its table. Each holds `schema_version`, which is larger where a key has
changed its meaning; a later version of hepllm may add keys. A number that does not exist is null.
`X` in a key stands for a signal efficiency, 0.1, 0.3 or 0.5. A type that is a link is described
there. Rounds of training write `self_training.json`, `hepllm flag` `flags.json`, `hepllm embed`
`clusters.json`, `hepllm audit` `overlap.json`, `hepllm experiments` `analysis.json` and a file for
each experiment, `hepllm train --weak` `weak_runs.json`."""

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "text",
    NoneType: "null",
}


_BASES = (Record, FileRecord, Quantity)


def reference_page() -> str:
    """The page as Markdown."""
    parts: dict[str, type[BaseModel]] = {}
    for record in FILES.values():
        parts |= _parts(record)
    further = [parts[name] for name in sorted(parts) if parts[name] not in FILES.values()]
    titles = {record: title for title, record in FILES.items()}
    titles |= {record: record.__name__ for record in further}
    tables = [_table(title, record) for record, title in titles.items()]
    return "\n\n".join([_INTRODUCTION, *tables]) + "\n"


def _parts(record: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The records that a record consists of or extends, by name."""
    found: dict[str, type[BaseModel]] = {}
    for base in _extended(record):
        found |= {base.__name__: base, **_parts(base)}
    for field in record.model_fields.values():
        quantity = quantity_of(field)
        if quantity is not None:
            found |= _parts(quantity)
            continue
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Record):
                found |= {kind.__name__: kind, **_parts(kind)}
    return found


def _extended(record: type[BaseModel]) -> list[type[BaseModel]]:
    """The records whose keys a record has besides its own."""
    if issubclass(record, Quantity):
        return []
    public = [base for base in record.__bases__ if not base.__name__.startswith("_")]
    return [base for base in public if issubclass(base, Record) and base not in _BASES]


def _kinds(kind: Any) -> Iterator[Any]:
    """A type and all that stands in it."""
    yield kind
    for part in get_args(kind):
        yield from _kinds(part)


def _table(title: str, record: type[BaseModel]) -> str:
    inherited = {name for base in _extended(record) for name in base.model_fields}
    rows = [
        f"| `{key}` | {_words(kind)} | {unit} | {_escaped(text)} |"
        for name, field in record.model_fields.items()
        if name not in inherited
        for key, kind, unit, text in _keys(name, field)
    ]
    summary = (record.__doc__ or "").partition("\n")[0].replace("``", "`")
    also = " and ".join(map(_link, _extended(record)))
    summary += f" It has the keys of {also}, and these:" if also else ""
    head = "| key | type | unit | meaning |\n|---|---|---|---|"
    return "\n".join([f"## {title}\n\n{summary}\n", head, *rows])


def _keys(name: str, field: FieldInfo) -> Iterator[tuple[str, Any, str, str]]:
    """Key, type, unit and sentence of all that a field writes."""
    by_efficiency, quantity = is_by_efficiency(field), quantity_of(field)
    key, text = f"{name}_X" if by_efficiency else name, field.description or ""
    if quantity is None:
        kind = get_args(field.annotation)[1] if by_efficiency else field.annotation
        yield key, kind, _unit(field), text
        return
    for part, of in quantity.model_fields.items():
        if part == "value":
            yield key, of.annotation, _unit(of), text
        else:
            yield f"{key}_{part}", of.annotation, _unit(of), of.description or ""


def _unit(field: FieldInfo) -> str:
    """The unit that belongs to a type, wherever in it that stands."""
    extras = [field.json_schema_extra]
    for kind in _kinds(field.annotation):
        if get_origin(kind) is Annotated:
            extras += [getattr(one, "json_schema_extra", None) for one in kind.__metadata__]
    return next((str(one["unit"]) for one in extras if isinstance(one, dict) and "unit" in one), "")


def _words(kind: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is None:
        is_record = isinstance(kind, type) and issubclass(kind, Record)
        return _link(kind) if is_record else _WORDS.get(kind, kind.__name__)
    if origin is Annotated:
        return _words(parts[0])
    if origin in (tuple, list) and parts[-1] in (Ellipsis, parts[0]) and len(parts) < 3:
        is_pair = origin is tuple and parts[-1] is not Ellipsis
        return (
            f"[{_words(parts[0])}, {_words(parts[1])}]"
            if is_pair
            else f"list of {_words(parts[0])}"
        )
    if origin in (Mapping, dict):
        return f"by name: {_words(parts[1])}"
    return " or ".join(str(part) if origin is Literal else _words(part) for part in parts)


def _link(record: type[BaseModel]) -> str:
    titles = {kind: title for title, kind in FILES.items()}
    title = titles.get(record, record.__name__)
    return f"[{title}](#{title.lower().replace('.', '').replace(' ', '-')})"


def _escaped(text: str) -> str:
    return text.replace("\n", " ").replace("``", "`").replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Writes the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(reference_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
