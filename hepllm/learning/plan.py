"""The settings of a training, with the decision how it uses its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hepllm.config import BackboneConfig, Config, EvaluationConfig, TrainConfig, settings_by_path
from hepllm.learning.budget import MemoryChoice

_HYPER_PARAMETERS = ("seed", "backbone.", "prompt.", "fusion.", "train.")


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of a training.

    Attributes:
        train: settings of the optimisation.
        backbone: settings of the language model for the memory budget.
        evaluation: batch size and least background of a validation.
        seed: seed of all random numbers.
        setting: micro-batch and checkpointing from ``settle_memory``; None uses
            ``train.micro_batch_size``, or whole batches.
        shown: all settings of the model and its training by path, for TensorBoard.
    """

    train: TrainConfig
    backbone: BackboneConfig
    evaluation: EvaluationConfig
    seed: int
    setting: MemoryChoice | None = None
    shown: Mapping[str, int | float | str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> TrainingPlan:
        """Returns the plan of an experiment, with nothing decided yet."""
        shown = {
            path: value if isinstance(value, int | float) else str(value)
            for path, value in settings_by_path(config).items()
            if path.startswith(_HYPER_PARAMETERS)
        }
        return cls(config.train, config.backbone, config.evaluation, config.seed, shown=shown)

    @property
    def micro_batch(self) -> int | None:
        """Events in memory at once; None for all of a batch."""
        return self.train.micro_batch_size if self.setting is None else self.setting.micro_batch

    @property
    def hyper_parameters(self) -> Mapping[str, int | float | str]:
        """The shown settings, with the decided ones in place of ``null`` and ``auto``."""
        if self.setting is None:
            return self.shown
        return {
            **self.shown,
            "train.micro_batch_size": self.setting.micro_batch,
            "backbone.gradient_checkpointing": self.setting.checkpointing,
        }
