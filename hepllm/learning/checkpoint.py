"""Checkpoints: a folder of safetensors and JSON, written aside and renamed.

    step-000120/  lora.safetensors  nfa.safetensors  optimizer-<group>.safetensors  state.json

Nothing else need be kept: the order of events, the learning rates and the random numbers of a
step are functions of the seed and the step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hepllm.errors import InputError
from hepllm.learning.optimizers import OptimizerGroup
from hepllm.model.backbone import load_lora_state, lora_state
from hepllm.model.classifier import EventClassifier

_FORMAT = 1
_BEST = "best.json"


@dataclass(frozen=True)
class Progress:
    """How far a training has come.

    Attributes:
        step: optimizer steps done.
        validations: what each validation so far has found, oldest first.
    """

    step: int
    validations: tuple[Mapping[str, float], ...] = ()


def save_checkpoint(
    folder: Path,
    classifier: EventClassifier,
    groups: Sequence[OptimizerGroup],
    progress: Progress,
    *,
    is_best: bool,
) -> Path:
    """Writes a checkpoint below ``folder`` and removes those no longer needed.

    The newest and the best one stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step-{progress.step:06d}"
    aside = folder / f".{name}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    save_file(lora_state(classifier.language_model), aside / "lora.safetensors")
    if classifier.nfa is not None:
        save_file(_contiguous(classifier.nfa.state_dict()), aside / "nfa.safetensors")
    scalars: dict[str, dict[str, Any]] = {}
    for group in groups:
        tensors, scalars[group.name] = _flatten(group.optimizer.state_dict()["state"])
        save_file(tensors, aside / f"optimizer-{group.name}.safetensors")
    state = {
        "format": _FORMAT,
        "step": progress.step,
        "validations": [dict(validation) for validation in progress.validations],
        "label_tokens": list(classifier.label_tokens),
        "has_nfa": classifier.nfa is not None,
        "optimizer_scalars": scalars,
    }
    (aside / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    if is_best:
        _write_json(folder / _BEST, {"checkpoint": name})
    _remove_all_but(folder, {name, best_checkpoint(folder).name})
    return target


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint that did best on validation data.

    Raises:
        InputError: if there is none.
    """
    try:
        name = json.loads((folder / _BEST).read_text(encoding="utf-8"))["checkpoint"]
    except FileNotFoundError:
        msg = f"{folder}: no checkpoint here ({_BEST} is missing); train first"
        raise InputError(msg) from None
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{folder / _BEST}: not readable: {error}"
        raise InputError(msg) from None
    return folder / Path(name).name


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with most steps, or None before the first."""
    return max(folder.glob("step-*"), default=None, key=lambda path: path.name)


def load_weights(checkpoint: Path, classifier: EventClassifier) -> Progress:
    """Puts LoRA and NFA weights in place.

    Raises:
        InputError: if a file is missing, broken, or does not fit the model.
    """
    state = _read_state(checkpoint)
    if state["has_nfa"] != (classifier.nfa is not None):
        msg = f"{checkpoint}: saved with fusion {'on' if state['has_nfa'] else 'off'}"
        raise InputError(msg)
    if tuple(state["label_tokens"]) != classifier.label_tokens:
        msg = f"{checkpoint}: its label words have other tokens; the tokenizer has changed"
        raise InputError(msg)
    load_lora_state(classifier.language_model, _read_tensors(checkpoint / "lora.safetensors"))
    if classifier.nfa is not None:
        weights = _read_tensors(checkpoint / "nfa.safetensors")
        try:
            classifier.nfa.load_state_dict(weights)
        except RuntimeError as error:
            msg = f"{checkpoint}: the adapter does not fit: {' '.join(str(error).split())[:300]}"
            raise InputError(msg) from None
    return Progress(int(state["step"]), tuple(state["validations"]))


def load_optimizers(checkpoint: Path, groups: Sequence[OptimizerGroup]) -> None:
    """Puts optimizer states in place, 8-bit ones included.

    Raises:
        InputError: if a file is missing or broken.
    """
    scalars = _read_state(checkpoint)["optimizer_scalars"]
    for group in groups:
        tensors = _read_tensors(checkpoint / f"optimizer-{group.name}.safetensors")
        state = _unflatten(tensors, scalars[group.name])
        settings = group.optimizer.state_dict()["param_groups"]
        group.optimizer.load_state_dict({"state": state, "param_groups": settings})


def _read_state(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "state.json"
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{file}: missing; the checkpoint is not complete"
        raise InputError(msg) from None
    except ValueError as error:
        msg = f"{file}: not valid JSON: {error}"
        raise InputError(msg) from None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        msg = f"{file}: not a checkpoint of format {_FORMAT}"
        raise InputError(msg)
    return state


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError:
        msg = f"{file}: missing; the checkpoint is not complete"
        raise InputError(msg) from None
    except (SafetensorError, OSError) as error:
        msg = f"{file}: not readable: {error}"
        raise InputError(msg) from None


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
            # Quantisation maps are shared between weights; the file format wants them apart.
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


def _write_json(file: Path, content: Any) -> None:
    aside = file.with_name(f".{file.name}.partial")
    aside.write_text(json.dumps(content), encoding="utf-8")
    aside.replace(file)


def _remove_all_but(folder: Path, keep: set[str]) -> None:
    for checkpoint in folder.glob("step-*"):
        if checkpoint.name not in keep:
            shutil.rmtree(checkpoint)
