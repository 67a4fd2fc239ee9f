"""All settings of one experiment, and the checks between sections."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from hepllm.config.audit import AuditConfig
from hepllm.config.cartography import CartographyConfig
from hepllm.config.clusters import ClustersConfig
from hepllm.config.evaluation import EvaluationConfig
from hepllm.config.flags import FlagsConfig
from hepllm.config.labelling import LabelConfig
from hepllm.config.learning import (
    TEXT_WITHOUT_NUMBERS,
    BackboneConfig,
    FusionConfig,
    Layout,
    PromptConfig,
    TrainConfig,
)
from hepllm.config.physics import PreprocessConfig, SimulateConfig
from hepllm.config.section import Form, Section, setting


class Config(Section):
    """All stages of one experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$"), Form("letters, digits and . _ -")] = (
        setting("hepllm", "Name of the experiment; a training goes to runs/<name>")
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = setting(
        1, "Seed of all random numbers except the splits, which have preprocess.splits.seed"
    )
    simulate: SimulateConfig = SimulateConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    backbone: BackboneConfig = BackboneConfig()
    prompt: PromptConfig = PromptConfig()
    fusion: FusionConfig = FusionConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cartography: CartographyConfig = CartographyConfig()
    flags: FlagsConfig = FlagsConfig()
    clusters: ClustersConfig = ClustersConfig()
    audit: AuditConfig = AuditConfig()
    label: LabelConfig = LabelConfig()

    @model_validator(mode="after")
    def _model_has_inputs(self) -> Self:
        layout = self.prompt_layout
        if not self.fusion.enabled and layout in TEXT_WITHOUT_NUMBERS:
            raise ValueError(f"prompt.layout '{layout}' contains no numbers; set fusion.enabled")
        unseen = set(self.prompt.features or ()) - set(self.train.feature_names())
        if unseen:
            names = ", ".join(sorted(unseen))
            raise ValueError(f"prompt.features must be among train.features; not there: {names}")
        if layout not in TEXT_WITHOUT_NUMBERS and not self.prompt_features():
            raise ValueError(
                "train.features has no feature that the registry marks for prompts: "
                "name some in prompt.features, or set prompt.layout: question"
            )
        return self

    @model_validator(mode="after")
    def _training_options_have_their_parts(self) -> Self:
        fusion_dropout = self.fusion.enabled and self.fusion.dropout
        if self.train.loss.r_drop and not (self.backbone.lora.dropout or fusion_dropout):
            raise ValueError(
                "train.loss.r_drop compares two dropout masks, and there is no dropout: "
                "set backbone.lora.dropout or fusion.dropout"
            )
        if self.train.examples.most:
            self._check_examples()
        if self.train.nfa_alone.epochs and not self.fusion.enabled:
            raise ValueError("train.nfa_alone needs fusion.enabled to train the adapter")
        if self.train.warmup_fusion_steps and not self.fusion.enabled:
            raise ValueError("train.warmup_fusion_steps needs fusion.enabled to train the adapter")
        return self

    def _check_examples(self) -> None:
        if self.prompt_layout != "question":
            raise ValueError(
                "train.examples needs events that share what stands before them: "
                "set prompt.layout: question"
            )
        if self.prompt.chat_template:
            raise ValueError(
                "train.examples: a chat template shows one event: set prompt.chat_template: false"
            )
        if self.train.hypothesis.enabled is False:
            raise ValueError(
                "train.examples says which of several signals is meant: "
                "set train.hypothesis.enabled: auto"
            )

    @property
    def prompt_layout(self) -> Layout:
        """Layout of the prompt, with ``auto`` resolved."""
        return self.prompt.chosen_layout(self.fusion)

    def with_layout(self) -> Self:
        """The same settings with ``prompt.layout: auto`` resolved, as a run folder keeps them."""
        chosen = self.prompt.model_copy(update={"layout": self.prompt_layout})
        return self.model_copy(update={"prompt": chosen})

    def prompt_features(self) -> tuple[str, ...]:
        """The features that the prompt prints, in registry order."""
        return self.prompt.printed_features(self.train.feature_names(), self.fusion)
