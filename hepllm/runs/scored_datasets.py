"""Boxes that are datasets, with scores by a run or from a file of scores."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import torch
from numpy.typing import NDArray

from hepllm.arrays import Floats, Ints, Labels
from hepllm.arrow_files import open_file, read_parquet
from hepllm.config import Config
from hepllm.config.inputs import Column
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.evaluation.scores import ScoredEvents
from hepllm.executor import resolve_threads
from hepllm.physics.readers.columns import find_column
from hepllm.physics.readers.content import kind_of_content, one_line
from hepllm.physics.readers.tables import open_table
from hepllm.runs.asking import ask
from hepllm.runs.box_search import Box, box_of_run, observe
from hepllm.runs.cascade import open_cascade
from hepllm.runs.comparison import Contest
from hepllm.runs.ensemble_model import open_model
from hepllm.runs.folder import Run
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.samples import EvaluationSet, collect_sets, open_blind
from hepllm.runs.scored_tables import source_of
from hepllm.runs.signals import open_signal_grid, score_signal_grid
from hepllm.search.records import ScoreSource
from hepllm.search.submission import ReferenceSignal

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DatasetBox:
    """A dataset as a box, whose labels are not read yet."""

    chosen: EvaluationSet
    box: Box

    def read_labels(self) -> Labels | None:
        """Reads the labels of the events; None where some are unknown."""
        opened = self.chosen.with_labels()
        return opened.table.label if opened.has_labels else None


def score_by_run(
    run: Run, folder: Path, config: Config, hypothesis: str | None = None
) -> DatasetBox:
    """Scores a dataset by a run, without the events that the run has seen.

    Scores that the run has kept of this dataset are not computed again.

    Args:
        run: a finished run.
        folder: the dataset.
        config: settings of the evaluation, and the seed.
        hypothesis: hypothesis in words under which the events are scored.

    Raises:
        InputError: if the run uses features that follow m_jj, or the dataset cannot be used.
    """
    if not run.is_search_safe:
        raise InputError(
            f"{run.folder}: trained on features that follow m_jj, so a cut on its score sculpts a "
            "bump in QCD; train with train.features=search"
        )
    settings, seed = config.evaluation, config.seed
    question = run.read_question(hypothesis)
    run = run.selecting(settings.select)
    (chosen,) = collect_sets(
        run, dataset=None, blackbox=read_dataset(folder), all_blackboxes=False, seen_by=()
    )
    chosen = chosen.asked(question, seed)
    observe(chosen, np.zeros(len(chosen.table)), settings.search.mass)  # before the long work
    model = open_model(run, settings.batch_size)
    of_grid = settings.search.signal_grid
    signals = None if of_grid is None else open_signal_grid(run, Path(of_grid))
    threads = resolve_threads(config.train.threads)
    torch.set_num_threads(threads)
    kept = KeptScores.of(run, settings.scoring, threads=threads)
    model = ask(model, question, kept)
    run = model.run
    contest = Contest(settings, seed, model, kept, open_cascade(run, settings))
    validation = (
        ScoredEvents(run.validation_scores(), *run.validation_labels())
        if contest.cascade is None
        else contest.cascade.calibration.validation
    )
    scores = contest.measure(chosen.name, chosen.inputs).score
    grid = None
    if signals is not None:
        name, mass = f"signal-grid-{signals.folder.name}{question.suffix}", settings.search.mass
        grid = score_signal_grid(
            run, signals, lambda inputs: contest.measure(name, inputs).score, mass
        )
    return DatasetBox(
        chosen, box_of_run(run, settings, chosen, scores=scores, validation=validation, grid=grid)
    )


def join_scores(
    folder: Path,
    file: Path,
    config: Config,
    *,
    score: Column = "score",
    reference: ReferenceSignal | None = None,
) -> DatasetBox:
    """Joins a dataset with a file of scores by ``event_id`` and, where it is there, ``source``.

    Events of the dataset without a score are left out, with a warning in the submission.

    Args:
        folder: the dataset.
        file: Parquet, CSV, ROOT or another table; ``hepllm predict`` writes such files.
        config: settings of the evaluation.
        score: column of the scores.
        reference: simulated signal; None without.

    Raises:
        InputError: if the file does not fit the dataset.
    """
    settings, mass = config.evaluation, config.evaluation.search.mass
    chosen = open_blind(read_dataset(folder), config)
    table, name = chosen.table, chosen.name
    found = _read_scores(file, score)
    scores = _scores_of(table.event_id, table.source, found, file)
    known = ~np.isnan(scores)
    if not known.any():
        raise InputError(
            f"{file}: has no score of any event of {folder}: the event_id and source of both "
            "differ; score this dataset with 'hepllm predict'"
        )
    warnings = []
    if not known.all():
        warnings.append(
            f"{int((~known).sum())} of {len(known)} events of {name} have no score in {file.name} "
            "and are left out"
        )
        LOG.warning("%s", warnings[0])
    chosen = replace(chosen, table=table.take(known))
    origin: dict[str, Any] = {
        "blackbox": chosen.blackbox,
        "run": None,
        "trained_on": None,
        "features": None,
        "cascade": None,
        "select": settings.select,
        "scores": ScoreSource(
            files=[source_of(file, len(found.score))],
            score=str(score),
            mass=mass,
            jet_masses=["jet_mass_light", "jet_mass_delta"],
            energy_unit="GeV",
        ),
    }
    events = observe(chosen, scores[known], mass)
    return DatasetBox(chosen, Box(name, events, reference, origin, warnings))


@dataclass(frozen=True, eq=False)
class _Scores:
    """Scores by event; ``source`` is None where the file does not name any."""

    event_id: Ints
    source: NDArray[np.object_] | None
    score: Floats


def _read_scores(file: Path, score: Column) -> _Scores:
    table = open_table(file)
    places = [find_column(table, "event_id", "event"), find_column(table, score, "score")]
    event_id, scores = table.read(0, table.n_rows, places).T
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise InputError(
            f"{file}: {len(bad)} of {len(scores)} scores are not finite, the first is "
            f"{scores[bad[0]]} in row {bad[0]}; score these events, or remove these rows"
        )
    sources = _read_sources(file) if "source" in (table.names or ()) else None
    return _Scores(event_id.astype(np.int64), sources, scores)


def _read_sources(file: Path) -> NDArray[np.object_]:
    """The column ``source`` as texts; in ROOT files it is a position in the object ``sources``."""
    try:
        match kind_of_content(file):
            case "parquet":
                column = read_parquet(file, ["source"])["source"]
            case "csv":
                options = pacsv.ConvertOptions(
                    include_columns=["source"], column_types={"source": pa.string()}
                )
                with open_file(file) as stream:
                    column = pacsv.read_csv(stream, convert_options=options)["source"]
            case "root":
                import uproot

                with uproot.open(file) as opened:
                    names = np.array(str(opened["sources"]).split(","), dtype=object)
                    return np.asarray(names[opened["scores/source"].array(library="np")])
            case kind:
                raise InputError(
                    f"{file}: sources cannot be read from {kind.upper()}; write the scores as "
                    "Parquet, or without a column 'source'"
                )
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"{file}: column 'source' cannot be read: {one_line(error)}") from None
    return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), dtype=object)


def _scores_of(event_id: Ints, source: NDArray[np.object_], found: _Scores, file: Path) -> Floats:
    """The score of each event, shape (N,); NaN where the file has none.

    Raises:
        InputError: if the file has two scores of an event, or does not tell several sources apart.
    """
    names = sorted(set(source.tolist()))
    if found.source is None and len(names) > 1:
        raise InputError(
            f"{file}: has no column 'source', which events of {', '.join(names)} need to be told "
            "apart"
        )
    code = {name: i for i, name in enumerate(names)}
    theirs = np.zeros(len(found.score), dtype=np.int64)
    if found.source is not None:
        theirs = _codes(found.source, code)
    known = theirs >= 0
    if not known.any():
        return np.full(len(event_id), np.nan)
    span = max(int(event_id.max()), int(found.event_id.max())) + 1
    wanted = _codes(source, code) * span + event_id
    offered = (theirs * span + found.event_id)[known]
    order = np.argsort(offered, kind="stable")
    offered, values = offered[order], found.score[known][order]
    twice = np.flatnonzero(np.diff(offered) == 0)
    if len(twice):
        place, event = divmod(int(offered[twice[0]]), span)
        raise InputError(
            f"{file}: {len(twice)} events have more than one score, the first is event {event} of "
            f"{names[place]}; keep one of each"
        )
    at = np.minimum(np.searchsorted(offered, wanted), len(offered) - 1)
    return np.where(offered[at] == wanted, values[at], np.nan)


def _codes(source: NDArray[np.object_], code: dict[str, int]) -> Ints:
    return np.array([code.get(name, -1) for name in source.tolist()], dtype=np.int64)
