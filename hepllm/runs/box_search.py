"""The search in a black box, as a part of ``hepllm eval``: its inputs, its files, its words."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hepllm import __version__
from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.data.dataset import Dataset
from hepllm.errors import HepllmError, InputError, RunError
from hepllm.evaluation.calibration import ValidationScores
from hepllm.files import write_text
from hepllm.pictures.search import plot_jet_masses, plot_spectrum
from hepllm.runs.folder import Run
from hepllm.runs.samples import EvaluationSet
from hepllm.schema import SIGNAL, UNKNOWN, is_search_safe
from hepllm.search.hunt import BoxEvents, SearchResult, search
from hepllm.search.limits import UpperLimit, upper_limits
from hepllm.search.submission import (
    ReferenceSignal,
    Truth,
    efficiencies_of,
    format_submission,
    submission_tree,
)

LOG = logging.getLogger(__name__)

SUBMISSION = "submission.json"
SPECTRUM, JET_MASSES = "search.png", "search_jets.png"

_OBSERVABLES = ("m_jj", "jet_mass_light", "jet_mass_delta")
_TOOLS = ("numpy", "scipy", "iminuit", "pyBumpHunter")


@dataclass(frozen=True)
class BlackboxReport:
    """What a search adds to the report of a set.

    Attributes:
        tree: the content of ``submission.json``; only ``problem`` where no search was possible.
        text: the same for a person.
        files: what was written.
    """

    tree: dict[str, Any]
    text: str
    files: tuple[Path, ...]


def wants_search(config: Config, chosen: EvaluationSet) -> bool:
    """Whether a set is to be searched.

    Raises:
        InputError: if it is, by ``evaluation.search.run: always``, and the model sees features
            that follow m_jj.
    """
    when = config.evaluation.search.run
    unlabelled = bool((chosen.table.label == UNKNOWN).any())
    if when == "never" or not (unlabelled or (when == "always" and chosen.is_blackbox)):
        return False
    if not is_search_safe(chosen.table.names):
        raise InputError(
            f"{chosen.name}: no search with a model of features that follow m_jj; "
            "train with train.features=search, or set evaluation.search.run=unlabelled"
        )
    return True


def search_blackbox(
    run: Run,
    config: Config,
    chosen: EvaluationSet,
    *,
    scores: Floats,
    validation: ValidationScores,
    folder: Path,
) -> BlackboxReport:
    """Searches a set for a resonance, and writes ``submission.json`` and pictures.

    A set that cannot be searched, for want of masses or of events, gets a report that says so:
    its scores are good for other uses.

    Args:
        run: whose classifier made the scores.
        config: settings of the search.
        chosen: the set.
        scores: (N,) of its events.
        validation: scores of the run's validation events, for the efficiency of the selection.
        folder: for the files.
    """
    settings = config.evaluation.search
    try:
        events = observe(chosen, scores)
        result = search(events, settings, config.seed)
    except HepllmError as error:
        LOG.warning("%s: no search: %s", chosen.name, error)
        return BlackboxReport({"problem": str(error)}, f"{chosen.name}: no search: {error}", ())
    reference = reference_signal(run, validation)
    limits, problems = _limits(result, reference, config.seed)
    tree = submission_tree(result, reference, _truth(chosen, events), limits)
    tree["warnings"] += [*problems, *cascade_warnings(config)]
    text = format_submission(chosen.name, result, tree)
    tree = {"blackbox": _identity(chosen), **tree, **_provenance(run, config)}
    files = _write(folder, chosen.name, result, tree)
    return BlackboxReport(tree, text, files)


def _limits(
    result: SearchResult, reference: ReferenceSignal | None, seed: int
) -> tuple[tuple[UpperLimit, ...] | None, list[str]]:
    """Upper limits where nothing was found, and what to know if there are none."""
    if result.is_excess:
        return None, []
    known = efficiencies_of(result, reference)
    values = None if known is None else [one.value for one in known]
    try:
        return upper_limits(result, values, seed), []
    except RunError as error:
        return None, [str(error)]


def cascade_warnings(config: Config) -> list[str]:
    """What to know about a search with the scores of a cascade."""
    keep, loosest = config.evaluation.cascade, max(config.evaluation.search.efficiencies)
    if keep is None or keep > loosest:
        return []
    text = (
        f"the cascade leaves {keep:g} of the background to the language model, the loosest "
        f"selection keeps {loosest:g}: the boosting decides what passes it; raise --cascade well "
        "above that"
    )
    return [text]


def forget_search(folder: Path) -> None:
    """Removes what an earlier search left, which does not belong to newer scores."""
    for name in (SUBMISSION, SPECTRUM, JET_MASSES):
        (folder / name).unlink(missing_ok=True)


def observe(chosen: EvaluationSet, scores: Floats) -> BoxEvents:
    """The masses of a set's events beside their scores.

    Raises:
        InputError: if the dataset has no masses, or its events have weights.
    """
    dataset = chosen.dataset
    missing = [name for name in _OBSERVABLES if name not in dataset.manifest.features]
    if missing:
        raise InputError(
            f"{dataset.folder}: a search needs {', '.join(missing)}, which this dataset has not"
        )
    table = dataset.load(_OBSERVABLES)
    # As the set itself: without the events that the run has seen.
    table = table.take(np.isin(table.event_digest, chosen.table.event_digest))
    if not np.array_equal(table.event_digest, chosen.table.event_digest):
        raise InputError(f"{dataset.folder}: its contents have changed while it was evaluated")
    if np.isnan(table.column("m_jj")).all():
        raise InputError(f"{dataset.folder}: a search needs m_jj, which no event has")
    if not (table.weight == 1).all():
        raise InputError(
            f"{dataset.folder}: its events have weights; a search counts events of equal weight"
        )
    light = table.column("jet_mass_light")
    return BoxEvents(scores, table.column("m_jj"), light, light + table.column("jet_mass_delta"))


def reference_signal(run: Run, validation: ValidationScores) -> ReferenceSignal | None:
    """The signal among the validation events of a run; None where there is hardly any."""
    table = run.validation_table(("m_jj",))
    is_signal = table.label == SIGNAL
    if is_signal.sum() < 20:
        LOG.warning("%s: no efficiency of the signal from its validation events", run.folder)
        return None
    return ReferenceSignal(
        score=validation.score[is_signal],
        m_jj=table.column("m_jj")[is_signal],
        weight=table.weight[is_signal],
        description=f"the validation signal of {run.record.dataset.name}",
    )


def _truth(chosen: EvaluationSet, events: BoxEvents) -> Truth | None:
    label = chosen.table.label
    if (label == UNKNOWN).any():
        return None
    return Truth(label == SIGNAL, events.score, events.m_jj)


def _identity(chosen: EvaluationSet) -> dict[str, Any]:
    dataset: Dataset = chosen.dataset
    return {
        "name": chosen.name,
        "digest": dataset.digest,
        "sources": [source.model_dump() for source in dataset.manifest.sources],
        "n_excluded_as_seen": chosen.n_excluded,
    }


def _provenance(run: Run, config: Config) -> dict[str, Any]:
    return {
        "run": run.folder.name,
        "trained_on": run.record.dataset_digest,
        "features": list(run.config.train.feature_names()),
        "cascade": config.evaluation.cascade,
        "seed": config.seed,
        "config": config.evaluation.search.model_dump(mode="json"),
        "versions": {"hepllm": __version__, **{tool: version(tool) for tool in _TOOLS}},
    }


def _write(folder: Path, name: str, result: SearchResult, tree: dict[str, Any]) -> tuple[Path, ...]:
    files: Sequence[Path] = [folder / part for part in (SUBMISSION, SPECTRUM, JET_MASSES)]
    plot_spectrum(name, result, files[1])
    plot_jet_masses(name, result, files[2])
    write_text(files[0], json.dumps(tree, indent=1, allow_nan=False) + "\n")
    return tuple(files)
