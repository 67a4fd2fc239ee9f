"""The baselines of a run, and their scores, which are kept like those of the model."""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hepllm.arrays import Floats
from hepllm.baselines.fitting import (
    OWN_FEATURES,
    fit_baselines,
    possible_baselines,
    readable_baselines,
    reads_hypotheses,
)
from hepllm.baselines.particles import PARTICLES, AdapterNetwork, fit_adapter
from hepllm.baselines.scorer import Scorer, TrainingSample
from hepllm.config import FusionConfig
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.work_folder import WorkFolder
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
from hepllm.provenance import versions
from hepllm.runs.folder import Run, training_events
from hepllm.runs.kept_scores import KeptScores, TimedScores
from hepllm.runs.run_model import code_digest
from hepllm.runs.samples import EvaluationSet
from hepllm.runs.training_samples import shown_sample, training_sample

LOG = logging.getLogger(__name__)

_BLOCK = 2**16
"""Events that a baseline scores at once."""


class Reread(Protocol):
    """Reads the events of a set again."""

    def __call__(self, names: Sequence[str], *, particles: int = 0) -> EventTable:
        """Reads the features ``names``, and so many constituents of each leading jet."""
        ...


@dataclass(frozen=True, eq=False)
class RunBaselines:
    """The baselines of a run, each of which is fitted when it has something to score.

    Attributes:
        run: run whose training events they are fitted to.
        names: their names.
    """

    run: Run
    names: tuple[str, ...]

    @classmethod
    def of(cls, run: Run, names: Sequence[str]) -> RunBaselines:
        """The named baselines that the run has the features and the hypotheses for."""
        features = run.config.train.feature_names()
        hypotheses = run.config.train.hypothesis.enabled is True
        possible = possible_baselines(names, features, hypotheses=hypotheses)
        return cls(run, tuple(_readable(run, possible, run.dataset())))

    @functools.cached_property
    def sample(self) -> TrainingSample:
        """The events that they are fitted to, with the features of the model."""
        return training_sample(self.run)

    @functools.cached_property
    def shown(self) -> TrainingSample:
        """The same events for those that read hypotheses."""
        return shown_sample(self.run)

    @functools.cached_property
    def _scorers(self) -> dict[str, Scorer]:
        return {}

    def fitted(self, name: str) -> Scorer:
        """Returns a baseline, and fits it the first time.

        Raises:
            InputError: for training events that it cannot use.
        """
        if name not in self._scorers:
            self._scorers.update(fit_baselines(self._sample_of(name), [name]))
        return self._scorers[name]

    def _sample_of(self, name: str) -> TrainingSample:
        if reads_hypotheses(name):
            return self.shown
        own = OWN_FEATURES.get(name)
        return self.sample if own is None else training_sample(self.run, own)

    @functools.cached_property
    def network(self) -> AdapterNetwork:
        """The encoder of particles with a linear head, fitted to the events of the model."""
        config, fusion = self.run.config, _fusion_of_particles(self.run)
        dataset, constituents = self.run.dataset(), fusion.constituents
        kept = self.run.kept_events()
        events = training_events(
            dataset, config.train, config.seed, (), particles=constituents, kept=kept
        )
        LOG.info("fitting the baseline '%s' to %d events", PARTICLES, len(events))
        sample = TrainingSample(
            events.features, (), events.label, events.weight, config.seed, fusion
        )
        return fit_adapter(sample, model_inputs(events))

    def identity(self, name: str) -> dict[str, Any]:
        """What decides the scores of a baseline for given events; a JSON tree."""
        run, found = self.run, versions()
        shown = run.config.train.hypothesis.model_dump(mode="json")
        return {
            "baseline": name,
            "hypothesis": shown if reads_hypotheses(name) else None,
            "dataset": run.record.dataset_digest,
            "features": list(OWN_FEATURES.get(name, run.config.train.feature_names())),
            "balance": run.config.train.balance,
            **_filter_of(run),
            "decorrelate": [run.config.train.decorrelate, run.config.train.loss.disco],
            "seed": run.config.seed,
            "fusion": run.config.fusion.model_dump(mode="json"),
            "versions": {name: found[name] for name in ("hepllm", "torch", "scikit-learn")},
            "code": code_digest(
                "hepllm.baselines",
                "hepllm.data.planing",
                "hepllm.data.views",
                "hepllm.hypotheses",
                "hepllm.learning.presentation",
                "hepllm.model.adapter",
                "hepllm.runs.training_samples",
            ),
        }

    def score(
        self,
        chosen: EvaluationSet,
        reread: Reread,
        kept: KeptScores,
    ) -> dict[str, Floats]:
        """Scores the events of a set by each baseline whose features their dataset has.

        Args:
            chosen: the set, with the features of the model.
            reread: gives its events with other features, or with particles.
            kept: scores of earlier evaluations, which are not computed again.
        """
        scores = {}
        constituents = _fusion_of_particles(self.run).constituents
        for name in _readable(self.run, self.names, chosen.dataset):
            own = OWN_FEATURES.get(name)
            if name == PARTICLES:
                inputs = model_inputs(reread((), particles=constituents))
            else:
                rows = (chosen.table if own is None else reread(own)).features
                asked = chosen.hypothesis if reads_hypotheses(name) else None
                inputs = ModelInputs(rows, hypothesis=asked)
            make = functools.partial(_score, self, name, inputs)
            identity = self.identity(name)
            scores[name] = kept.get(chosen.name, name, identity, inputs, make).score
        return scores


def _fusion_of_particles(run: Run) -> FusionConfig:
    """The adapter of the run, if it read particles and nothing else."""
    return run.config.fusion.model_copy(update={"enabled": True, "inputs": "particles"})


def _readable(run: Run, names: Sequence[str], dataset: Dataset) -> list[str]:
    """The baselines that find what they read in a dataset."""
    features = run.config.train.feature_names()
    readable = readable_baselines(names, features, dataset.manifest.features)
    if dataset.particles_per_jet < _fusion_of_particles(run).constituents:
        return [name for name in readable if name != PARTICLES]
    return readable


def _score(baselines: RunBaselines, name: str, inputs: ModelInputs, _: WorkFolder) -> TimedScores:
    """Scores events in blocks, since some baselines copy their input several times."""
    started = time.perf_counter()
    if name == PARTICLES:
        score = baselines.network.score(inputs)
        return TimedScores(score, time.perf_counter() - started)
    scorer = baselines.fitted(name)
    starts = range(0, len(inputs), _BLOCK)
    blocks = (inputs.take(slice(start, start + _BLOCK)) for start in starts)
    scores = [scorer.score(block.numbers, block.hypothesis) for block in blocks]
    score = np.concatenate([np.empty(0), *scores])
    return TimedScores(score, time.perf_counter() - started)


def _filter_of(run: Run) -> dict[str, Any]:
    """What tells the events of a filtered training apart; nothing without a filter."""
    kept = run.kept_events()
    return {} if kept is None else {"kept": hashlib.sha256(kept.tobytes()).hexdigest()}
