"""Labelled events in training: which ones, with which labels, and that they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from hepllm.config import Config, ExamplesConfig, TrainConfig
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth
from hepllm.errors import ConfigError
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.hypotheses.signal import Product, Signal
from hepllm.learning.example_prompts import encode_shown
from hepllm.learning.examples import Examples
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.presentation import Presentation, Shown
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.scoring import forward_prompts
from hepllm.model.sources import locate_model
from hepllm.runs.folder import make_classifier

Tables = Callable[..., EventTable]
N_SIGNALS = 2


def events(tables: Tables, n_events: int = 256, seed: int = 1) -> tuple[EventTable, SignalTruth]:
    """Signals whose first feature is small or large, and background with both.

    So a feature says nothing of the class unless it is known which signal is meant.
    """
    names = ("jet_mass_light", "tau21_light")
    table = tables(n_events, names, seed)
    random = np.random.default_rng(seed)
    kind = random.integers(0, N_SIGNALS, n_events)
    features = random.normal(0, 1, (n_events, len(names)))
    features[:, 0] = 100 + 100 * kind + 10 * features[:, 0]
    signals = tuple(Signal((Product(300.0 + 100 * k, "qq"), Product(100.0, "qq"))) for k in (0, 1))
    place = np.where(table.label == 1, kind, -1)
    return replace(table, features=features), SignalTruth(signals, place)


def presentation(tables: Tables, batch_size: int = 64, **settings: float) -> Presentation:
    table, truth = events(tables)
    config = TrainConfig(batch_size=batch_size, examples=ExamplesConfig(most=6, **settings))
    return Presentation(table, config, 3, truth)


def examples_of(shown: Shown) -> Examples:
    assert shown.examples is not None
    return shown.examples


def test_examples_are_other_events_of_the_same_signal(event_table: Tables) -> None:
    made = presentation(event_table, share=1.0, wrong_share=0.0)
    table, truth = made.table, made.truth
    assert truth is not None
    sizes = set()
    for step in range(8):
        shown = made.step(step)
        for group in np.unique(examples_of(shown).groups):
            targets = shown.events[shown.groups == group]
            mine = examples_of(shown).of(np.array([group]))
            assert not np.isin(mine.events, targets).any()
            assert len(set(mine.events)) == len(mine.events) <= 6
            assert (mine.labels == table.label[mine.events]).all()  # none is wrong
            own = {truth.place[event] for event in [*targets, *mine.events]} - {-1}
            assert len(own) == 1
            sizes.add(len(mine.events))
    assert sizes == set(range(1, 7))


def test_which_questions_have_examples_and_which_are_open(event_table: Tables) -> None:
    with_open = presentation(event_table, share=0.5, stated_share=0.0, wrong_share=0.0)
    counts = {"examples": 0, "stated": 0}
    for step in range(40):
        shown = with_open.step(step)
        assert shown.groups is not None
        assert shown.hypothesis is not None
        had = [] if shown.examples is None else np.unique(shown.examples.groups).tolist()
        for group in np.unique(shown.groups):
            first = int((shown.groups == group).argmax())
            is_open = shown.hypothesis[first] is OPEN
            assert is_open or group not in had
            counts["examples"] += group in had
            counts["stated"] += not is_open
    assert 0.3 < counts["examples"] / sum(counts.values()) < 0.7
    stated = presentation(event_table, share=1.0, stated_share=1.0).step(0)
    assert stated.hypothesis is not None
    assert not all(one is OPEN for one in stated.hypothesis)


def test_labels_are_wrong_as_often_as_stated(event_table: Tables) -> None:
    made = presentation(event_table, share=1.0, wrong_share=0.5)
    wrong = [
        (one.labels != made.table.label[one.events]).mean()
        for one in (made.step(step).examples for step in range(60))
        if one is not None
    ]
    assert 0.15 < np.mean(wrong) < 0.35  # uniform from 0 to 0.5


def test_a_step_is_a_function_of_the_seed_and_nothing_else_changes(event_table: Tables) -> None:
    with_examples, again = (presentation(event_table, share=1.0) for _ in range(2))
    again.step(5)
    first, second = with_examples.step(2), again.step(2)
    np.testing.assert_array_equal(examples_of(first).events, examples_of(second).events)
    np.testing.assert_array_equal(examples_of(first).labels, examples_of(second).labels)
    off = replace(with_examples, config=TrainConfig(batch_size=64)).step(2)
    assert off.examples is None
    np.testing.assert_array_equal(off.events, first.events)
    np.testing.assert_array_equal(off.groups, first.groups)


def test_a_part_of_a_step_has_the_examples_of_its_groups(event_table: Tables) -> None:
    shown = presentation(event_table, share=1.0).step(0)
    parts = [shown.take(part) for part in shown.micro_batches(20)]
    assert len(parts) > 2
    for part in parts:
        assert part.groups is not None
        expected = examples_of(shown).of(part.groups)
        np.testing.assert_array_equal(examples_of(part).events, expected.events)


def test_events_that_are_too_few_or_have_no_weight_are_left_out(event_table: Tables) -> None:
    made = presentation(event_table, batch_size=256, share=1.0)
    weight = np.where(made.table.label == 1, 0.0, made.table.weight)
    weight[:4] = 1.0
    shown = replace(made, table=replace(made.table, weight=weight)).step(0)
    assert (weight[examples_of(shown).events] > 0).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("prompt.layout=minimal", r"set prompt\.layout: question"),
        ("prompt.chat_template=true", r"set prompt\.chat_template: false"),
        ("train.hypothesis.enabled=false", r"set train\.hypothesis\.enabled: auto"),
    ],
)
def test_what_goes_with_no_examples_is_refused(
    tiny_config: Callable[..., Config], change: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=rf"train\.examples.*{told}"):
        tiny_config("prompt.layout=question", "train.examples.most=4", change)


def _trainer(config: Config, tables: Tables) -> Trainer:
    table, truth = events(tables, 2048)
    validation, _ = events(tables, 64, seed=2)
    data = TrainingData(table, validation, truth=truth)
    return Trainer.fresh(*make_classifier(config), data, TrainingPlan.of(config))


def _auc(trainer: Trainer, shown: Shown) -> float:
    inputs = trainer.data.inputs_of(shown)
    prompts, everything = encode_shown(
        trainer.encoder, inputs, shown.groups, shown.examples, trainer.data.inputs
    )
    with torch.inference_mode():
        logits = forward_prompts(trainer.classifier, prompts, everything)
    scores = (logits[:, 1] - logits[:, 0]).double().numpy()
    found = auc(scored_events(scores, trainer.data.train.label[shown.events])).value
    assert found is not None
    return found


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random layers whose weights are large enough to tell tokens apart."""
    folder = tmp_path_factory.mktemp("backbone")
    config = MistralConfig.from_pretrained(locate_model("tiny-random"), initializer_range=0.125)
    torch.manual_seed(0)
    MistralForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(locate_model("tiny-random")).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_learns_what_only_labelled_events_say(
    tiny_config: Callable[..., Config], event_table: Tables, backbone: Path
) -> None:
    config = tiny_config(
        *(f"backbone.name={backbone}", "backbone.lora.r=16", "backbone.lora.alpha=32"),
        *("prompt.layout=question", "train.features=[jet_mass_light,tau21_light]"),
        *("train.examples.most=8", "train.examples.share=1", "train.examples.wrong_share=0"),
        *("train.examples.stated_share=0", "train.hypothesis.open_share=0"),
        *("train.batch_size=128", "train.epochs=60", "train.lr=3e-3", "train.nfa_lr=3e-3"),
    )
    trainer = _trainer(config, event_table)
    n_steps = trainer.total_steps
    for step in range(n_steps):
        trainer.step(step, measure=False)
    trainer.classifier.eval()
    later = [trainer.presentation.step(n_steps + k) for k in range(8)]
    after = np.mean([_auc(trainer, shown) for shown in later])
    alone = np.mean([_auc(trainer, replace(shown, examples=None)) for shown in later])
    assert after > 0.65  # 0.75 if it is known which signal is meant
    assert after > alone + 0.1
