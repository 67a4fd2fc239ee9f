"""Trains variants of the recipe over seeds, for the lab book.

python tools/studies/lab_book.py train DATASET OUTPUT --config FILE --set train.epochs=1
python tools/studies/lab_book.py table OUTPUT

Each training leaves a file of test scores in OUTPUT; ``train`` does only what is missing, so it can
be stopped and run again. Trainings are short, so that the tables compare what happens early.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t
from torch import Tensor, nn

from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import signal_truth
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.files import write_text
from hepllm.learning.adapter_alone import train_adapter_alone
from hepllm.learning.averaging import WeightAverage
from hepllm.learning.inputs import model_inputs
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.presentation import assign_own
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.model.backbone import Backbone, causal_model, load_backbone
from hepllm.model.classifier import EventClassifier
from hepllm.model.embeddings import embedding_rms
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts
from hepllm.model.scoring import score_events
from hepllm.runs.folder import (
    make_classifier,
    make_encoder,
    training_events,
    training_masses,
    validation_events,
)

LOG = logging.getLogger("lab_book")

Floats = NDArray[np.float64]

BASE = "base"
N_REPLICAS = 500
N_POOLED = 4
"""Layers whose mean a pooled head reads."""


@dataclass(frozen=True)
class Variant:
    """A change of the recipe.

    Attributes:
        question: what it answers.
        settings: settings that it changes.
        frozen: whether the LoRA weights do not learn.
        random: whether the backbone has random weights.
        pooled: whether a head on the last four layers takes the place of the label words.
    """

    question: str
    settings: tuple[str, ...] = ()
    frozen: bool = False
    random: bool = False
    pooled: bool = False


VARIANTS: Mapping[str, Variant] = {
    BASE: Variant("the recipe"),
    "frozen": Variant("frozen backbone", frozen=True),
    "random": Variant("random instead of pretrained backbone", random=True),
    "random, frozen": Variant("random instead of pretrained backbone", frozen=True, random=True),
    "not alone": Variant("adapter trained alone first", ("train.nfa_alone.epochs=0",)),
    "not alone, twice as long": Variant(
        "adapter trained alone first", ("train.nfa_alone.epochs=0", "train.epochs=2")
    ),
    "warm-up": Variant("warm-up of the adapter alone", ("train.warmup_fusion_steps=10",)),
    "pooled head": Variant("label words against a head on the last four layers", pooled=True),
    "digits": Variant("masses of the hypothesis as digits", ("prompt.masses=digits",)),
    "no comparison": Variant("log ratios of stated and measured masses", ("fusion.compare=false",)),
    "plain": Variant("embedding of numbers", ("fusion.embedding=plain",)),
    "two tokens": Variant("soft tokens of an event", ("fusion.n_tokens=2",)),
    "four tokens": Variant("soft tokens of an event", ("fusion.n_tokens=4",)),
    "lr / 3": Variant("learning rate of LoRA", ("train.lr=1.7e-4",)),
    "lr x 3": Variant("learning rate of LoRA", ("train.lr=1.5e-3",)),
    "nfa_lr / 3": Variant("learning rate of the adapter", ("train.nfa_lr=1.7e-4",)),
    "nfa_lr x 3": Variant("learning rate of the adapter", ("train.nfa_lr=1.5e-3",)),
    "batch 32": Variant("batch size", ("train.batch_size=32",)),
    "batch 256": Variant("batch size", ("train.batch_size=256",)),
    "rank 2": Variant("rank of LoRA", ("backbone.lora.r=2", "backbone.lora.alpha=4")),
    "rank 32": Variant("rank of LoRA", ("backbone.lora.r=32", "backbone.lora.alpha=64")),
    "decay 0.01": Variant("weight decay of the adapter", ("train.nfa_weight_decay=0.01",)),
    "EMA 0.9": Variant("moving average of the weights", ("train.ema_decay=0.9",)),
    "planing": Variant("planing weights", ("train.decorrelate=planing",)),
}


def randomise(classifier: EventClassifier, seed: int) -> None:
    """Gives all frozen weights of the backbone but its norms the usual random values.

    They have the standard deviation that Llama starts from, 0.02 (transformers).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in classifier.language_model.named_parameters():
            if "lora_" not in name and weight.dim() > 1:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))


class PooledClassifier(EventClassifier):
    """Reads the mean of the last four layers with an MLP, not the label words with the last one.

    Args:
        backbone: the language model.
        nfa: makes soft tokens.
        label_tokens: token ids of the label words, which are not read.
    """

    def __init__(
        self, backbone: Backbone, nfa: NumericFusionAdapter, label_tokens: Sequence[int]
    ) -> None:
        super().__init__(backbone, nfa, label_tokens)
        causal = causal_model(backbone.model)
        size = causal.config.hidden_size
        self.head = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 64), nn.GELU(), nn.Linear(64, 1)
        )
        self._states: list[Tensor] = []
        for layer in causal.base_model.layers[-N_POOLED:]:
            layer.register_forward_hook(lambda _, __, found: self._states.append(found))

    def answer(self, prompts: PackedPrompts, inputs: ModelInputs) -> Tensor:
        """Returns logits of packed events, shape (B, 2); that of background is 0."""
        self.prepare_packing()  # runs the layers as well
        self._states.clear()
        super().answer(prompts, inputs)
        pooled = torch.stack(self._states).float().mean(dim=0).flatten(0, 1)
        signal = self.head(pooled[prompts.last_places]).squeeze(-1)
        return torch.stack([torch.zeros_like(signal), signal], dim=1)

    def nfa_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the weights of adapter and head, which learn at one rate."""
        head = {f"head.{name}": weight for name, weight in self.head.named_parameters()}
        return super().nfa_parameters() | head


def make_pooled(config: Config) -> tuple[EventClassifier, PromptEncoder]:
    """Makes the classifier of ``make_classifier`` with a pooled head."""
    backbone = load_backbone(config.backbone, config.seed)
    encoder, names = make_encoder(config), config.train.feature_names()
    causal = causal_model(backbone.model)
    torch.manual_seed(config.seed)
    nfa = NumericFusionAdapter(
        names,
        causal.config.hidden_size,
        embedding_rms(causal),
        config.fusion,
        reads_hypotheses=encoder.reads_hypotheses,
    )
    return PooledClassifier(backbone, nfa, encoder.label_tokens), encoder


@dataclass(frozen=True)
class Trained:
    """What a training leaves."""

    score: Floats
    seconds: float
    loss: float


def train_variant(
    variant: Variant, config: Config, data: TrainingData, test: ModelInputs
) -> Trained:
    """Trains one variant, and scores the test events."""
    classifier, encoder = make_pooled(config) if variant.pooled else make_classifier(config)
    if variant.random:
        randomise(classifier, config.seed)
    trainer = Trainer.fresh(classifier, encoder, data, TrainingPlan.of(config))
    if variant.frozen:
        for group in trainer.groups:
            group.set_trainable(group.name == "nfa")
        trainer = replace(trainer, groups=tuple(g for g in trainer.groups if g.name == "nfa"))
    if config.train.ema_decay is not None:
        weights = classifier.trained_parameters()
        trainer = replace(trainer, average=WeightAverage(weights, config.train.ema_decay))
    started = time.process_time()
    train_adapter_alone(trainer)
    losses = [trainer.step(step, measure=False).loss for step in range(trainer.total_steps)]
    seconds = time.process_time() - started
    classifier.eval()
    average = trainer.average
    with average.in_place() if average is not None else nullcontext():
        score = score_events(classifier, encoder, test, batch_size=None)
    return Trained(score, seconds, float(np.mean(losses[-10:])))


@click.group()
def main() -> None:
    """Trains variants of a recipe, and compares them."""


@main.command()
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--config", "file", type=click.Path(path_type=Path), help="The recipe.")
@click.option("--variants", help="Names, by semicolons; all by default.")
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--events", default=3000, show_default=True, help="Training events of both classes.")
@click.option("--test-events", default=3000, show_default=True)
@click.option("--set", "settings", multiple=True, help="Settings of all variants.")
def train(dataset: Path, output: Path, **options: Any) -> None:
    """Trains what is missing, one seed after the other."""
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    names = options["variants"].split(";") if options["variants"] else list(VARIANTS)
    for seed in map(int, options["seeds"].split(",")):
        for name in names:
            file = output / f"{name.replace('/', 'over').replace(' ', '-')}-{seed}.json"
            if file.exists():
                continue
            variant = VARIANTS[name]
            overrides = (*options["settings"], *variant.settings, f"seed={seed}")
            config = load_config(options["file"], overrides)
            data = _training_data(dataset, config, options["events"])
            test, inputs = _test_data(dataset, config, options["test_events"])
            found = train_variant(variant, config, data, inputs)
            tree = {
                "variant": name,
                "seed": seed,
                "recipe": [*options["settings"], f"{len(data.train)} training events"],
                "seconds": found.seconds,
                "loss": found.loss,
                "label": test.label.tolist(),
                "score": found.score.tolist(),
            }
            write_text(file, json.dumps(tree))
            area = _auc(test.label, found.score)
            click.echo(f"{name}, seed {seed}: AUC {area:.4f} after {found.seconds:.0f} s", err=True)


def _training_data(dataset: Path, config: Config, n_events: int) -> TrainingData:
    """Training events of a seed, as many of either class, shown with hypotheses."""
    opened, settings = read_dataset(dataset), config.train
    table = training_events(opened, settings, config.seed)
    order = np.random.default_rng([config.seed, 63]).permutation(len(table))[:n_events]
    m_jj = training_masses(opened, settings, config.seed)
    table, m_jj = table.take(order), None if m_jj is None else m_jj[order]
    validation = validation_events(opened, settings, 100, config.seed)
    return TrainingData(table, validation, truth=signal_truth(opened, table), m_jj=m_jj)


def _test_data(dataset: Path, config: Config, n_events: int) -> tuple[EventTable, ModelInputs]:
    """A third of signal, each event under its own hypothesis; the same for all trainings."""
    opened = read_dataset(dataset)
    table = opened.load(config.train.feature_names(), "test")
    random = np.random.default_rng(64)
    chosen = [
        random.permutation(np.flatnonzero(table.label == label))[:number]
        for label, number in ((1, n_events // 3), (0, n_events - n_events // 3))
    ]
    table = table.take(np.sort(np.concatenate(chosen)))
    own = assign_own(table, signal_truth(opened, table))
    return table, replace(model_inputs(table), hypothesis=own)


@main.command()
@click.argument("output", type=click.Path(exists=True, path_type=Path))
def table(output: Path) -> None:
    """Prints AUC and its difference to the recipe, and ensembles of the recipe's seeds."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for file in sorted(output.glob("*.json")):
        tree = json.loads(file.read_text())
        found.setdefault(tree["variant"], {})[tree["seed"]] = tree
    base = found[BASE]
    first = next(iter(base.values()))
    label = np.array(first["label"])
    click.echo(
        f"{', '.join(first['recipe'])}; N_s, N_b = {(label == 1).sum()}, {(label == 0).sum()}"
    )
    click.echo("\n| question | variant | seeds | AUC | difference | loss | CPU s |\n|" + "---|" * 7)
    for name in (name for name in VARIANTS if name in found):
        runs = found[name]
        shared = sorted(set(runs) & set(base))
        areas = [_auc(label, runs[seed]["score"]) for seed in shared]
        difference = ""
        if name != BASE:
            pairs = [(np.array(runs[s]["score"]), np.array(base[s]["score"])) for s in shared]
            difference = _difference(label, pairs)
        click.echo(
            f"| {VARIANTS[name].question} | {name} | {len(shared)} | {np.mean(areas):.4f} | "
            f"{difference} | {_mean(runs, 'loss'):.3f} | {_mean(runs, 'seconds'):.0f} |"
        )
    seeds = sorted(base)
    scores = np.array([base[seed]["score"] for seed in seeds])
    if len(seeds) > 1:
        joined = scores.mean(axis=0)
        pairs = [(joined, score) for score in scores]
        click.echo(
            f"| seed ensemble | mean logit of {len(seeds)} seeds | 1 | {_auc(label, joined):.4f} | "
            f"{_difference(label, pairs)} | | |"
        )


def _mean(runs: Mapping[int, Mapping[str, Any]], key: str) -> float:
    return float(np.mean([run[key] for run in runs.values()]))


def _auc(label: NDArray[np.int64], score: Any) -> float:
    value = auc(scored_events(np.asarray(score), label)).value
    return float("nan") if value is None else value


def _difference(label: NDArray[np.int64], pairs: list[tuple[Floats, Floats]]) -> str:
    """Mean over seeds of the paired difference, 95 % for other seeds and other test events."""
    values = np.array([_auc(label, one) - _auc(label, other) for one, other in pairs])
    random = np.random.default_rng(1)
    classes = [np.flatnonzero(label == one) for one in (0, 1)]
    draws = []
    for _ in range(N_REPLICAS):
        rows = np.concatenate([random.choice(one, len(one)) for one in classes])
        of = label[rows]
        draws.append(np.mean([_auc(of, a[rows]) - _auc(of, b[rows]) for a, b in pairs]))
    spread = 0.0
    if len(values) > 1:
        quantile = float(t.ppf(0.975, len(values) - 1))
        spread = quantile * float(values.std(ddof=1)) / np.sqrt(len(values))
    half = float(np.hypot(1.96 * np.std(draws), spread))
    return f"{values.mean():+.4f} ± {half:.4f}"


if __name__ == "__main__":
    main()
