"""Checkpoints: a folder of safetensors and JSON, written aside and renamed.

    step-000120/  adapter_model.safetensors  adapter_config.json (LoRA weights, as PEFT has them)
                  nfa.safetensors  optimizer-<group>.safetensors  state.json
                  average.safetensors, with ``train.ema_decay``
                  dynamics.parquet, with ``train.dynamics``

A checkpoint needs no more: the order of events, the learning rates and the random numbers of a
step are functions of the seed and the step.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import AdamW

from hepllm.errors import InputError
from hepllm.files import write_aside, write_text
from hepllm.learning.averaging import WeightAverage
from hepllm.learning.optimizers import OptimizerGroup
from hepllm.model.backbone import load_lora_state, lora_settings, lora_state
from hepllm.model.classifier import EventClassifier

LOG = logging.getLogger(__name__)

_FORMAT = 1
_BEST = "best.json"
_AVERAGE = "average.safetensors"
_LORA, _LORA_SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_FORMER_LORA = "lora.safetensors"
"""Name of the LoRA weights in checkpoints of former versions."""


MERIT = "merit"
"""What a validation is judged by where that is not its AUC; larger is better."""


def merit(found: Mapping[str, float]) -> float:
    """How good a validation is: its AUC, unless ``train.choose_by`` says otherwise."""
    return found.get(MERIT, found["auc"])


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: optimizer steps done.
        validations: results of each validation, oldest first.
    """

    step: int
    validations: tuple[Mapping[str, float], ...] = ()

    @property
    def best(self) -> Mapping[str, float] | None:
        """The best validation, the first of equals; None before the first."""
        return max(self.validations, key=merit, default=None)

    @property
    def is_best(self) -> bool:
        """Whether this step was validated and is the best so far."""
        return self.best is not None and self.best["step"] == self.step

    @property
    def is_validated(self) -> bool:
        """Whether this step was validated."""
        return bool(self.validations) and self.validations[-1]["step"] == self.step

    @property
    def validations_since_best(self) -> int:
        """Number of validations after the best one."""
        best = self.best
        return 0 if best is None else sum(one["step"] > best["step"] for one in self.validations)


def save_checkpoint(
    folder: Path,
    classifier: EventClassifier,
    groups: Sequence[OptimizerGroup],
    progress: Progress,
    *,
    keep: int = 1,
    average: WeightAverage | None = None,
    scaler: GradScaler | None = None,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Writes a checkpoint below ``folder`` and removes those no longer needed.

    Args:
        folder: folder of the run's checkpoints.
        classifier: LoRA and NFA weights to save.
        groups: optimizer states to save.
        progress: if its last validation is the best one, the checkpoint becomes the best.
        keep: newest checkpoints to keep, in addition to the best one.
        average: moving average to save.
        scaler: loss scale to save.
        beside: writes what else belongs to the checkpoint into its folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _name(progress.step)
    for unfinished in folder.glob(".step-*.partial"):  # left by a process that was killed
        shutil.rmtree(unfinished)
    loss_scale = {} if scaler is None else scaler.state_dict()
    with write_aside(target, durable=True) as aside:
        aside.mkdir()
        _write(aside, classifier, groups, progress, average, loss_scale=loss_scale)
        if beside is not None:
            beside(aside)
    if progress.is_best:
        mark_best(folder, progress)
    best = best_checkpoint(folder).name if (folder / _BEST).exists() else None
    for checkpoint in sorted(folder.glob("step-*"), key=step_of)[:-keep]:
        if checkpoint.name != best:
            shutil.rmtree(checkpoint)
    return target


def _write(
    folder: Path,
    classifier: EventClassifier,
    groups: Sequence[OptimizerGroup],
    progress: Progress,
    average: WeightAverage | None,
    *,
    loss_scale: Mapping[str, Any],
) -> None:
    save_file(lora_state(classifier.language_model), folder / _LORA)
    settings = json.dumps(lora_settings(classifier.language_model), indent=1)
    (folder / _LORA_SETTINGS).write_text(settings, encoding="utf-8")
    if classifier.nfa is not None:
        save_file(_contiguous(classifier.nfa.stored()), folder / "nfa.safetensors")
    if average is not None:
        save_file(_contiguous(average.averages), folder / _AVERAGE)
    scalars: dict[str, dict[str, Any]] = {}
    for group in groups:
        tensors, scalars[group.name] = _flatten(group.optimizer.state_dict()["state"])
        save_file(tensors, folder / f"optimizer-{group.name}.safetensors")
    state = {
        "format": _FORMAT,
        "step": progress.step,
        "validations": [dict(validation) for validation in progress.validations],
        "label_tokens": list(classifier.label_tokens),
        "has_nfa": classifier.nfa is not None,
        "has_average": average is not None,
        "optimizer_scalars": scalars,
        "loss_scale": dict(loss_scale),
        "precision": _precision(classifier),
    }
    (folder / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")


def mark_best(folder: Path, progress: Progress) -> None:
    """Records which checkpoint is the best, if that checkpoint exists.

    A training may be killed after it wrote the checkpoint and before it recorded this.
    """
    if progress.best is not None:
        name = _name(int(progress.best["step"]))
        if (folder / name).is_dir():
            write_text(folder / _BEST, json.dumps({"checkpoint": name}), durable=True)


def best_checkpoint(folder: Path) -> Path:
    """Returns the checkpoint with the best validation.

    Raises:
        InputError: if there is none.
    """
    try:
        name = json.loads((folder / _BEST).read_text(encoding="utf-8"))["checkpoint"]
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no checkpoint here that was validated ({_BEST} is missing); train first"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / _BEST}: not readable: {error}") from None
    return folder / Path(name).name


def best_validation(folder: Path) -> Mapping[str, float]:
    """Returns what the best validation has found, of the checkpoints in a folder.

    Raises:
        InputError: if there is none.
    """
    validations = _read_state(best_checkpoint(folder))["validations"]
    return max(validations, key=merit)


def newest_checkpoint(folder: Path) -> Path | None:
    """Returns the checkpoint with most steps, or None before the first."""
    return max(folder.glob("step-*"), default=None, key=step_of)


def load_weights(
    checkpoint: Path, classifier: EventClassifier, *, averaged: bool = True
) -> Progress:
    """Loads LoRA and NFA weights.

    Args:
        checkpoint: folder of the checkpoint.
        classifier: classifier of the same kind.
        averaged: load the moving average if there is one, which was validated; a training
            continues from the weights themselves.

    Raises:
        InputError: if a file is missing, broken, or does not fit the model.
    """
    state = _read_state(checkpoint)
    if state["has_nfa"] != (classifier.nfa is not None):
        raise InputError(f"{checkpoint}: saved with fusion {'on' if state['has_nfa'] else 'off'}")
    if tuple(state["label_tokens"]) != classifier.label_tokens:
        raise InputError(
            f"{checkpoint}: its label words have other tokens; the tokenizer has changed"
        )
    former = checkpoint / _FORMER_LORA
    lora = former if former.exists() else checkpoint / _LORA
    load_lora_state(classifier.language_model, _read_tensors(lora))
    if classifier.nfa is not None:
        weights = _read_tensors(checkpoint / "nfa.safetensors")
        try:
            classifier.nfa.load_stored(weights)
        except RuntimeError as error:
            raise InputError(
                f"{checkpoint}: the adapter does not fit: {' '.join(str(error).split())[:300]}"
            ) from None
    if averaged and state.get("has_average"):
        average = WeightAverage(classifier.trained_parameters(), decay=0.5)
        load_average(checkpoint, average)
        average.put_in_place()
    return Progress(int(state["step"]), tuple(state["validations"]))


def load_optimizers(checkpoint: Path, groups: Sequence[OptimizerGroup]) -> None:
    """Loads optimizer states, 8-bit ones included.

    Raises:
        InputError: if a file is missing or broken, or is of another kind of optimizer.
    """
    scalars = _read_state(checkpoint)["optimizer_scalars"]
    for group in groups:
        file = checkpoint / f"optimizer-{group.name}.safetensors"
        state = _unflatten(_read_tensors(file), scalars[group.name])
        is_8bit = not isinstance(group.optimizer, AdamW)
        if any(("exp_avg" in of_weight) == is_8bit for of_weight in state.values()):
            saved, here = ("32-bit", "8-bit") if is_8bit else ("8-bit", "32-bit")
            raise InputError(
                f"{file}: holds {saved} AdamW states, but this training needs {here} states; "
                "use the train.lora_optimizer and the kind of device that it began with"
            )
        settings = group.optimizer.state_dict()["param_groups"]
        group.optimizer.load_state_dict({"state": state, "param_groups": settings})


def warn_of_precision(checkpoint: Path, classifier: EventClassifier) -> None:
    """Warns if a training continues in another precision, as on another kind of processor."""
    saved, here = _read_state(checkpoint).get("precision"), _precision(classifier)
    if saved is not None and saved != here:
        LOG.warning(
            "%s was trained in %s and continues in %s: its losses will differ from those of an "
            "unbroken training; to keep the precision, set backbone.dtype=%s",
            checkpoint,
            saved,
            here,
            saved,
        )


def _precision(classifier: EventClassifier) -> str:
    return str(classifier.autocast_dtype or torch.float32).removeprefix("torch.")


def load_loss_scale(checkpoint: Path, scaler: GradScaler) -> None:
    """Loads a saved loss scale; without one, the scale starts from its initial value."""
    saved = _read_state(checkpoint).get("loss_scale")
    if saved and scaler.is_enabled():
        scaler.load_state_dict(saved)


def load_average(checkpoint: Path, average: WeightAverage) -> None:
    """Loads a saved moving average; without one, the average starts from the weights.

    Raises:
        InputError: if the file is missing, broken, or does not fit the model.
    """
    if not _read_state(checkpoint).get("has_average"):
        return
    try:
        average.load(_read_tensors(checkpoint / _AVERAGE))
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{checkpoint / _AVERAGE}: does not fit the model: {error}") from None


def _read_state(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "state.json"
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{file}: missing; the checkpoint is not complete") from None
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise InputError(f"{file}: not a checkpoint of format {_FORMAT}")
    return state


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError:
        raise InputError(f"{file}: missing; the checkpoint is not complete") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not readable: {error}") from None


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def _flatten(
    state: Mapping[Any, Any], prefix: str = ""
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Splits a nested optimizer state into tensors and plain numbers, by path."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for key, value in state.items():
        path = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            inner_tensors, inner_scalars = _flatten(value, path)
            tensors |= inner_tensors
            scalars |= inner_scalars
        elif isinstance(value, Tensor):
            # Weights share quantisation maps, and the file format refuses shared tensors.
            tensors[path] = value.detach().clone().contiguous()
        else:
            scalars[path] = value
    return tensors, scalars


def _unflatten(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> dict[int, Any]:
    state: dict[int, Any] = {}
    for path, value in (*tensors.items(), *scalars.items()):
        first, *keys = path.split("/")
        node = state.setdefault(int(first), {})
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = value
    return state


def _name(step: int) -> str:
    return f"step-{step:06d}"


def step_of(checkpoint: Path) -> int:
    """Optimizer steps that were done at a checkpoint."""
    return int(checkpoint.name.removeprefix("step-"))
