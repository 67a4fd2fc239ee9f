"""Labelled events before others: in training as in ``hepllm label``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from hepllm.arrays import Ints
from hepllm.config import Config
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.labelling.local import run_model
from hepllm.labelling.predictions import NO_CONTEXT, Context, Request
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.labelled import LabelledEvents, encode_after, label_tokens
from hepllm.runs.folder import make_classifier
from hepllm.runs.questions import fill

Made = tuple[EventClassifier, PromptEncoder]
STATED = parse_hypothesis("Z' to a 500 GeV and a 100 GeV particle")
CONTEXT = Context((1, 2, 4), (1, 0, 1))


@pytest.fixture(scope="module")
def made(tiny_config: Callable[..., Config]) -> Made:
    """A model that reads masses of hypotheses, with two soft tokens for each event."""
    config = tiny_config(
        *("prompt.layout=question", "train.hypothesis.enabled=true", "fusion.n_tokens=2"),
        *("train.features=cathode", "backbone.dtype=float32"),
    )
    classifier, encoder = make_classifier(config)
    assert classifier.nfa is not None
    classifier.nfa.fit(events(OPEN))
    return classifier.eval(), encoder


def events(hypothesis: Hypothesis) -> ModelInputs:
    numbers = np.random.default_rng(5).gamma(4.0, 30.0, (6, 4))
    return ModelInputs(numbers, hypothesis=fill(hypothesis, 6))


def examples(inputs: ModelInputs, context: Context, group: int) -> LabelledEvents:
    items, labels = (np.array(part, dtype=np.int64) for part in context)
    return LabelledEvents(inputs.take(items), labels.astype(np.int8), np.full(len(items), group))


def read(made: Made, inputs: ModelInputs, groups: Ints, shown: LabelledEvents) -> torch.Tensor:
    classifier, encoder = made
    prompts = encode_after(encoder, inputs, groups, shown)
    before = shown.inputs.take(prompts.examples.numpy())
    logits = classifier.answer(prompts, ModelInputs.concatenate([inputs, before]))
    return (logits[:, 1] - logits[:, 0]).double()


@pytest.mark.parametrize("hypothesis", [OPEN, STATED])
def test_training_shows_examples_as_labelling_does(made: Made, hypothesis: Hypothesis) -> None:
    classifier, encoder = made
    inputs = events(hypothesis)
    names = ("m_jj", "jet_mass_light", "jet_mass_delta", "tau21_light")
    model = run_model(
        classifier, encoder, inputs, ("background", "signal"), names, serial=True, name="made"
    )
    after, alone = model.log_odds([Request(CONTEXT, (0, 3, 5)), Request(NO_CONTEXT, (0, 3))])
    # Targets of two groups in a mixed order, of which the second has no examples.
    order, groups = np.array([0, 0, 3, 3, 5]), np.array([7, 2, 7, 2, 7])
    with torch.inference_mode():
        found = read(made, inputs.take(order), groups, examples(inputs, CONTEXT, 7)).numpy()
    assert_allclose(found[groups == 7], after, atol=1e-5)
    assert_allclose(found[groups == 2], alone, atol=1e-5)
    assert abs(after[0] - alone[0]) > 1e-4


def test_many_targets_have_copies_of_their_examples(made: Made) -> None:
    inputs = events(OPEN)
    order = np.repeat(np.arange(6), 10)
    groups = np.where(np.arange(60) < 50, 0, np.arange(60))  # ten groups of one event
    shown = examples(inputs, CONTEXT, 0)
    prompts = encode_after(made[1], inputs.take(order), groups, shown)
    assert prompts.examples.tolist() == [0, 1, 2] * 4  # 16 of 50 events behind one copy
    assert len(prompts.fusion_places) == 60 + 12
    with torch.inference_mode():
        found = read(made, inputs.take(order), groups, shown)[:50].view(5, 10)
    assert_allclose(found, found[:, :1].expand(-1, 10), atol=1e-5)


def test_gradients_reach_the_soft_tokens_of_examples(made: Made) -> None:
    classifier, _ = made
    inputs, kept = events(OPEN), list[torch.Tensor]()
    assert classifier.nfa is not None

    def keep(module: object, arguments: object, tokens: torch.Tensor) -> None:
        tokens.retain_grad()
        kept.append(tokens)

    hook = classifier.nfa.register_forward_hook(keep)
    try:
        shown = examples(inputs, CONTEXT, 0)
        found = read(made, inputs.take(np.array([0])), np.zeros(1, dtype=np.int64), shown)
        torch.autograd.backward(found[0])
    finally:
        hook.remove()
        classifier.zero_grad()
    (tokens,) = kept
    assert tokens.shape[:2] == (4, 2)
    assert tokens.grad is not None
    assert (tokens.grad.abs().amax(-1) > 0).all()


def test_labels_begin_with_the_tokens_that_classes_are_read_from(made: Made) -> None:
    _, encoder = made
    endings = label_tokens(encoder.tokens)
    assert tuple(ids[0] for ids in endings) == encoder.label_tokens
    assert endings[0][1:] == endings[1][1:] != ()
