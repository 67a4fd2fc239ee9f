"""Scans a dataset over the masses of X and Y, with the scores of a run under each hypothesis."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from hepllm import __version__
from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import Config
from hepllm.config.evaluation import MassPlaneConfig
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.executor import resolve_threads
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.learning.inputs import model_inputs
from hepllm.logs import progress_bar
from hepllm.model.inputs import ModelInputs
from hepllm.runs.box_search import cascade_warnings, observe
from hepllm.runs.cascade import open_cascade
from hepllm.runs.comparison import Contest
from hepllm.runs.ensemble_model import open_model
from hepllm.runs.folder import Run
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.questions import fill
from hepllm.runs.samples import EvaluationSet, collect_sets
from hepllm.schema import SIGNAL
from hepllm.search.mass_plane import in_mass_range, plane_points, select_in_plane
from hepllm.search.plane_limits import PlaneSignals, plane_limits
from hepllm.search.plane_records import PlaneScan, plane_findings
from hepllm.search.plane_toys import scan_plane

LOG = logging.getLogger(__name__)

_TOOLS = ("numpy", "scipy", "pyBumpHunter")


def scan_by_run(run: Run, folder: Path, config: Config) -> PlaneScan:
    """Scans a dataset, without the events that the run has seen, over the masses of X and Y.

    The scores of each hypothesis are kept as soon as they are computed, in pieces; a scan that was
    stopped goes on where it was. No label of the dataset is read.

    Args:
        run: a finished run that was trained with hypotheses.
        folder: the dataset.
        config: settings of the evaluation, and the seed.

    Raises:
        InputError: if the run cannot read hypotheses or uses features that follow m_jj, or the
            dataset cannot be used.
        RunError: if the background cannot be fitted.
    """
    trained = range_of_scan(run)
    settings, search = config.evaluation, config.evaluation.search
    run = run.selecting(settings.select)
    (chosen,) = collect_sets(
        run, dataset=None, blackbox=read_dataset(folder), all_blackboxes=False, seen_by=()
    )
    events = observe(chosen, np.zeros(len(chosen.table)), search.mass)
    points = plane_points(search.plane, trained)
    scorer = _PlaneScorer(
        contest_of_scan(run, config), chosen, in_mass_range(events.m_jj, search), signals=None
    )
    with progress_bar(len(points), "scan", "hypotheses") as bar:
        spectra = select_in_plane(events, points, scorer.score, search, done=bar.update)
    result = scan_plane(spectra, search, config.seed)
    mass, limits = plane_limits(
        result, search, config.seed, _signals(run, scorer, search.plane, search.mass)
    )
    findings = plane_findings(result, mass, limits, name=search.mass)
    warnings = [*findings.warnings, *cascade_warnings(settings)]
    return PlaneScan(
        **dict(findings) | {"warnings": warnings},
        blackbox=chosen.blackbox,
        run=run.folder.name,
        trained_on=run.record.dataset_digest,
        features=list(run.config.train.feature_names()),
        trained_range=trained,
        cascade=settings.cascade,
        select=settings.select,
        seed=config.seed,
        config=search,
        versions={"hepllm": __version__, **{tool: version(tool) for tool in _TOOLS}},
    )


def range_of_scan(run: Run) -> TrainedRange:
    """The signals of a training, over which its run can scan.

    Raises:
        InputError: if the run cannot read hypotheses, or uses features that follow m_jj.
    """
    trained = run.record.hypotheses
    if trained is None:
        raise InputError(
            f"{run.folder}: was trained without hypotheses, so it cannot scan them; train on a "
            "dataset with signals of several masses, as 'hepllm simulate --grid' makes them"
        )
    if not run.is_search_safe:
        raise InputError(
            f"{run.folder}: trained on features that follow m_jj, so a cut on its score sculpts a "
            "bump in QCD; train with train.features=search"
        )
    return trained


def contest_of_scan(run: Run, config: Config) -> Contest:
    """The model of a run, ready to score, with what decides where it does."""
    settings = config.evaluation
    threads = resolve_threads(config.train.threads)
    torch.set_num_threads(threads)
    kept = KeptScores.of(run, settings.scoring, threads=threads)
    model = open_model(run, settings.batch_size)
    return Contest(settings, config.seed, model, kept, open_cascade(run, settings))


@dataclass(frozen=True, eq=False)
class _PlaneScorer:
    """Scores the events of a box, and simulated signal, under hypotheses."""

    contest: Contest
    chosen: EvaluationSet
    in_range: Bools
    signals: ModelInputs | None

    def score(self, hypothesis: Hypothesis) -> Floats:
        """Scores of the N events of the box; NaN outside of the m_jj range."""
        inputs = self.chosen.inputs.take(self.in_range)
        scores = np.full(len(self.in_range), np.nan)
        scores[self.in_range] = self._measure(f"{self.chosen.name}-scan", inputs, hypothesis)
        return scores

    def score_signal(self, hypothesis: Hypothesis, places: Ints) -> Floats:
        """Scores of some signal events, shape (N,)."""
        if self.signals is None:
            raise ValueError("no simulated signal to score")
        return self._measure("signal-scan", self.signals.take(places), hypothesis)

    def _measure(self, sample: str, inputs: ModelInputs, hypothesis: Hypothesis) -> Floats:
        return scores_under(self.contest, sample, inputs, hypothesis)


def scores_under(
    contest: Contest, sample: str, inputs: ModelInputs, hypothesis: Hypothesis
) -> Floats:
    """Scores the N events of a set under a hypothesis, shape (N,), unless their scores are kept."""
    words = json.dumps(hypothesis.pieces).encode()
    name = f"llm-{hashlib.blake2b(words, digest_size=6).hexdigest()}"
    asked = replace(inputs, hypothesis=fill(hypothesis, len(inputs)))
    return replace(contest, name=name).measure(sample, asked).score


def _signals(
    run: Run, scorer: _PlaneScorer, plane: MassPlaneConfig, mass: str
) -> PlaneSignals | None:
    """The validation signal of a run, of the decays that a scan states; None without any."""
    names = tuple(dict.fromkeys((*run.config.train.feature_names(), mass)))
    table = run.validation_table(names, particles=run.config.fusion.constituents)
    table = table.take(table.label == SIGNAL)
    signals = run.dataset().true_signals(table).tolist()
    stated = {one for one in (plane.decay_x, plane.decay_y) if one is not None}
    usable = np.array(
        [one is not None and stated <= {*one.decays, None} for one in signals], dtype=np.bool_
    )
    if not usable.any():
        return None
    table = table.take(usable)
    known = [one for one, is_usable in zip(signals, usable, strict=True) if is_usable]
    asked = replace(scorer, signals=model_inputs(table, run.config.train.feature_names()))
    return PlaneSignals(
        masses=np.array([(one.m_resonance or np.nan, *one.masses) for one in known]),
        m_jj=table.column(mass),
        score=asked.score_signal,
        description=f"the validation signal of {run.record.dataset.name}",
    )
