"""The search in a box of scored events: a submission first, and the key beside it afterwards."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hepllm import __version__
from hepllm.arrays import Floats, Labels
from hepllm.config import EvaluationConfig, SearchConfig, SoftDropConfig
from hepllm.data.dataset import Dataset
from hepllm.errors import InputError, nearest_name
from hepllm.evaluation.scores import ScoredEvents
from hepllm.files import file_digest, sync
from hepllm.pictures.search import plot_jet_masses, plot_limits, plot_scan, plot_spectrum
from hepllm.schema import SIGNAL, is_search_safe
from hepllm.search.box import BoxEvents, SearchResult
from hepllm.search.hunt import under_hypothesis
from hepllm.search.jet_masses import JetPairs
from hepllm.search.records import SearchFindings, Submission, Unblinding
from hepllm.search.region import MassRegion
from hepllm.search.signal_grid import SignalGrid
from hepllm.search.submission import Key, ReferenceSignal, search_box, truth_of

if TYPE_CHECKING:  # torch comes with them, which a search in tables does without
    from hepllm.runs.folder import Run
    from hepllm.runs.samples import EvaluationSet

LOG = logging.getLogger(__name__)

SUBMISSION, UNBLINDING = "submission.json", "unblinding.json"
SPECTRUM, LOCAL_P = "search.png", "search_scan.png"
JET_MASSES, LIMITS = "search_jets.png", "search_limits.png"

_GROOMED = ("jet1_softdrop_mass", "jet2_softdrop_mass")
_JET_MASSES = ("jet_mass_light", "jet_mass_delta")
_TOOLS = ("numpy", "scipy", "iminuit", "pyBumpHunter")


@dataclass(frozen=True, eq=False)
class Box:
    """A box to search, without labels.

    Attributes:
        name: name for tables and pictures.
        events: its events.
        reference: simulated signal; None where findings that need it cannot be given.
        grid: simulated signals of many masses, for limits by mass; None without them.
        region: masses of the excesses that count; None for the whole range.
        origin: fields of ``Submission`` that say where events and scores come from.
        warnings: warnings about the scores.
    """

    name: str
    events: BoxEvents
    reference: ReferenceSignal | None
    origin: Mapping[str, Any]
    warnings: Sequence[str] = ()
    grid: SignalGrid | None = None
    region: MassRegion | None = None

    @property
    def has_jet_masses(self) -> bool:
        """Whether the mass of any jet is known."""
        masses = self.events.jet_mass_light, self.events.jet_mass_heavy
        return any(np.isfinite(one).any() for one in masses)


def wants_search(settings: SearchConfig, chosen: EvaluationSet) -> bool:
    """Whether to search a set: a black box, or a set without labels.

    A model that uses features that follow m_jj is not fit for it, which is a warning.

    Raises:
        InputError: if the search is demanded in spite of such features.
    """
    if settings.run == "never" or not (chosen.is_blackbox or not chosen.has_labels):
        return False
    if is_search_safe(chosen.dataset.variables.inputs(chosen.table.names)):
        return True
    reason = f"{chosen.name}: no search with a model that uses features that follow m_jj; "
    if settings.run == "always":
        raise InputError(
            f"{reason}train with train.features=search, or set evaluation.search.run=blackbox"
        )
    LOG.warning("%strain with train.features=search to search it", reason)
    return False


@dataclass(frozen=True, eq=False)
class FoundInBoxes:
    """What one classifier found in boxes with the same rules and seed, by content of the box.

    A box with its key and the same box without it are searched once.
    """

    found: dict[str, tuple[str, SearchResult, SearchFindings]] = field(default_factory=dict)

    def get(self, box: Box, config: SearchConfig, seed: int) -> tuple[SearchResult, SearchFindings]:
        """Searches a box, unless one with the same events and scores was searched before."""
        events, content = box.events, hashlib.sha256()
        jets = (JetPairs(events.jet_mass_light, events.jet_mass_heavy), events.jets)
        masses = [one for pair in jets for one in (pair.light, pair.heavy)]
        for one in (events.score, events.m_jj, *masses):
            content.update(np.ascontiguousarray(one).tobytes())
        key = f"{content.hexdigest()} {box.region}"
        if key in self.found:
            name, result, findings = self.found[key]
            LOG.info("%s: has the events and scores of %s; its search is used", box.name, name)
            return result, findings
        result, findings = search_box(
            events, config, seed, reference=box.reference, grid=box.grid, region=box.region
        )
        self.found[key] = box.name, result, findings
        return result, findings


def search_only(
    box: Box, config: SearchConfig, seed: int, earlier: FoundInBoxes | None = None
) -> tuple[SearchResult, Submission]:
    """Searches a box for a resonance, and writes nothing.

    Args:
        box: box to search.
        config: rules of the search.
        seed: seed of pseudo-experiments and replicas.
        earlier: what was found in other boxes with the same classifier, rules and seed.

    Raises:
        InputError: as ``search_box``.
        RunError: as ``search_box``.
    """
    if box.origin.get("hypothesis") is not None:
        config = under_hypothesis(config)
    result, findings = (earlier or FoundInBoxes()).get(box, config, seed)
    submission = Submission(
        **box.origin,
        seed=seed,
        config=config,
        versions={"hepllm": __version__, **{tool: version(tool) for tool in _TOOLS}},
        **dict(findings) | {"warnings": [*findings.warnings, *box.warnings]},
    )
    return result, submission


def search_and_write(
    box: Box, config: SearchConfig, seed: int, folder: Path, earlier: FoundInBoxes | None = None
) -> tuple[Submission, tuple[Path, ...]]:
    """Searches a box for a resonance, and writes ``submission.json`` and pictures.

    No label is at hand here. Those who have labels read them when this has returned, because the
    submission is on the disk then, and compare them with ``unblind``.

    Args:
        box: box to search.
        config: rules of the search.
        seed: seed of pseudo-experiments and replicas.
        folder: folder for the files.
        earlier: what was found in other boxes with the same classifier, rules and seed.

    Returns:
        The submission, and the files that were written.

    Raises:
        InputError: as ``search_box``.
        RunError: as ``search_box``.
    """
    result, submission = search_only(box, config, seed, earlier)
    files = [folder / SUBMISSION, folder / SPECTRUM, folder / LOCAL_P]
    submission.write(files[0])
    sync(files[0])
    plot_spectrum(box.name, result, files[1])
    plot_scan(box.name, result, files[2])
    if box.has_jet_masses:
        files.append(folder / JET_MASSES)
        plot_jet_masses(box.name, result, files[-1])
    if submission.upper_limits is not None:
        files.append(folder / LIMITS)
        plot_limits(box.name, submission.upper_limits, files[-1])
    return submission, tuple(files)


def unblind(folder: Path, box: Box, label: Labels, labels_read: str) -> Unblinding:
    """Compares the submission in a folder with the labels, and writes ``unblinding.json`` beside.

    Args:
        folder: folder of the submission, which is read from the file and stays as it is.
        box: box that was searched.
        label: (N,) true classes of its events, all known.
        labels_read: when they were read, in the form of ISO 8601.
    """
    file = folder / SUBMISSION
    written = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
    submission = Submission.read(file, "search the box again")
    found = Unblinding(
        submission_sha256=file_digest(file),
        submission_written=written,
        labels_read=labels_read,
        truth=truth_of(submission, key_of(box, label)),
    )
    found.write(folder / UNBLINDING)
    return found


def key_of(box: Box, label: Labels) -> Key:
    """Returns the key of a box from the (N,) labels of its events, all known."""
    return Key(label == SIGNAL, box.events.score, box.events.m_jj)


def box_of_run(
    run: Run,
    config: EvaluationConfig,
    chosen: EvaluationSet,
    *,
    scores: Floats,
    validation: ScoredEvents,
    grid: SignalGrid | None = None,
) -> Box:
    """Makes a box of a set of events and of a run that has scored them.

    Args:
        run: run whose classifier computed the scores.
        config: settings of the evaluation.
        chosen: set to search.
        scores: (N,) scores of its events.
        validation: scores of the run's validation events, for the efficiency of the selection.
        grid: signals of many masses as the run scores them.

    Raises:
        InputError: if the dataset has no masses, its events have weights, or the selection cuts on
            the mass.
    """
    mass, selection = config.search.mass, run.selection
    if selection is not None and mass in selection.names:
        raise InputError(
            f"the selection '{selection.text}' cuts on {mass}, of which a search needs the whole "
            "spectrum; set its range by evaluation.search.m_jj_min and m_jj_max"
        )
    return Box(
        name=chosen.name,
        events=observe(chosen, scores, mass),
        reference=reference_signal(run, validation, mass),
        origin={
            "blackbox": chosen.blackbox,
            "run": run.folder.name,
            "trained_on": run.record.dataset_digest,
            "features": list(run.config.train.feature_names()),
            "cascade": config.cascade,
            "select": config.select,
            "hypothesis": run.question.text,
        },
        warnings=cascade_warnings(config),
        grid=grid,
    )


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
    for name in (SUBMISSION, SPECTRUM, LOCAL_P, JET_MASSES, LIMITS, UNBLINDING):
        (folder / name).unlink(missing_ok=True)


def observe(chosen: EvaluationSet, scores: Floats, mass: str = "m_jj") -> BoxEvents:
    """Joins the masses of a set's events with their scores.

    Args:
        chosen: the set.
        scores: (N,) scores of its events.
        mass: feature that is searched.

    Raises:
        InputError: if the dataset has no such mass, or its events have different weights.
    """
    dataset = chosen.dataset
    groomed = _GROOMED if has_groomed_masses(dataset) else ()
    needed = (mass, *_JET_MASSES, *groomed)
    if mass not in dataset.manifest.features:
        hint = nearest_name(mass, dataset.manifest.features)
        raise InputError(f"{dataset.folder}: a search needs {mass}, which is no feature{hint}")
    table = chosen.reread(needed, labels=False)
    if np.isnan(table.column(mass)).all():
        raise InputError(f"{dataset.folder}: a search needs {mass}, which no event has")
    if not (table.weight == table.weight[0]).all():
        raise InputError(
            f"{dataset.folder}: its events have weights; a search counts events of equal weight"
        )
    light, difference = (table.column(name) for name in _JET_MASSES)
    pairs = None
    if groomed:
        both = [table.column(name) for name in groomed]
        pairs = JetPairs(np.minimum(*both), np.maximum(*both))
    return BoxEvents(scores, table.column(mass), light, light + difference, pairs)


def has_groomed_masses(dataset: Dataset) -> bool:
    """Whether a dataset has soft-drop masses with the settings of the shipped response."""
    grooming = dataset.manifest.config["preprocess"]["jets"].get("soft_drop")
    usual = SoftDropConfig().model_dump(mode="json")
    return grooming == usual and set(_GROOMED) <= set(dataset.manifest.features)


def reference_signal(
    run: Run, validation: ScoredEvents, mass: str = "m_jj"
) -> ReferenceSignal | None:
    """Returns the signal among the validation events of a run; None for fewer than 20 events."""
    table = run.validation_table((mass,))
    is_signal = table.label == SIGNAL
    if is_signal.sum() < 20:
        LOG.warning("%s: too few validation events of signal for its efficiency", run.folder)
        return None
    return ReferenceSignal(
        score=validation.score[is_signal],
        m_jj=table.column(mass)[is_signal],
        weight=table.weight[is_signal],
        description=f"the validation signal of {run.record.dataset.name}",
    )
