"""How many events are scored, and points explained, at once: as many as fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from hepllm.config import Config
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.learning import passes as module
from hepllm.learning.budget import MemoryChoice
from hepllm.learning.capacity import Capacity
from hepllm.learning.passes import events_at_once, points_at_once
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.runs.folder import make_classifier

Made = tuple[EventClassifier, PromptEncoder]
GIB = 2**30


@pytest.fixture(scope="module", params=["full", "question"])
def made(request: pytest.FixtureRequest, tiny_config: Callable[..., Config]) -> Made:
    classifier, encoder = make_classifier(tiny_config(f"prompt.layout={request.param}"))
    if classifier.nfa is not None:
        classifier.nfa.fit(events(classifier, 20))
    return classifier.eval(), encoder


def events(classifier: EventClassifier, n_events: int) -> ModelInputs:
    assert classifier.nfa is not None
    assert classifier.nfa.numbers is not None
    n_features = len(classifier.nfa.numbers.standardizer.mean)
    numbers = np.random.default_rng(1).uniform(0.1, 900.0, (n_events, n_features))
    return ModelInputs(numbers, hypothesis=np.full(n_events, OPEN, dtype=object))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def of(n_bytes: int) -> None:
        def capacity(device: torch.device, limit_gib: float | None) -> Capacity:
            return Capacity("a test", n_bytes, 0, None, 0, 0.0)

        monkeypatch.setattr(module, "device_capacity", capacity)

    return of


def test_a_roomy_machine_takes_what_suits_the_layout(
    made: Made, machine: Callable[[int], None]
) -> None:
    machine(64 * GIB)
    assert events_at_once(*made, events(made[0], 300)) == made[1].events_at_once
    point = events(made[0], 1)
    assert points_at_once(*made, point, 16) == MemoryChoice(16, checkpointing=False)
    assert points_at_once(*made, point, 3) == MemoryChoice(3, checkpointing=False)


def test_a_full_one_takes_fewer_and_at_last_computes_twice(
    made: Made, machine: Callable[[int], None]
) -> None:
    classifier, encoder = made
    point, held = events(classifier, 1), module._budget(*made, events(classifier, 1)).needs.fixed
    ways = []
    for kilobytes in (2**14, 2**12, 2**11, 2**10, 2**9, 2**8, 2**7, 1):
        machine(held + kilobytes * 1024)
        ways.append(points_at_once(classifier, encoder, point, 16))
    assert ways[-1].micro_batch == 1  # at least one, whatever the machine
    assert ways[-1].checkpointing
    assert any(way.micro_batch < 16 or way.checkpointing for way in ways[:-1])
    machine(held + 2**19)
    assert events_at_once(*made, events(classifier, 300)) < encoder.events_at_once


def test_different_questions_take_more_than_one(made: Made) -> None:
    classifier, encoder = made
    one = module._budget(classifier, encoder, events(classifier, 8))
    assert one.batch.particle_bytes == 0
    assert replace(one.batch, n_scored=8).scored.encoded >= 8
