"""The search in a black box with the scores of a run, a part of ``hepllm eval``."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path

import numpy as np

from hepllm import __version__
from hepllm.arrays import Floats
from hepllm.config import EvaluationConfig, SearchConfig
from hepllm.errors import HepllmError, InputError
from hepllm.evaluation.scores import ScoredEvents
from hepllm.pictures.search import plot_jet_masses, plot_spectrum
from hepllm.runs.folder import Run
from hepllm.runs.samples import EvaluationSet
from hepllm.schema import SIGNAL, UNKNOWN, is_search_safe
from hepllm.search.hunt import BoxEvents
from hepllm.search.records import Blackbox, NoSearch, SearchFindings, Submission
from hepllm.search.submission import Key, ReferenceSignal, search_box

LOG = logging.getLogger(__name__)

SUBMISSION = "submission.json"
SPECTRUM, JET_MASSES = "search.png", "search_jets.png"

_OBSERVABLES = ("m_jj", "jet_mass_light", "jet_mass_delta")
_TOOLS = ("numpy", "scipy", "iminuit", "pyBumpHunter")


def wants_search(settings: SearchConfig, chosen: EvaluationSet) -> bool:
    """Whether the settings ask to search a set.

    Raises:
        InputError: if they do, and the model uses features that follow m_jj.
    """
    unlabelled = bool((chosen.table.label == UNKNOWN).any())
    always = settings.run == "always" and chosen.is_blackbox
    if settings.run == "never" or not (unlabelled or always):
        return False
    if not is_search_safe(chosen.table.names):
        raise InputError(
            f"{chosen.name}: no search with a model that uses features that follow m_jj; "
            "train with train.features=search, or set evaluation.search.run=unlabelled"
        )
    return True


def search_blackbox(
    run: Run,
    config: EvaluationConfig,
    seed: int,
    chosen: EvaluationSet,
    *,
    scores: Floats,
    validation: ScoredEvents,
    folder: Path,
) -> tuple[Submission | NoSearch, tuple[Path, ...]]:
    """Searches a set for a resonance, and writes ``submission.json`` and pictures.

    For a set without masses, or with too few events, the record says why there is no search; its
    scores have other uses.

    Args:
        run: run whose classifier computed the scores.
        config: settings of the evaluation.
        seed: seed of pseudo-experiments and replicas.
        chosen: set to search.
        scores: (N,) scores of its events.
        validation: scores of the run's validation events, for the efficiency of the selection.
        folder: folder for the files.

    Returns:
        The record of the search, and the files that it wrote.
    """
    reference = reference_signal(run, validation)
    try:
        events = observe(chosen, scores)
        label = chosen.table.label
        is_known = not (label == UNKNOWN).any()
        key = Key(label == SIGNAL, events.score, events.m_jj) if is_known else None
        result, findings = search_box(events, config.search, seed, reference=reference, key=key)
    except HepllmError as error:
        LOG.warning("%s: no search: %s", chosen.name, error)
        return NoSearch(problem=str(error)), ()
    submission = _submission(run, config, seed, chosen, findings)
    files = folder / SUBMISSION, folder / SPECTRUM, folder / JET_MASSES
    plot_spectrum(chosen.name, result, files[1])
    plot_jet_masses(chosen.name, result, files[2])
    submission.write(files[0])
    return submission, files


def cascade_warnings(config: EvaluationConfig) -> list[str]:
    """Warns of a cascade that decides which events pass the loosest selection."""
    keep, loosest = config.cascade, max(config.search.efficiencies)
    if keep is None or keep > loosest:
        return []
    text = (
        f"the cascade passes {keep:g} of the background on to the language model, the loosest "
        f"selection keeps {loosest:g}: the boosting decides which events pass it; raise --cascade "
        "well above that"
    )
    return [text]


def forget_search(folder: Path) -> None:
    """Removes the files of an earlier search, which do not belong to the new scores."""
    for name in (SUBMISSION, SPECTRUM, JET_MASSES):
        (folder / name).unlink(missing_ok=True)


def observe(chosen: EvaluationSet, scores: Floats) -> BoxEvents:
    """Joins the masses of a set's events with their scores.

    Raises:
        InputError: if the dataset has no masses, or its events have weights.
    """
    dataset = chosen.dataset
    missing = [name for name in _OBSERVABLES if name not in dataset.manifest.features]
    if missing:
        names = ", ".join(missing)
        raise InputError(f"{dataset.folder}: a search needs {names}, which this dataset lacks")
    table = dataset.load(_OBSERVABLES)
    # Leave out the events that the run has seen, as the set does.
    table = table.take(np.isin(table.event_digest, chosen.table.event_digest))
    if not np.array_equal(table.event_digest, chosen.table.event_digest):
        raise InputError(f"{dataset.folder}: its contents changed during the evaluation")
    if np.isnan(table.column("m_jj")).all():
        raise InputError(f"{dataset.folder}: a search needs m_jj, which no event has")
    if not (table.weight == 1).all():
        raise InputError(
            f"{dataset.folder}: its events have weights; a search counts events of equal weight"
        )
    light = table.column("jet_mass_light")
    return BoxEvents(scores, table.column("m_jj"), light, light + table.column("jet_mass_delta"))


def reference_signal(run: Run, validation: ScoredEvents) -> ReferenceSignal | None:
    """Returns the signal among the validation events of a run; None for fewer than 20 events."""
    table = run.validation_table(("m_jj",))
    is_signal = table.label == SIGNAL
    if is_signal.sum() < 20:
        LOG.warning("%s: too few validation events of signal for its efficiency", run.folder)
        return None
    return ReferenceSignal(
        score=validation.score[is_signal],
        m_jj=table.column("m_jj")[is_signal],
        weight=table.weight[is_signal],
        description=f"the validation signal of {run.record.dataset.name}",
    )


def _submission(
    run: Run, config: EvaluationConfig, seed: int, chosen: EvaluationSet, findings: SearchFindings
) -> Submission:
    """Adds to the findings where they come from."""
    warnings = [*findings.warnings, *cascade_warnings(config)]
    return Submission(
        blackbox=Blackbox(
            name=chosen.name,
            digest=chosen.dataset.digest,
            sources=chosen.dataset.manifest.sources,
            n_excluded_as_seen=chosen.n_excluded,
        ),
        run=run.folder.name,
        trained_on=run.record.dataset_digest,
        features=list(run.config.train.feature_names()),
        cascade=config.cascade,
        seed=seed,
        config=config.search,
        versions={"hepllm": __version__, **{tool: version(tool) for tool in _TOOLS}},
        **dict(findings) | {"warnings": warnings},
    )
