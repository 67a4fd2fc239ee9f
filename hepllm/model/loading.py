"""Loads models and tokenizers of transformers; whatever is wrong with them becomes one line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from hepllm.errors import InputError
from hepllm.host import available_memory
from hepllm.model.hub import no_requests

NO_FOREIGN_CODE = {"trust_remote_code": False}
"""Without it, transformers asks at the terminal whether to run a model's own code."""

_FAULTS = (
    *(OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError),
    *(SafetensorError, StrictDataclassError),
)
_NF4_BYTES = 0.53
"""Bytes per quantised weight: 4 bits, and a scale of 8 bits for 64 of them (arXiv:2305.14314)."""
_GIB = 2**30
_WHILE_LOADING = _GIB
"""Bytes beside the weights: the weight that is read just now, and the part of a copy written."""


def load(name: str, loader: Callable[..., Any], folder: str, **options: Any) -> Any:
    """Calls a loader of transformers.

    Args:
        name: name of the model, for messages.
        loader: takes the folder and the options.
        folder: folder of the model, or its name on the model hub.
        options: options of the loader.

    Raises:
        InputError: if it fails.
    """
    try:
        with no_requests() if options.get("local_files_only") else nullcontext():
            return loader(folder, **options)
    except torch.OutOfMemoryError:
        raise
    except _FAULTS as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"backbone.name: {name}: cannot be loaded: {reason}") from error


def load_weights(name: str, folder: str, **options: Any) -> PreTrainedModel:
    """Loads a causal language model; the arguments are those of ``load``.

    Raises:
        InputError: if it cannot be loaded, or a weight is missing or has another shape than its
            configuration says: transformers would fill in random numbers.
    """
    model: PreTrainedModel
    model, report = load(
        name,
        AutoModelForCausalLM.from_pretrained,
        folder,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that they are named below
        **options,
    )
    missing = sorted(report["missing_keys"])
    misshapen = sorted(key for key, *_ in report["mismatched_keys"])
    faults = {"are missing": missing, "have other shapes than config.json says": misshapen}
    told = [f"{_some(names)} {what}" for what, names in faults.items() if names]
    if told:
        where = folder if Path(folder).is_dir() else "the model hub"
        raise InputError(
            f"backbone.name: {name}: the weights {'; '.join(told)} in {where}, and random numbers "
            "would take their place; get the complete model again, or name another one"
        )
    return model


def check_room(
    name: str, folder: str, dtype: torch.dtype, *, quantized: bool, **options: Any
) -> None:
    """Checks that the weights fit into the machine's free memory, before they are loaded.

    Linux ends a process that takes more without a word.

    Args:
        name: name of the model, for messages.
        folder: folder of the model, or its name on the model hub.
        dtype: precision of the weights that are not quantised.
        quantized: whether the weights of linear layers are quantised to 4 bits.
        options: options of the loader.

    Raises:
        InputError: if they do not fit, or the model's configuration cannot be read.
    """
    architecture = load(name, AutoConfig.from_pretrained, folder, **options)
    with torch.device("meta"):
        model = load(name, _from_config, architecture)
    needed = _bytes_of(model, dtype, quantized=quantized) + _WHILE_LOADING
    free = available_memory()
    if needed <= free:
        return
    ways = [] if quantized else ["set backbone.quantization=nf4"]
    ways += ["choose a smaller model, such as backbone.name=smollm2", "end other programs"]
    raise InputError(
        f"backbone.name: {name}: needs {needed / _GIB:.1f} GiB of memory to be loaded "
        f"{'in 4 bits' if quantized else f'in {str(dtype)[6:]}'}, and {free / _GIB:.1f} GiB are "
        f"free; {', or '.join(ways)}"
    )


def _from_config(architecture: Any) -> Any:
    return AutoModelForCausalLM.from_config(architecture, **NO_FOREIGN_CODE)


def _bytes_of(model: Any, dtype: torch.dtype, *, quantized: bool) -> float:
    n_all = sum(weight.numel() for weight in model.parameters())
    if not quantized:
        return float(n_all * dtype.itemsize)
    head = model.get_output_embeddings()
    n_linear = sum(
        part.weight.numel()
        for part in model.modules()
        if isinstance(part, nn.Linear) and part is not head
    )
    return float(n_linear * _NF4_BYTES + (n_all - n_linear) * dtype.itemsize)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
