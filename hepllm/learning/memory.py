"""Decides how a training uses its device: the fastest setting that fits into the memory budget.

``memory.json`` in the run folder records the decision. A resumed training uses it again, because
sums over other micro-batches round differently, and its losses must repeat those of an unbroken
training.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from hepllm.errors import InputError
from hepllm.files import write_text
from hepllm.learning.budget import Batch, Budget, MemoryChoice, dropout_mask_bytes, training_needs
from hepllm.learning.capacity import device_capacity
from hepllm.learning.distributed import ALONE, Team
from hepllm.learning.example_prompts import most_tokens
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.presentation import Presentation
from hepllm.learning.steps import TrainingData
from hepllm.model.backbone import causal_model, set_checkpointing
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.footprint import (
    ActivationModel,
    Weights,
    activation_model,
    attention_kernel,
    count_weights,
)
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts
from hepllm.model.prefix import obstacle_to_sharing

LOG = logging.getLogger(__name__)

_SAMPLE = 256
"""Events whose prompts are measured."""
_FILE = "memory.json"


@dataclass(frozen=True)
class SettledMemory:
    """How a training uses its device: ``setting`` by ``budget``, also in ``plan``."""

    plan: TrainingPlan
    budget: Budget
    setting: MemoryChoice

    def write(self, folder: Path) -> None:
        """Records the decision in a run folder."""
        budget, setting = self.budget, self.setting
        tree = {
            "micro_batch_size": setting.micro_batch,
            "checkpointing": setting.checkpointing,
            "memory_limit_gib": self.plan.train.memory_limit_gib,
            "predicted_bytes": {
                "weights": budget.needs.weights.total,
                "lora": budget.needs.lora,
                "adapter": budget.needs.adapter,
                "averages": budget.needs.average,
                "activations": budget.activations(setting),
                "total": budget.total(setting),
                "usable": budget.capacity.usable,
            },
        }
        write_text(folder / _FILE, json.dumps(tree, indent=1) + "\n")


def _read_setting(folder: Path, limit_gib: float | None) -> MemoryChoice | None:
    """Returns the recorded setting; None without a record, or if the memory limit has changed."""
    file = folder / _FILE
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        setting = MemoryChoice(int(tree["micro_batch_size"]), bool(tree["checkpointing"]))
        limit = tree["memory_limit_gib"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not readable: {error!r}; remove it to choose again") from None
    return setting if limit == limit_gib else None


def settle_memory(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    data: TrainingData,
    plan: TrainingPlan,
    *,
    team: Team = ALONE,
    earlier: Path | None = None,
) -> SettledMemory:
    """Decides how to use the device, logs the memory budget, and switches gradient checkpointing.

    The processes of ``team`` share each batch and, on CPUs, their machine's memory. ``earlier`` is
    the run folder of a resumed training, whose setting is used again if it fits.

    Raises:
        InputError: if no setting fits, or the record is broken.
    """
    budget = training_budget(classifier, encoder, data, plan, team=team)
    kept = None if earlier is None else _read_setting(earlier, plan.train.memory_limit_gib)
    micro_batch, checkpointing = plan.train.micro_batch_size, plan.backbone.gradient_checkpointing
    setting, fits, origin = _decide(kept, budget, micro_batch, checkpointing)
    if team.is_first:
        LOG.info("%s", budget.table(setting))
        LOG.info("using %s: %s", setting, origin)
    if not fits:
        LOG.warning(
            "the budget predicts %.2f GiB, and only %.2f may be used: if the training runs out of "
            "memory, let the budget choose with --set train.micro_batch_size=null "
            "--set backbone.gradient_checkpointing=auto",
            budget.total(setting) / 2**30,
            budget.capacity.usable / 2**30,
        )
    set_checkpointing(classifier.language_model, enabled=setting.checkpointing)
    plan = replace(plan, setting=setting)
    n_scored = budget.batch.n_scored
    if n_scored < min(encoder.events_at_once, len(data.validation)):
        evaluation = plan.evaluation.model_copy(update={"batch_size": n_scored})
        plan = replace(plan, evaluation=evaluation)
    return SettledMemory(plan, budget, setting)


def training_budget(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    data: TrainingData,
    plan: TrainingPlan,
    *,
    team: Team = ALONE,
) -> Budget:
    """Counts a loaded model and measures its prompts; switches gradient checkpointing off.

    The arguments are those of ``settle_memory``.
    """
    shape = classifier_shape(classifier, plan.backbone.lora.dropout)
    set_checkpointing(classifier.language_model, enabled=False)  # it would prevent sharing
    batch = replace(
        measured_batch(classifier, encoder, _sample(data, plan), shape, training=True),
        n_events=-(-min(plan.train.batch_size, len(data.train)) // team.size),
        passes=2 if plan.train.loss.r_drop else 1,
        n_scored=min(plan.evaluation.batch_size or encoder.events_at_once, len(data.validation)),
    )
    if plan.train.examples.most:
        longer = most_tokens(encoder, plan.train.examples)
        batch = replace(
            batch, n_tokens=batch.n_tokens + longer, n_question=batch.n_question + longer
        )
    adapter = [] if classifier.nfa is None else list(classifier.nfa.state_dict().values())
    needs = training_needs(
        frozen_weights(classifier, shape),
        shape,
        classifier.lora_parameters().values(),
        adapter,
        plan.train,
    )
    limit = plan.train.memory_limit_gib
    capacity = device_capacity(
        classifier.device, limit, n_sharing=team.local_size, uses_nccl=team.uses_gpus
    )
    budget = Budget(capacity, needs, batch)
    if plan.evaluation.batch_size is None:
        batch = replace(batch, n_scored=budget.scored_at_once(batch.n_scored))
    return replace(budget, batch=batch)


def frozen_weights(classifier: EventClassifier, shape: ActivationModel) -> Weights:
    """Counts the weights of a classifier's language model without LoRA."""
    model = classifier.language_model
    return count_weights((*model.named_parameters(), *model.named_buffers()), shape.element)


def measured_batch(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    sample: ModelInputs,
    shape: ActivationModel,
    *,
    training: bool = False,
) -> Batch:
    """Measures the prompts of some events, and asks how they are attended to.

    Args:
        classifier: the model; a training needs it with gradient checkpointing switched off.
        encoder: encoder of its prompts.
        sample: the events.
        shape: of the language model.
        training: whether gradients are computed.

    Returns:
        A batch of these events, all of which are scored at once.
    """
    prompts = encoder.encode(sample)
    if isinstance(prompts, PackedPrompts):
        classifier.prepare_packing()
    causal = causal_model(classifier.language_model)
    kernels = [
        attention_kernel(
            shape,
            causal.config._attn_implementation,
            classifier.autocast_dtype or torch.float32,
            classifier.device,
            is_masked=is_masked,
        )
        for is_masked in (False, True)
    ]
    batch = Batch(
        n_events=len(sample),
        n_tokens=prompts.n_tokens_of_event,
        attention=kernels[0],
        passes=1,
        n_scored=len(sample),
        masked_attention=kernels[1],
        particle_bytes=bytes_of_particles(classifier, sample),
    )
    if isinstance(prompts, PackedPrompts):
        n_alike = -(-len(prompts.last_places) // prompts.n_questions)
        return replace(batch, n_question=prompts.longest_question, n_alike=n_alike)
    if training and obstacle_to_sharing(causal, training=True) is None:
        return replace(batch, n_shared=prompts.n_shared)
    return batch


def bytes_of_particles(classifier: EventClassifier, sample: ModelInputs) -> int:
    """Measures what the encoder of particles keeps of an event until its backward pass.

    Gradient checkpointing of the language model does not change it.

    Args:
        classifier: the model.
        sample: some events.

    Returns:
        Bytes; 0 for a model that reads no particles.
    """
    if classifier.nfa is None or classifier.nfa.particles is None:
        return 0
    encoder, kept = classifier.nfa.particles, dict[int, int]()
    own = {weight.untyped_storage().data_ptr() for weight in encoder.state_dict().values()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        tokens = encoder.encode(sample)
    del tokens
    return sum(kept.values()) // len(sample)


def _sample(data: TrainingData, plan: TrainingPlan) -> ModelInputs:
    """Returns events whose prompts are measured; those of a step where they have hypotheses."""
    if data.truth is None:
        return data.inputs.take(slice(_SAMPLE))
    first = Presentation(data.train, plan.train, plan.seed, data.truth).step(0)
    return data.inputs_of(first.take(slice(_SAMPLE)))


def classifier_shape(classifier: EventClassifier, lora_dropout: float) -> ActivationModel:
    """Returns the shape of a classifier's language model."""
    dtype = classifier.autocast_dtype
    element = 4 if dtype is None else dtype.itemsize
    causal = causal_model(classifier.language_model)
    return activation_model(
        causal.config,
        classifier.lora_parameters(),
        element=element,
        dropout_mask=dropout_mask_bytes(classifier.device, element, lora_dropout),
        normalizes_heads=any(name.endswith(".q_norm") for name, _ in causal.named_modules()),
    )


def _decide(
    kept: MemoryChoice | None,
    budget: Budget,
    micro_batch: int | None,
    checkpointing: Literal["auto"] | bool,
) -> tuple[MemoryChoice, bool, str]:
    """Returns the setting, whether it should fit, and the reason for the choice."""
    choices = budget.settings(micro_batch, checkpointing)
    n_fitting = sum(map(budget.fits, choices))
    if kept is not None:
        kept = MemoryChoice(
            kept.micro_batch if micro_batch is None else micro_batch,
            kept.checkpointing if checkpointing == "auto" else checkpointing,
        )
        if budget.fits(kept) or micro_batch is not None or not n_fitting:
            return kept, budget.fits(kept), "as this training began"
        LOG.warning(
            "%s, as this training began, no longer fit: with another setting, losses round "
            "differently",
            kept,
        )
    setting, fits = budget.choose(micro_batch, checkpointing)
    if len(choices) == 1:
        return setting, fits, "as the configuration says"
    return setting, fits, f"the fastest of {n_fitting} settings that fit, of {len(choices)}"
