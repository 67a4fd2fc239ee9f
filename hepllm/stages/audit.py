"""``hepllm audit``: all that methods know of the events of a dataset, in one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.cartography.audit_records import (
    AUDITS,
    OVERLAP,
    AuditRecord,
    MethodRecord,
    RuleRate,
)
from hepllm.cartography.flags import RULES, Flags
from hepllm.cartography.label_quality import judge_labels, obstacle
from hepllm.cartography.overlaps import Method, compare_methods, count_methods, find_regions
from hepllm.cartography.priority import Priorities, find_copies, mean_of_known, prioritise
from hepllm.config import Config
from hepllm.data.dataset import LABEL_NAMES, Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.work_folder import Parts, work_folder
from hepllm.errors import InputError
from hepllm.files import write_aside, write_errors
from hepllm.provenance import this_call
from hepllm.report.audit import audit_chapter
from hepllm.report.text import as_text
from hepllm.runs.audit_files import Audit, write_audit
from hepllm.runs.audited_run import read_audited_run
from hepllm.runs.evidence import Evidence, categories_by_cluster
from hepllm.runs.folder import open_run
from hepllm.runs.run_model import code_digest
from hepllm.schema import EXTENDED_FEATURES, feature_names
from hepllm.stages.flag import flag_table, flagged_features

LOG = logging.getLogger(__name__)

_WITHOUT_RUN = Path("audits")

_BOOSTING = "boosting"


@dataclass(frozen=True)
class AuditReport:
    """The audit of a dataset.

    Attributes:
        name: name of the dataset.
        record: the content of ``overlap.json``.
        text: the same in words.
        files: the written files.
    """

    name: str
    record: AuditRecord
    text: str
    files: tuple[Path, ...]


def audit_dataset(
    folder: Path | None, runs: Sequence[Path], config: Config, output: Path | None = None
) -> AuditReport:
    """Joins what rules, runs and a boosting say of each event of a dataset, and ranks the events.

    Finished folds of the boosting are kept beside the output until all is written, and used when it
    is called again.

    Args:
        folder: the dataset; None for that of the first run.
        runs: runs that know its events.
        config: ``audit``, ``flags`` and ``seed``.
        output: folder of the results, which replaces an earlier audit; None: ``audit/<dataset>`` in
            the first run, or ``audits/<dataset>`` without runs.

    Raises:
        InputError: if the dataset or a run cannot be read, or a run knows none of its events.
        ChunkError: if a worker failed; finished folds are kept.
        RunError: if the results cannot be written.
    """
    dataset = _open(folder, runs)
    name = dataset.folder.resolve().name
    place = output or (runs[0] / AUDITS if runs else _WITHOUT_RUN) / name
    _refuse_others(place)
    evidence = _gather(dataset, runs, config)
    with write_errors(place, "choose another --output"):
        place.parent.mkdir(parents=True, exist_ok=True)
        done = _fingerprint(evidence, config)
        with work_folder(place, done, overwrite=False, discard_other=True) as work:
            audit = _rank(_judge(evidence, config, work.parts), config)
            with write_aside(place) as aside:
                aside.mkdir()
                names = [*write_audit(audit, aside), OVERLAP]
                audit.record.write(aside / OVERLAP)
            work.discard()
    files = tuple(place / one for one in names)
    return AuditReport(name, audit.record, as_text(audit_chapter(audit.record)), files)


def _fingerprint(evidence: Evidence, config: Config) -> dict[str, Any]:
    """What decides the logits of kept folds."""
    return {
        "dataset": evidence.dataset.digest,
        "features": list(evidence.judged),
        "folds": config.audit.folds,
        "seed": config.seed,
        "code": code_digest("hepllm.baselines.boosting", "hepllm.cartography.label_quality"),
    }


def _rank(evidence: Evidence, config: Config) -> Audit:
    """Ranks the events by all that is known of them."""
    margins = list(evidence.margins.values())
    broken, systematic = evidence.flags.broken, config.audit.systematic
    priorities = prioritise(broken, evidence.copies, margins, systematic)
    methods = evidence.methods(priorities, config.audit)
    review = priorities.review(config.audit.review)
    record = _record(evidence, priorities, methods, config, len(review))
    return Audit(evidence, priorities, methods, review, record)


def _gather(dataset: Dataset, runs: Sequence[Path], config: Config) -> Evidence:
    """Asks all methods but the boosting about the events of a dataset."""
    settings, known = config.audit, set(dataset.manifest.features)
    judged = tuple(one for one in feature_names(settings.features) if one in known)
    stored = tuple(one for one in dataset.manifest.features if one not in EXTENDED_FEATURES)
    wanted = {*judged, *flagged_features(dataset)}
    loaded = [one for one in dataset.manifest.features if one in wanted]
    table = dataset.load(loaded)
    found = tuple(
        read_audited_run(one, name, dataset, table, settings.late_epochs)
        for one, name in zip(runs, _names(runs), strict=True)
    )
    mapped = [one.confidence for one in found if one.is_mapped]
    confidence = mean_of_known(mapped) if mapped else None
    flags = flag_table(dataset, table, config.flags, confidence)
    why_not = obstacle(table.label, _judged_features(table, judged))
    return Evidence(
        dataset=dataset,
        table=table,
        features=stored,
        judged=judged,
        runs=found,
        flags=flags,
        boosting=None,
        skipped={**flags.skipped, **({} if why_not is None else {_BOOSTING: why_not})},
        copies=find_copies(table.event_digest, table.label),
    )


def _judge(evidence: Evidence, config: Config, parts: Parts) -> Evidence:
    """Adds what a boosting believes of labels that it was not trained on, where it can be asked."""
    if _BOOSTING in evidence.skipped:
        return evidence
    table = evidence.table
    margins = judge_labels(
        _judged_features(table, evidence.judged),
        table.label,
        table.event_digest,
        folds=config.audit.folds,
        seed=config.seed,
        workers=config.audit.workers,
        parts=parts,
    )
    return replace(evidence, boosting=margins)


def _judged_features(table: EventTable, names: Sequence[str]) -> Floats:
    return table.features[:, [table.names.index(one) for one in names]]


def _record(
    evidence: Evidence,
    priorities: Priorities,
    methods: Mapping[str, Method],
    config: Config,
    n_review: int,
) -> AuditRecord:
    table, copies = evidence.table, evidence.copies
    by_several = count_methods(methods, len(table)) >= 2
    columns = {one: table.column(one) for one in evidence.judged}
    remedies = dict.fromkeys(text for one in evidence.runs for text in one.missing)
    return AuditRecord(
        dataset=evidence.dataset.folder.resolve().name,
        n_events=len(table),
        labels=_by_class(np.ones(len(table), dtype=np.bool_), table),
        runs=tuple(one.name for one in evidence.runs),
        n_copies=int(copies.is_copy.sum()),
        n_conflicts=int(copies.has_conflict.sum()),
        methods={key: _method_record(one, table) for key, one in methods.items()},
        pairs=tuple(compare_methods(methods)),
        n_by_several=int(by_several.sum()),
        rules=_rule_rates(evidence.flags, priorities, table),
        skipped=evidence.skipped,
        categories_by_cluster=categories_by_cluster(evidence.runs),
        regions=find_regions(columns, by_several, table.event_digest, config.audit.regions),
        missing=tuple(remedies),
        n_review=n_review,
        settings=config.audit,
        flags=config.flags,
        seed=config.seed,
        made=this_call(),
    )


def _open(folder: Path | None, runs: Sequence[Path]) -> Dataset:
    if folder is None:
        if not runs:
            raise InputError("name a DATASET, or a --run whose dataset is audited")
        return open_run(runs[0]).dataset()
    dataset = read_dataset(folder)
    dataset.require_events()
    return dataset


def _refuse_others(place: Path) -> None:
    """Raises InputError where a folder holds anything but an audit, which would be lost."""
    if place.is_dir() and any(place.iterdir()) and not (place / OVERLAP).is_file():
        raise InputError(f"{place}: contains no audit but other files; choose another --output")


def _names(runs: Sequence[Path]) -> list[str]:
    """A name of each run for columns: its folder's, numbered where several have the same.

    Raises:
        InputError: if a run is given twice.
    """
    whole = [one.resolve() for one in runs]
    found: list[str] = []
    for place, one in enumerate(whole):
        if one in whole[:place]:
            raise InputError(f"{runs[place]}: named twice; give each run once")
        before = sum(other.name == one.name for other in whole[:place])
        found.append(f"{one.name}-{before + 1}" if before else one.name)
    return found


def _by_class(mask: Bools, table: EventTable) -> dict[str, int]:
    found = {name: int((mask & (table.label == one)).sum()) for one, name in LABEL_NAMES.items()}
    return {name: number for name, number in found.items() if number or name != "unknown"}


def _method_record(method: Method, table: EventTable) -> MethodRecord:
    return MethodRecord(
        meaning=method.meaning,
        covered=int(method.covered.sum()),
        coverage=float(method.covered.mean()),
        flagged=_by_class(method.flagged, table),
    )


def _rule_rates(flags: Flags, priorities: Priorities, table: EventTable) -> dict[str, RuleRate]:
    return {
        name: RuleRate(
            meaning=RULES[name].meaning,
            flagged=_by_class(mask, table),
            share=float(mask.mean()),
            is_systematic=name in priorities.systematic,
        )
        for name, mask in flags.broken.items()
    }
