"""The two optimizer groups: LoRA weights and NFA weights, each with its own optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hepllm.config import TrainConfig
from hepllm.errors import RunError
from hepllm.model.backbone import eight_bit_adamw
from hepllm.model.classifier import EventClassifier

_BETAS = (0.9, 0.999)


@dataclass
class OptimizerGroup:
    """One set of weights with its own optimizer, learning rate and health.

    Attributes:
        name: ``lora`` or ``nfa``.
        parameters: the weights by name.
        optimizer: updates them and nothing else.
        peak_lr: top of the learning-rate schedule.
        clip_norm: gradients are scaled down to this norm.
        gradient_norm: before clipping, at the last step.
        update_ratio: norm of the last measured update over norm of the weights.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    peak_lr: float
    clip_norm: float
    gradient_norm: float = 0.0
    update_ratio: float = 0.0
    lr: float = 0.0
    _largest_gradient: float = field(default=0.0, repr=False)
    _largest_update: float = field(default=0.0, repr=False)

    def step(self, schedule: float, *, measure: bool) -> None:
        """Updates the weights and forgets their gradients.

        Args:
            schedule: share of the peak learning rate.
            measure: whether to compare the weights before and after, which copies them.

        Raises:
            RunError: if a gradient is not finite.
        """
        weights = list(self.parameters.values())
        norm = nn.utils.clip_grad_norm_(weights, self.clip_norm)
        self.gradient_norm = float(norm)
        if not torch.isfinite(norm):
            msg = f"the gradient of the {self.name} weights is {float(norm)}: lower its rate"
            raise RunError(msg)
        self._largest_gradient = max(self._largest_gradient, self.gradient_norm)
        self.lr = schedule * self.peak_lr
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.lr
        before = [weight.detach().clone() for weight in weights] if measure else []
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if measure:
            self.update_ratio = _relative_change(before, weights)
            self._largest_update = max(self._largest_update, self.update_ratio)

    @property
    def weight_norm(self) -> float:
        """Euclidean norm of all the group's weights."""
        return _norm([weight.detach() for weight in self.parameters.values()])

    def check_learning(self) -> None:
        """Stops a training in which this group does not learn.

        Weight decay alone moves weights, so a moving weight is no proof; the gradient is.

        Raises:
            RunError: naming the group.
        """
        if self._largest_gradient == 0:
            msg = (
                f"the {self.name} weights have received no gradient so far: "
                "they are not part of the model's computation"
            )
            raise RunError(msg)
        if self._largest_update == 0:
            msg = f"the {self.name} weights do not move although they receive a gradient"
            raise RunError(msg)


def build_groups(classifier: EventClassifier, config: TrainConfig) -> list[OptimizerGroup]:
    """Makes the optimizers; call it after PEFT has wrapped the model.

    Raises:
        RunError: if a trainable weight would belong to no group.
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
        msg = f"{len(forgotten)} trainable weights have no optimizer, such as {forgotten[0]}"
        raise RunError(msg)
    groups = [
        OptimizerGroup(
            name="lora",
            parameters=lora,
            optimizer=_lora_optimizer(config)(
                list(lora.values()), lr=config.lr, betas=_BETAS, weight_decay=config.weight_decay
            ),
            peak_lr=config.lr,
            clip_norm=config.clip_norm,
        )
    ]
    if nfa:
        groups.append(
            OptimizerGroup(
                name="nfa",
                parameters=nfa,
                optimizer=torch.optim.AdamW(
                    list(nfa.values()),
                    lr=config.nfa_lr,
                    betas=_BETAS,
                    weight_decay=config.nfa_weight_decay,
                ),
                peak_lr=config.nfa_lr,
                clip_norm=config.clip_norm,
            )
        )
    return groups


def _lora_optimizer(config: TrainConfig) -> Callable[..., torch.optim.Optimizer]:
    """8-bit states save memory on a GPU; on a CPU they only cost time."""
    use_8bit = config.lora_optimizer == "adamw8bit" or (
        config.lora_optimizer == "auto" and torch.cuda.is_available()
    )
    return eight_bit_adamw if use_8bit else torch.optim.AdamW


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.float().norm() for tensor in tensors]).norm())


def _relative_change(before: list[Tensor], after: list[nn.Parameter]) -> float:
    change = _norm([new.detach() - old for old, new in zip(before, after, strict=True)])
    return change / max(_norm(before), 1e-12)
