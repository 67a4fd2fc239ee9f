"""Optimizer groups: LoRA weights and NFA weights, each with its own optimizer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from hepllm.config import TrainConfig
from hepllm.errors import RunError
from hepllm.learning.schedule import RateSchedule
from hepllm.model.backbone import eight_bit_adamw, paged_eight_bit_adamw
from hepllm.model.classifier import EventClassifier

_BETAS = (0.9, 0.999)
_RATE_FACTOR = "rate_factor"
_LAYER = re.compile(r"\.layers\.(\d+)\.")


@dataclass
class OptimizerGroup:
    """A set of weights with its own optimizer and learning rate, and checks that it learns.

    Attributes:
        name: ``lora`` or ``nfa``.
        parameters: weights by name.
        optimizer: optimizer of these weights alone.
        peak_lr: largest learning rate of the schedule.
        schedule: schedule of the learning rate.
        clip_norm: norm down to which gradients are scaled.
        gradient_norm: norm before clipping, at the last step that was not skipped.
        update_ratio: norm of the last measured update over norm of the weights.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    peak_lr: float
    schedule: RateSchedule
    clip_norm: float
    gradient_norm: float = 0.0
    update_ratio: float = 0.0
    lr: float = 0.0
    _largest_gradient: float = field(default=0.0, repr=False)
    _largest_update: float = field(default=0.0, repr=False)
    _has_overflowed: bool = field(default=False, repr=False)

    def step(self, step: int, total_steps: int, scaler: GradScaler, *, measure: bool) -> None:
        """Updates the weights and drops their gradients.

        Args:
            step: steps already done.
            total_steps: steps of the whole training.
            scaler: scaler of the loss; if scaling made a gradient overflow, the step is skipped.
            measure: whether to compare the weights before and after, which copies them.

        Raises:
            RunError: if a gradient is not finite although the loss was not scaled.
        """
        if step < self.schedule.first_step:
            return
        weights = list(self.parameters.values())
        scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(weights, self.clip_norm))
        if math.isfinite(norm):
            self.gradient_norm = norm
            self._largest_gradient = max(self._largest_gradient, norm)
        elif scaler.is_enabled():
            self._has_overflowed = True
        else:
            raise RunError(f"the gradient of the {self.name} weights is {norm}: lower its rate")
        self.lr = self.schedule.share(step, total_steps) * self.peak_lr
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.lr * settings.get(_RATE_FACTOR, 1.0)
        before = [weight.detach().clone() for weight in weights] if measure else []
        if any(weight.grad is not None for weight in weights):  # the scaler needs at least one
            scaler.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        if measure:
            self.update_ratio = _relative_change(before, weights)
            self._largest_update = max(self._largest_update, self.update_ratio)

    def set_trainable(self, trainable: bool) -> None:
        """Freezes the weights, so that no gradient is computed for them, or unfreezes them."""
        if next(iter(self.parameters.values())).requires_grad != trainable:
            for weight in self.parameters.values():
                weight.requires_grad_(trainable)

    @property
    def weight_norm(self) -> float:
        """Euclidean norm of all weights of the group."""
        return _norm([weight.detach() for weight in self.parameters.values()])

    def check_learning(self) -> None:
        """Checks that the group learns.

        Checks the gradient too, because weight decay alone changes weights.

        Raises:
            RunError: if the group does not learn.
        """
        if self._largest_gradient == 0 and self._has_overflowed:
            raise RunError(
                f"every gradient of the {self.name} weights has overflowed float16 so far; "
                "set backbone.dtype to bfloat16 or float32"
            )
        if self._largest_gradient == 0:
            raise RunError(
                f"the {self.name} weights have received no gradient so far: "
                "they are not part of the model's computation"
            )
        if self._largest_update == 0:
            raise RunError(f"the {self.name} weights do not change although they have a gradient")


def build_groups(classifier: EventClassifier, config: TrainConfig) -> list[OptimizerGroup]:
    """Makes the optimizers.

    Raises:
        RunError: if a trainable weight belongs to no group.
    """
    lora = classifier.lora_parameters()
    nfa = classifier.nfa_parameters()
    covered = {id(weight) for weight in (*lora.values(), *nfa.values())}
    forgotten = [
        name
        for name, weight in classifier.named_parameters()
        if weight.requires_grad and id(weight) not in covered
    ]
    if forgotten:
        raise RunError(
            f"{len(forgotten)} trainable weights have no optimizer, such as {forgotten[0]}"
        )
    make = _LORA_OPTIMIZERS[lora_optimizer_name(config, classifier.device)]
    layers = _by_layer(lora, config.layerwise_lr_decay)
    optimizer = make(layers, lr=config.lr, betas=_BETAS, weight_decay=config.weight_decay)
    warmup = config.warmup_fraction
    schedule = RateSchedule(config.schedule, warmup, config.warmup_fusion_steps)
    groups = [OptimizerGroup("lora", lora, optimizer, config.lr, schedule, config.clip_norm)]
    if nfa:
        optimizer = torch.optim.AdamW(
            list(nfa.values()), lr=config.nfa_lr, betas=_BETAS, weight_decay=config.nfa_weight_decay
        )
        if config.nfa_warmup_fraction is not None:
            warmup = config.nfa_warmup_fraction
        schedule = RateSchedule(config.nfa_schedule or config.schedule, warmup)
        groups.append(
            OptimizerGroup("nfa", nfa, optimizer, config.nfa_lr, schedule, config.clip_norm)
        )
    return groups


def _by_layer(weights: Mapping[str, nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Makes parameter groups whose rates fall from the last layer to the first (arXiv:1801.06146).

    The weights keep their order, so that saved optimizer states fit any decay.
    """
    if decay == 1:
        return [{"params": list(weights.values())}]
    found = {name: _LAYER.search(name) for name in weights}
    if not all(found.values()):
        strange = next(name for name, match in found.items() if match is None)
        raise RunError(
            f"train.layerwise_lr_decay: no layer number in the name of {strange}; set it to 1"
        )
    layers = {name: int(match[1]) for name, match in found.items() if match is not None}
    last = max(layers.values())
    return [
        {"params": [weights[name] for name in names], _RATE_FACTOR: decay ** (last - layer)}
        for layer, names in groupby(weights, key=layers.__getitem__)
    ]


def lora_optimizer_name(
    config: TrainConfig, device: torch.device
) -> Literal["adamw", "adamw8bit", "paged_adamw8bit"]:
    """Names the optimizer of LoRA weights on a device; on a CPU 8-bit states only cost time."""
    if config.lora_optimizer == "auto":
        return "adamw" if device.type == "cpu" else "adamw8bit"
    return config.lora_optimizer


_LORA_OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adamw8bit": eight_bit_adamw,
    "paged_adamw8bit": paged_eight_bit_adamw,
}


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.float().norm() for tensor in tensors]).norm())


def _relative_change(before: list[Tensor], after: list[nn.Parameter]) -> float:
    change = _norm([new.detach() - old for old, new in zip(before, after, strict=True)])
    return change / max(_norm(before), 1e-12)
