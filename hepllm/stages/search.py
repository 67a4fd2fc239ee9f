"""``hepllm search``: searches scores of any classifier for a resonance, blind, as ``eval`` does."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hepllm.arrays import Labels
from hepllm.arrow_files import write_parquet
from hepllm.config import Config, override_config
from hepllm.config.inputs import Column
from hepllm.errors import InputError, RunError
from hepllm.files import refuse_existing, write_errors, write_text, write_together
from hepllm.pictures.weak import plot_regions
from hepllm.provenance import Call, present_date, shown_date, this_call
from hepllm.report.data_uris import stored
from hepllm.report.html import as_html
from hepllm.report.page import Chapter, Page, Picture
from hepllm.report.search import PICTURES, origin_facts, search_chapter
from hepllm.report.text import as_text
from hepllm.report.weak import WEAK_PICTURES, weak_chapter
from hepllm.runs.box_search import (
    SUBMISSION,
    UNBLINDING,
    Box,
    forget_search,
    key_of,
    search_and_write,
    search_only,
    unblind,
)
from hepllm.runs.scored_tables import TableColumns, read_box, read_signal
from hepllm.schema import UNKNOWN
from hepllm.search.box import BoxEvents
from hepllm.search.records import Blackbox, ScoreSource, Submission, Unblinding
from hepllm.search.submission import ReferenceSignal, truth_of
from hepllm.weak.records import WeakScan

if TYPE_CHECKING:  # torch comes with it
    from hepllm.runs.weak_search import FoldScorer, WeakBox

LOG = logging.getLogger(__name__)

TABLE, REPORT = "table.txt", "search.html"
WEAK, SCORES, REGIONS = "weak.json", "scores.parquet", "weak.png"
MODELS = "models"
"""Folder of the runs that were trained for a search, one folder for each signal region."""

_OF_WEAK = (WEAK, SCORES, REGIONS)
_ELSEWHERE = "choose another --output"
_FILES = (SUBMISSION, UNBLINDING, *PICTURES, TABLE, REPORT, *_OF_WEAK)


@dataclass(frozen=True)
class SearchReport:
    """A search in one box, and what its key says.

    Attributes:
        name: name of the box.
        submission: what was found before any label was read.
        unblinding: what the key says; None without a key.
        files: files that were written.
        weak: signal regions of weak supervision; None for other scores.
    """

    name: str
    submission: Submission
    unblinding: Unblinding | None = None
    files: Sequence[Path] = ()
    weak: WeakScan | None = None

    @property
    def text(self) -> str:
        """The findings as plain text."""
        return as_text(_chapter(self))

    def tree(self) -> dict[str, object]:
        """The records as one JSON document."""
        key = None if self.unblinding is None else self.unblinding.tree()
        tree: dict[str, object] = {"submission": self.submission.tree(), "unblinding": key}
        return tree if self.weak is None else {**tree, "weak": self.weak.tree()}


def search_tables(
    files: Sequence[Path],
    columns: TableColumns,
    config: Config,
    output: Path,
    *,
    signal: Sequence[Path] = (),
    masterkey: Path | None = None,
    overwrite: bool = False,
) -> SearchReport:
    """Searches tables of scores and masses, taken as one box.

    Args:
        files: the tables.
        columns: what their columns hold.
        config: settings of the search, in ``evaluation.search``, and the seed.
        output: folder of the results.
        signal: tables of simulated signal, for the efficiency of cuts on the score.
        masterkey: file of the labels; None for the tables' own column, if there is one.
        overwrite: replace an earlier search in the folder.

    Raises:
        InputError: if a file or a column cannot be used, the box has too few events, or the output
            exists.
        RunError: if the background cannot be fitted, or the output cannot be written.
    """
    refuse_existing(output, _FILES, overwrite)
    settings = config.evaluation.search
    found = read_box(files, columns, (settings.m_jj_min, settings.m_jj_max))
    _refuse_grid(config)
    reference = read_signal(signal, columns) if signal else None
    config = _with_mass(config, found.mass)
    box = found.box(box_name(files), reference)
    return _search(box, lambda: found.read_labels(masterkey), config, output)


def search_dataset(
    folder: Path,
    config: Config,
    output: Path,
    *,
    run: Path | None = None,
    scores: Path | None = None,
    score: Column = "score",
    signal: ReferenceSignal | None = None,
    hypothesis: str | None = None,
    overwrite: bool = False,
) -> SearchReport:
    """Searches a dataset, whose scores a run computes or a file has.

    Args:
        folder: the dataset.
        config: settings of the search, in ``evaluation.search``, and the seed.
        output: folder of the results.
        run: a run, which scores the dataset.
        scores: file of the scores, joined by event; one of both is given.
        score: column of the scores.
        signal: simulated signal for the efficiency of cuts; that of the run's validation events if
            there is a run.
        hypothesis: hypothesis in words under which the run scores the dataset.
        overwrite: replace an earlier search in the folder.

    Raises:
        InputError: if the dataset, the run or the file cannot be used, the box has too few events,
            or the output exists.
        RunError: if the background cannot be fitted, or the output cannot be written.
    """
    refuse_existing(output, _FILES, overwrite)
    if (run is None) == (scores is None):
        raise InputError(f"{folder}: a dataset has no scores; give a run or a file of scores")
    from hepllm.runs.folder import open_run
    from hepllm.runs.scored_datasets import join_scores, score_by_run

    if run is not None:
        found = score_by_run(open_run(run), folder, config, hypothesis)
    elif scores is not None:
        _refuse_grid(config)
        found = join_scores(folder, scores, config, score=score, reference=signal)
    return _search(found.box, found.read_labels, config, output)


def search_weakly(
    folder: Path,
    config: Config,
    output: Path,
    *,
    runs: Path | None = None,
    overwrite: bool = False,
) -> SearchReport:
    """Searches a dataset by classifiers that are trained on it, without its labels.

    Args:
        folder: the dataset.
        config: settings of the search, in ``evaluation.search`` and its section ``weak``, and the
            seed.
        output: folder of the results; unfinished work is kept beside it. Language models that are
            trained are in its folder ``models``.
        runs: folder of a finished ``hepllm train --weak`` on the dataset, whose models are used.
        overwrite: replace an earlier search in the folder.

    Raises:
        InputError: if a dataset cannot be used, the box has too few events, or the output exists.
        RunError: if the background cannot be fitted, or the output cannot be written.
        StoppedError: if Ctrl-C or SIGTERM ended a training of a language model.
    """
    refuse_existing(output, _FILES, overwrite)
    _refuse_grid(config)
    from hepllm.runs.weak_search import searched_weakly

    scorer, config = _fold_scorer(config, output, runs, overwrite=overwrite)
    opened = searched_weakly(folder, config, output, overwrite=overwrite, score_fold=scorer)
    with write_errors(output, _ELSEWHERE), opened as found:
        return _search(found.box, found.read_labels, config, output, weak=found)


def _fold_scorer(
    config: Config, output: Path, runs: Path | None, *, overwrite: bool
) -> tuple[FoldScorer | None, Config]:
    """What scores folds by language models, and the settings with which it does so."""
    if runs is None and config.evaluation.search.weak.classifier != "model":
        return None, config
    from hepllm.stages.weak_training import BoxModels, model_config, open_fold_models

    config = model_config(config)
    if runs is not None:
        return open_fold_models(runs, config, is_trained=True), config
    if overwrite:
        shutil.rmtree(output / MODELS, ignore_errors=True)
    return BoxModels(output / MODELS, config), config


def search_arrays(
    name: str,
    events: BoxEvents,
    config: Config,
    *,
    reference: ReferenceSignal | None = None,
    read_labels: Callable[[], Labels | None] = lambda: None,
    output: Path | None = None,
    overwrite: bool = False,
) -> SearchReport:
    """Searches events in memory; without ``output`` nothing is written.

    Args:
        name: name of the box.
        events: its events.
        config: settings of the search, in ``evaluation.search``, and the seed.
        reference: simulated signal for the efficiency of cuts.
        read_labels: gives the (N,) labels, and is called after the search only.
        output: folder of the results.
        overwrite: replace an earlier search in the folder.

    Raises:
        InputError: if a score is not finite, the box has too few events, or the output exists.
        RunError: if the background cannot be fitted, or the output cannot be written.
    """
    _refuse_grid(config)
    box = _box_of_arrays(name, events, reference, config.evaluation.search.mass)
    if output is not None:
        refuse_existing(output, _FILES, overwrite)
        return _search(box, read_labels, config, output)
    _, submission = search_only(box, config.evaluation.search, config.seed)
    written = labels_read = present_date()
    label = _known(read_labels())
    if label is None:
        return SearchReport(name, submission)
    unblinding = Unblinding(
        submission_sha256=hashlib.sha256(submission.text().encode()).hexdigest(),
        submission_written=written,
        labels_read=labels_read,
        truth=truth_of(submission, key_of(box, label)),
    )
    return SearchReport(name, submission, unblinding)


def _box_of_arrays(
    name: str, events: BoxEvents, reference: ReferenceSignal | None, mass: str
) -> Box:
    """A box whose digest is that of its events, since no file tells them from others."""
    jets = {"light": events.jet_mass_light, "heavy": events.jet_mass_heavy}
    arrays = (events.score, events.m_jj, *jets.values())
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(one).tobytes() for one in arrays))
    known = [jet for jet, masses in jets.items() if np.isfinite(masses).any()]
    origin = {
        "blackbox": Blackbox(
            name=name, digest=digest.hexdigest(), sources=[], n_excluded_as_seen=0
        ),
        "run": None,
        "trained_on": None,
        "features": None,
        "cascade": None,
        "scores": ScoreSource(
            files=[], score="score", mass=mass, jet_masses=known, energy_unit="GeV"
        ),
    }
    return Box(name=name, events=events, reference=reference, origin=origin)


def box_name(files: Sequence[Path]) -> str:
    """The name of a box: that of its first file, and how many more there are."""
    name = files[0].name.removesuffix(".gz").rpartition(".")[0] or files[0].name
    return f"{name}+{len(files) - 1}" if len(files) > 1 else name


def _search(
    box: Box,
    read_labels: Callable[[], Labels | None],
    config: Config,
    output: Path,
    *,
    weak: WeakBox | None = None,
) -> SearchReport:
    """Searches, writes the submission, and only then reads the labels."""
    with write_errors(output, _ELSEWHERE), write_together(output) as folder:
        try:
            submission, made = search_and_write(box, config.evaluation.search, config.seed, folder)
        except (InputError, RunError) as error:
            raise type(error)(f"{box.name}: {error}") from None
        if weak is not None:
            made = (*made, *_write_weak(weak, folder))
        forget_search(output)
        for name in (TABLE, REPORT, *_OF_WEAK):
            (output / name).unlink(missing_ok=True)
    files = [output / file.name for file in made]
    labels_read = present_date()
    label = _known(read_labels())
    unblinding = None
    with write_errors(output, _ELSEWHERE):
        if label is not None:
            unblinding = unblind(output, box, label, labels_read)
            files.append(output / UNBLINDING)
        files += [output / TABLE, output / REPORT]
        scan = None if weak is None else weak.scan
        found = SearchReport(box.name, submission, unblinding, tuple(files), scan)
        write_text(output / TABLE, f"{found.text}\n")
        write_text(output / REPORT, as_html(_page(found, this_call())))
    return found


def _write_weak(weak: WeakBox, folder: Path) -> list[Path]:
    weak.scan.write(folder / WEAK)
    write_parquet(weak.scores(), folder / SCORES)
    plot_regions(weak.box.name, weak.scan, folder / REGIONS)
    return [folder / name for name in _OF_WEAK]


def _refuse_grid(config: Config) -> None:
    if config.evaluation.search.signal_grid is not None:
        raise InputError(
            "evaluation.search.signal_grid needs a run that scores its signals; unset it"
        )


def _known(label: Labels | None) -> Labels | None:
    """The labels if all are known."""
    if label is None:
        return None
    n_unknown = int((label == UNKNOWN).sum())
    if n_unknown:
        LOG.info("%d of %d labels are unknown, so no truth is told", n_unknown, len(label))
        return None
    return label


def _chapter(
    found: SearchReport,
    pictures: Sequence[Picture] = (),
    weak_pictures: Sequence[Picture] = (),
) -> Chapter:
    chapter = search_chapter(found.submission, found.name, pictures, found.unblinding)
    of_weak = [] if found.weak is None else [weak_chapter(found.weak, weak_pictures)]
    facts = [*origin_facts(found.submission), *chapter.facts]
    return replace(chapter, facts=facts, chapters=of_weak)


def _page(found: SearchReport, call: Call) -> Page:
    shown, of_weak = (
        [
            stored(file, f"{known[file.name][0]}; {found.name}", known[file.name][1])
            for file in found.files
            if file.name in known
        ]
        for known in (PICTURES, WEAK_PICTURES)
    )
    facts = [("written", shown_date(call.date)), ("command", call.command)]
    facts += [
        (one.file, f"{one.events} events, SHA-256 {one.sha256}")
        for one in found.submission.blackbox.sources
    ]
    versions = Chapter("Versions", facts=list(call.versions.items()))
    return Page(f"hepllm search: {found.name}", facts, [_chapter(found, shown, of_weak), versions])


def _with_mass(config: Config, mass: str) -> Config:
    return override_config(config, [f"evaluation.search.mass={json.dumps(mass)}"])
