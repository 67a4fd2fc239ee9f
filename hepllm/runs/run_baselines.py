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
)
from hepllm.baselines.scorer import Scorer, TrainingSample
from hepllm.data.dataset import Dataset, EventTable
from hepllm.data.work_folder import WorkFolder
from hepllm.model.inputs import ModelInputs
from hepllm.provenance import versions
from hepllm.runs.cascade import training_sample
from hepllm.runs.folder import Run
from hepllm.runs.kept_scores import KeptScores, TimedScores
from hepllm.runs.run_model import code_digest

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
        """The named baselines that the features of the run and of its dataset allow."""
        features = run.config.train.feature_names()
        possible = possible_baselines(names, features)
        columns = run.dataset().manifest.features
        return cls(run, tuple(readable_baselines(possible, features, columns)))

    @functools.cached_property
    def sample(self) -> TrainingSample:
        """The events that they are fitted to, with the features of the model."""
        return training_sample(self.run)

    @functools.cached_property
    def _scorers(self) -> dict[str, Scorer]:
        return {}

    def fitted(self, name: str) -> Scorer:
        """Returns a baseline, and fits it the first time.

        Raises:
            InputError: for training events that it cannot use.
        """
        if name not in self._scorers:
            own = OWN_FEATURES.get(name)
            sample = self.sample if own is None else training_sample(self.run, own)
            self._scorers.update(fit_baselines(sample, [name]))
        return self._scorers[name]

    def identity(self, name: str) -> dict[str, Any]:
        """What decides the scores of a baseline for given events; a JSON tree."""
        run, found = self.run, versions()
        return {
            "baseline": name,
            "dataset": run.record.dataset_digest,
            "features": list(OWN_FEATURES.get(name, run.config.train.feature_names())),
            "balance": run.config.train.balance,
            "seed": run.config.seed,
            "fusion": run.config.fusion.model_dump(mode="json"),
            "versions": {name: found[name] for name in ("hepllm", "torch", "scikit-learn")},
            "code": code_digest("hepllm.baselines", "hepllm.model.adapter", "hepllm.data.views"),
        }

    def score(
        self,
        sample: str,
        dataset: Dataset,
        table: EventTable,
        reread: Callable[[Sequence[str]], EventTable],
        kept: KeptScores,
    ) -> dict[str, Floats]:
        """Scores events by each baseline whose features their dataset has.

        Args:
            sample: name of the set.
            dataset: the dataset of its events.
            table: the events with the features of the model.
            reread: gives them with other features.
            kept: scores of earlier evaluations, which are not computed again.
        """
        scores = {}
        features = self.run.config.train.feature_names()
        for name in readable_baselines(self.names, features, dataset.manifest.features):
            own = OWN_FEATURES.get(name)
            rows = (table if own is None else reread(own)).features
            make = functools.partial(_score, self, name, rows)
            identity, inputs = self.identity(name), ModelInputs(rows)
            scores[name] = kept.get(sample, name, identity, inputs, make).score
        return scores


def _score(baselines: RunBaselines, name: str, rows: Floats, _: WorkFolder) -> TimedScores:
    """Scores events in blocks, since some baselines copy their input several times."""
    started, scorer = time.perf_counter(), baselines.fitted(name)
    blocks = [scorer.score(rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)]
    score = np.concatenate([np.empty(0), *blocks])
    return TimedScores(score, time.perf_counter() - started)
