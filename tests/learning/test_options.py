"""Options of a training: averages, patience, checkpoints, warm-up, rates of layers, losses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hepllm.config import Config
from hepllm.data.planing import planing_factors
from hepllm.errors import ConfigError, InputError, RunError
from hepllm.learning.averaging import WeightAverage
from hepllm.learning.checkpoint import best_checkpoint, load_weights, newest_checkpoint
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.loss_scale import loss_scaler
from hepllm.learning.losses import balanced_class_weights
from hepllm.learning.optimizers import build_groups
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events

Configure = Callable[..., Config]
Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]
Train = Callable[..., TrainingResult]
History = Callable[[Path, str], dict[int, float]]


def checkpoints(folder: Path) -> list[int]:
    return sorted(
        int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").glob("step-*")
    )


def test_an_average_against_its_formula() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.0]))
    average = WeightAverage({"w": weight}, decay=0.5)
    expected = 0.0
    for step, value in enumerate([1.0, -2.0, 4.0, 8.0, 0.5, 3.0, 7.0, 1.0, 2.0, 9.0], start=1):
        with torch.no_grad():
            weight.fill_(value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average.averages["w"]) == pytest.approx(expected, rel=1e-6)
    with average.in_place():
        assert float(weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(weight.detach()) == 9.0


def test_the_average_is_what_is_validated_and_loaded(
    *, tiny_config: Configure, data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    config = tiny_config("train.epochs=1", "train.ema_decay=0.9", "train.validations_per_epoch=1")
    made = make(config)
    train(made, data, config, tmp_path)
    rows = data.validation.features
    last = score_events(*made, ModelInputs(rows), batch_size=16)
    checkpoint = best_checkpoint(tmp_path / "checkpoints")
    validated = load_weights(checkpoint, made[0]).validations[0]
    averaged = score_events(*made, ModelInputs(rows), batch_size=16)
    assert np.abs(averaged - last).max() > 1e-3
    margins = np.where(data.validation.label == 1, averaged, -averaged)
    assert np.mean(np.logaddexp(0, -margins)) == pytest.approx(validated["loss"], rel=1e-5)
    load_weights(checkpoint, made[0], averaged=False)
    np.testing.assert_array_equal(score_events(*made, ModelInputs(rows), batch_size=16), last)
    text_only, _ = make(tiny_config("fusion.enabled=false"))
    with pytest.raises(InputError, match="saved with fusion on"):
        load_weights(checkpoint, text_only)


def test_it_ends_when_patience_does(
    *,
    tiny_config: Configure,
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config(
        "train.epochs=20",
        "train.patience=2",
        "train.validations_per_epoch=8",
        "train.checkpoint_every=1000",
    )
    with caplog.at_level(logging.INFO, logger="hepllm"):
        result = train(make(config), data, config, tmp_path)
    areas = [found["auc"] for found in result.validations]
    best = int(np.argmax(areas))
    assert len(areas) == best + 3
    assert result.steps == result.validations[-1]["step"] < 160
    assert f"stopping after step {result.steps}: no better AUC in 2 validations" in caplog.text
    assert checkpoints(tmp_path) == sorted({int(result.best["step"]), result.steps})
    # Resumed with the same patience it is over; with more it goes on.
    newest = newest_checkpoint(tmp_path / "checkpoints")
    again = fit(*make(config), data, TrainingPlan.of(config), folder=tmp_path, resume_from=newest)
    assert again.steps == result.steps
    patient = tiny_config("train.epochs=20", "train.patience=3", "train.validations_per_epoch=8")
    longer = fit(
        *make(patient), data, TrainingPlan.of(patient), folder=tmp_path, resume_from=newest
    )
    assert longer.steps > result.steps


def test_the_newest_checkpoints_and_the_best_stay(
    *, tiny_config: Configure, data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    config = tiny_config(
        "train.epochs=3",
        "train.checkpoint_every=3",
        "train.keep_checkpoints=4",
        "train.validations_per_epoch=1",
    )
    result = train(make(config), data, config, tmp_path)
    assert result.steps == 24
    best = int(result.best["step"])
    saved = checkpoints(tmp_path)
    assert best in saved
    assert set(saved) - {best} <= set(range(3, 25, 3)) | {8, 16}
    assert saved[-4:] == sorted({*range(3, 25, 3), best})[-4:]
    assert len(saved) <= 5
    assert best_checkpoint(tmp_path / "checkpoints").name == f"step-{best:06d}"


def test_the_best_is_found_again_when_the_power_went_before_it_was_marked(
    *, tiny_config: Configure, data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    config = tiny_config("train.epochs=1", "train.validations_per_epoch=1")
    train(make(config), data, config, tmp_path)
    (tmp_path / "checkpoints" / "best.json").unlink()
    newest = newest_checkpoint(tmp_path / "checkpoints")
    fit(*make(config), data, TrainingPlan.of(config), folder=tmp_path, resume_from=newest)
    assert best_checkpoint(tmp_path / "checkpoints") == newest


def test_the_connector_learns_first(
    *,
    tiny_config: Configure,
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    history: History,
) -> None:
    config = tiny_config(
        "train.epochs=4",
        "train.warmup_fusion_steps=12",
        "train.checkpoint_every=6",
        "train.keep_checkpoints=9",
    )
    made = make(config)
    assert made[0].nfa is not None
    lora, nfa = ({n: w.detach().clone() for n, w in g.items()} for g in groups_of(made[0]))
    train(made, data, config, tmp_path / "run")
    rates = history(tmp_path / "run", "lora/lr")
    assert [step for step, rate in rates.items() if rate == 0] == list(range(1, 13))
    assert all(weight.requires_grad for weight in made[0].lora_parameters().values())
    load_weights(tmp_path / "run" / "checkpoints" / "step-000012", made[0])
    new_lora, new_nfa = groups_of(made[0])
    assert all(torch.equal(new_lora[name], old) for name, old in lora.items())
    assert not torch.equal(new_nfa["mlp.0.weight"], nfa["mlp.0.weight"])
    # Resumed from within the warm-up, it is the same training.
    fresh = make(config)
    whole = history(tmp_path / "run", "train/loss")
    fit(
        *fresh,
        data,
        TrainingPlan.of(config),
        folder=tmp_path / "run",
        resume_from=tmp_path / "run" / "checkpoints" / "step-000006",
    )
    assert history(tmp_path / "run", "train/loss") == whole


def groups_of(classifier: EventClassifier) -> tuple[dict[str, torch.nn.Parameter], ...]:
    return classifier.lora_parameters(), classifier.nfa_parameters()


def test_a_warm_up_needs_an_adapter_and_steps_after_it(
    *, tiny_config: Configure, data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    with pytest.raises(ConfigError, match=r"needs fusion\.enabled"):
        tiny_config("train.warmup_fusion_steps=1", "fusion.enabled=false")
    config = tiny_config("train.epochs=1", "train.warmup_fusion_steps=8")
    with pytest.raises(InputError, match="leaves none of the 8 steps"):
        train(make(config), data, config, tmp_path)


def test_rates_fall_from_the_last_layer_to_the_first(tiny_config: Configure, make: Make) -> None:
    config = tiny_config("train.layerwise_lr_decay=0.5", "train.schedule=constant")
    classifier, _ = make(config)
    lora = build_groups(classifier, config.train)[0]
    for weight in lora.parameters.values():
        weight.grad = torch.ones_like(weight)
    before = {name: weight.detach().clone() for name, weight in lora.parameters.items()}
    lora.step(99, 100, loss_scaler(None, torch.device("cpu")), measure=True)
    moved = {name: (w.detach() - before[name]).abs() for name, w in lora.parameters.items()}
    for name, change in moved.items():  # the first step of Adam is the rate itself
        rate = config.train.lr * (1.0 if ".layers.1." in name else 0.5)
        torch.testing.assert_close(change, torch.full_like(change, rate), rtol=1e-2, atol=1e-6)
    order = [p for settings in lora.optimizer.param_groups for p in settings["params"]]
    assert [id(p) for p in order] == [id(p) for p in lora.parameters.values()]


def test_weights_without_a_layer_have_no_layerwise_rate(tiny_config: Configure, make: Make) -> None:
    config = tiny_config("train.layerwise_lr_decay=0.5")
    classifier, _ = make(config)
    classifier._lora["stray"] = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(RunError, match="no layer number in the name of stray"):
        build_groups(classifier, config.train)


def test_each_group_has_its_own_schedule(tiny_config: Configure, make: Make) -> None:
    config = tiny_config(
        "train.schedule=linear",
        "train.nfa_schedule=constant",
        "train.nfa_warmup_fraction=0.5",
        "train.weight_decay=0.1",
        "train.nfa_weight_decay=0.2",
    ).train
    lora, nfa = build_groups(make(tiny_config())[0], config)
    assert lora.schedule.share(55, 100) == pytest.approx(0.5)
    assert nfa.schedule.share(24, 100) == pytest.approx(0.5)
    assert nfa.schedule.share(99, 100) == 1
    assert [g.optimizer.param_groups[0]["weight_decay"] for g in (lora, nfa)] == [0.1, 0.2]
    both_alike = build_groups(make(tiny_config())[0], tiny_config("train.schedule=linear").train)
    assert both_alike[0].schedule == both_alike[1].schedule


@pytest.mark.parametrize(
    "extra",
    [
        ("train.loss.class_weights=balanced",),
        ("train.loss.focal_gamma=2", "train.loss.label_smoothing=0.1"),
        ("train.loss.r_drop=1", "fusion.dropout=0.2", "train.micro_batch_size=4"),
        ("fusion.per_jet=true", "fusion.n_tokens=2", "fusion.embedding=plain"),
        ("train.layerwise_lr_decay=0.8", "train.ema_decay=0.95", "train.nfa_schedule=linear"),
    ],
)
def test_it_learns_with_every_option(
    *,
    extra: Sequence[str],
    tiny_config: Configure,
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
) -> None:
    config = tiny_config("train.epochs=8", *extra)
    assert train(make(config), data, config, tmp_path).best["auc"] > 0.9


def test_r_drop_draws_two_masks(
    *,
    tiny_config: Configure,
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    history: History,
) -> None:
    for alpha in (0, 1_000_000):
        config = tiny_config(
            "train.epochs=0.13", "fusion.dropout=0.5", f"train.loss.r_drop={alpha}"
        )
        train(make(config), data, config, tmp_path / str(alpha))
    plain, dropped = (history(tmp_path / str(alpha), "train/loss")[1] for alpha in (0, 1_000_000))
    assert dropped > plain  # the divergence between equal masks would be exactly 0
    tokens = [history(tmp_path / str(a), "train/tokens_per_second")[1] for a in (0, 1_000_000)]
    events = [history(tmp_path / str(a), "train/events_per_second")[1] for a in (0, 1_000_000)]
    assert tokens[1] / events[1] == pytest.approx(2 * tokens[0] / events[0], rel=1e-6)


@pytest.fixture
def heavy(data: TrainingData) -> TrainingData:
    """Training events of which the signal is heavier, with m_jj."""
    m_jj = 3000 + 500.0 * data.train.label + np.linspace(0, 1500, len(data.train))
    return replace(data, m_jj=m_jj)


def test_planing_weights_count_in_the_loss(
    tiny_config: Configure, heavy: TrainingData, make: Make
) -> None:
    config = tiny_config("train.decorrelate=planing", "train.loss.class_weights=balanced")
    trainer = Trainer.fresh(*make(config), heavy, TrainingPlan.of(config))
    label, weight = heavy.train.label, heavy.train.weight
    factors = planing_factors(heavy.masses, label, weight)
    expected = weight * factors
    expected = expected * balanced_class_weights(label.astype(float), expected)
    np.testing.assert_allclose(trainer.event_weights, expected)


@pytest.mark.parametrize("micro_batch", [None, 8])
def test_the_dependence_of_background_on_m_jj_is_part_of_the_loss(
    *,
    micro_batch: int | None,
    tiny_config: Configure,
    heavy: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    history: History,
) -> None:
    losses = []
    for strength in (0, 3):
        config = tiny_config(
            "train.epochs=0.13",
            f"train.loss.disco={strength}",
            *([] if micro_batch is None else [f"train.micro_batch_size={micro_batch}"]),
        )
        folder = tmp_path / str(strength)
        train(make(config), heavy, config, folder)
        losses.append(history(folder, "train/loss")[1])
    assert 0.01 < losses[1] - losses[0] < 3


def test_a_decorrelation_without_masses_is_refused(
    tiny_config: Configure, data: TrainingData, make: Make
) -> None:
    config = tiny_config("train.decorrelate=planing")
    trainer = Trainer.fresh(*make(config), data, TrainingPlan.of(config))
    with pytest.raises(ValueError, match="needs the masses"):
        _ = trainer.event_weights
    with pytest.raises(ValueError, match="masses of shape"):
        replace(data, m_jj=np.ones(3))
