"""Loads the language model: its source, precision and LoRA weights.

Beside ``hepllm.model.kernels``, the only module that imports peft or bitsandbytes.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
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
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from hepllm.config import BackboneConfig
from hepllm.errors import InputError, RunError
from hepllm.model.devices import choose_device, choose_dtype, prevent_spilling
from hepllm.model.embeddings import keep_output_rows
from hepllm.model.loading import check_room, load, load_weights
from hepllm.model.quantized_cache import QuantizedCache, model_identity
from hepllm.model.sources import cache_folder, source_of

LOG = logging.getLogger(__name__)


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
    source_of(config.name)


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
    folder, options = source_of(config.name)
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
    folder, options = source_of(config.name)
    loaded: PreTrainedTokenizerBase = load(
        config.name, AutoTokenizer.from_pretrained, folder, **options
    )
    return loaded


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
