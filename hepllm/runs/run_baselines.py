"""The baselines of a run, and their scores, which are kept like those of the model."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.baselines.fitting import (
    OWN_FEATURES,
    fit_baselines,
    possible_baselines,
    readable_baselines,
    reads_hypotheses,
)
from hepllm.baselines.scorer import Scorer, TrainingSample
from hepllm.data.dataset import EventTable
from hepllm.data.work_folder import WorkFolder
from hepllm.model.inputs import ModelInputs
from hepllm.provenance import versions
from hepllm.runs.folder import Run
from hepllm.runs.kept_scores import KeptScores, TimedScores
from hepllm.runs.run_model import code_digest
from hepllm.runs.samples import EvaluationSet
from hepllm.runs.training_samples import shown_sample, training_sample

_BLOCK = 2**16
"""Events that a baseline scores at once."""


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
        columns = run.dataset().manifest.features
        return cls(run, tuple(readable_baselines(possible, features, columns)))

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
        reread: Callable[[Sequence[str]], EventTable],
        kept: KeptScores,
    ) -> dict[str, Floats]:
        """Scores the events of a set by each baseline whose features their dataset has.

        Args:
            chosen: the set, with the features of the model.
            reread: gives its events with other features.
            kept: scores of earlier evaluations, which are not computed again.
        """
        scores = {}
        features = self.run.config.train.feature_names()
        for name in readable_baselines(self.names, features, chosen.dataset.manifest.features):
            own = OWN_FEATURES.get(name)
            rows = (chosen.table if own is None else reread(own)).features
            asked = chosen.hypothesis if reads_hypotheses(name) else None
            inputs = ModelInputs(rows, hypothesis=asked)
            make = functools.partial(_score, self, name, inputs)
            identity = self.identity(name)
            scores[name] = kept.get(chosen.name, name, identity, inputs, make).score
        return scores


def _score(baselines: RunBaselines, name: str, inputs: ModelInputs, _: WorkFolder) -> TimedScores:
    """Scores events in blocks, since some baselines copy their input several times."""
    started, scorer = time.perf_counter(), baselines.fitted(name)
    starts = range(0, len(inputs), _BLOCK)
    blocks = (inputs.take(slice(start, start + _BLOCK)) for start in starts)
    scores = [scorer.score(block.numbers, block.hypothesis) for block in blocks]
    score = np.concatenate([np.empty(0), *scores])
    return TimedScores(score, time.perf_counter() - started)
