"""``hepllm report``: writes one self-contained file about runs and their evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hepllm.cartography.audit_records import AUDITS, OVERLAP
from hepllm.errors import InputError, RunError
from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.seeds import SpreadRecord
from hepllm.files import write_text
from hepllm.pictures.training import History
from hepllm.provenance import shown_date, versions
from hepllm.report.audit import read_audit
from hepllm.report.data import data_chapter
from hepllm.report.ensembles import members_chapter
from hepllm.report.html import as_html
from hepllm.report.markdown import as_markdown
from hepllm.report.page import Chapter, Page
from hepllm.report.records import SetMetrics
from hepllm.report.runs import (
    ReportedRun,
    comparison_chapter,
    conclusion_chapter,
    config_chapter,
    training_chapter,
)
from hepllm.report.sets import EvaluatedSet, set_chapter
from hepllm.report.text import as_text
from hepllm.runs import CURVES, METRICS
from hepllm.runs.folder import Run, open_run
from hepllm.runs.spread import PICTURES, SPREAD

REPORT = "report.html"

_AGAIN = "evaluate again with"

_FORMS: Mapping[str, Callable[[Page], str]] = {".md": as_markdown, ".txt": as_text}
"""Formats of a page by ending of the file; HTML for all other endings."""


def report(folders: Sequence[Path], output: Path | None = None, command: str = "") -> Path:
    """Writes the report of one or more runs.

    Args:
        folders: folders of the runs.
        output: file: Markdown if it ends in ``.md``, plain text if in ``.txt``, otherwise HTML.
            None: ``report.html``, in the folder of a single run or in the current folder.
        command: command that is shown on the page.

    Returns:
        The written file.

    Raises:
        InputError: if a folder is no run, or a file in it is damaged.
        RunError: if the page cannot be written.
    """
    opened = [open_run(folder) for folder in folders]
    runs = dict(zip(_names(folders), opened, strict=True))
    output = output or (folders[0] / REPORT if len(folders) == 1 else Path(REPORT))
    form = _FORMS.get(output.suffix.lower(), as_html)
    content = form(_page(runs, command))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, content)
    except OSError as error:
        raise RunError(
            f"{output}: cannot be written: {error.strerror or error}; choose another --output"
        ) from None
    return output


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of the run folders, or their whole paths where the names are not unique.

    Raises:
        InputError: if a run is given twice.
    """
    whole = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, whole, strict=True):
        if whole.count(path) > 1:
            raise InputError(f"{folder}: named twice; give each run once")
    names = [path.name for path in whole]
    return names if len(set(names)) == len(names) else [str(path) for path in whole]


def _read(name: str, run: Run) -> ReportedRun:
    files = sorted((run.folder / "eval").glob(f"*/{METRICS}"))
    files.sort(key=lambda file: file.parent.name != f"{run.record.dataset.name}-test")
    return ReportedRun(
        name=name,
        folder=run.folder,
        config=run.config,
        record=run.record,
        history=_read_history(run.folder / "history.jsonl"),
        sets=[_read_set(run, file) for file in files],
        spreads=[
            SpreadRecord.read(file, f"remove it, or {_AGAIN}: hepllm eval {run.folder} ...")
            for file in sorted((run.folder / "eval").glob(f"*/{SPREAD}"))
        ],
    )


def _read_history(file: Path) -> History:
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    try:
        return [dict(json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{file}: not readable: {error}; restore it, or remove it to report without it"
        ) from None


def _read_set(run: Run, file: Path) -> EvaluatedSet:
    folder, again = file.parent, f"{_AGAIN}: hepllm eval {run.folder}"
    curves = folder / CURVES
    return EvaluatedSet(
        name=folder.name,
        metrics=SetMetrics.read(file, again),
        curves=CurvesRecord.read(curves, again) if curves.is_file() else None,
        files=[one for one in folder.glob("*.png") if one.name not in PICTURES],
    )


def _page(runs: Mapping[str, Run], command: str) -> Page:
    read = [_read(name, run) for name, run in runs.items()]
    facts = [("written", shown_date(datetime.now(UTC).isoformat()))]
    facts += [("command", command)] if command else []
    facts += [("run", str(run.folder)) for run in read]
    parts = [_run_chapters(run, runs[run.name], read[:place]) for place, run in enumerate(read)]
    chapters = [conclusion_chapter(read)]
    if len(read) == 1:
        chapters += parts[0]
    else:
        chapters.append(comparison_chapter(read))
        chapters += [
            Chapter(run.name, chapters=part) for run, part in zip(read, parts, strict=True)
        ]
    packages = list(versions().items())
    chapters.append(Chapter("Versions", texts=["Software that wrote this page."], facts=packages))
    title = ", ".join(run.name for run in read)
    return Page(f"hepllm report: {title}", facts, chapters)


def _run_chapters(reported: ReportedRun, run: Run, before: Sequence[ReportedRun]) -> list[Chapter]:
    try:
        sets = [set_chapter(found) for found in reported.sets]
    except OSError as error:
        raise InputError(
            f"{error.filename}: not readable: {error.strerror}; {_AGAIN}: hepllm eval {run.folder}"
        ) from None
    data = _data_chapter(run, before)
    audits = [read_audit(file) for file in sorted((run.folder / AUDITS).glob(f"*/{OVERLAP}"))]
    made = training_chapter(reported)
    if run.is_ensemble:
        made = members_chapter(reported.name, reported.record)
    return [*sets, made, data, *audits, config_chapter(reported)]


def _data_chapter(run: Run, before: Sequence[ReportedRun]) -> Chapter:
    """The training dataset, unless a run ``before`` shows it; its path and digest if it is gone."""
    digest, features = run.record.dataset_digest, run.config.train.feature_names()
    facts = [("dataset", str(run.record.dataset)), ("digest", digest)]
    for other in before:
        if (other.record.dataset_digest, other.config.train.feature_names()) == (digest, features):
            return Chapter("Data", texts=[f"The same data as {other.name}."], facts=facts)
    try:
        return data_chapter(run.dataset(), features)
    except InputError as error:
        return Chapter("Data", texts=[f"The dataset cannot be shown: {error}"], facts=facts)
