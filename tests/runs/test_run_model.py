"""Scores of the pieces of a sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from hepllm.config import Config
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.runs.folder import make_classifier
from hepllm.runs.run_model import PieceScorer, RunModel


def test_without_soft_tokens_an_event_has_the_score_of_its_question(
    tiny_config: Callable[..., Config],
) -> None:
    config = tiny_config("prompt.layout=question")
    classifier, encoder = make_classifier(config)
    stated = parse_hypothesis("a 500 GeV and a 100 GeV particle, both to two quarks")
    asked = np.array([OPEN, stated, stated, OPEN, stated], dtype=object)
    numbers = np.random.default_rng(3).gamma(4.0, 10.0, (5, len(config.train.feature_names())))
    inputs = ModelInputs(numbers, hypothesis=asked)
    model = RunModel(cast("Any", None), 4)
    model.__dict__["loaded"] = classifier, encoder
    scores = PieceScorer(model, silenced=True).score(inputs)
    assert len(set(scores.tolist())) == 2
    with classifier.silenced_fusion():
        one_by_one = score_events(classifier, encoder, inputs, batch_size=1)
    np.testing.assert_allclose(scores, one_by_one, rtol=1e-4, atol=1e-5)
    assert len(PieceScorer(model, silenced=True).score(inputs.take(slice(0, 0)))) == 0
