"""``hepllm doctor``: checks the installation and says how to mend problems."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hepllm.config import Config, TrainConfig, override_config
from hepllm.data.event_table import EventTable
from hepllm.errors import HepllmError
from hepllm.executor import resolve_threads
from hepllm.installation import gpu, hub, packages, quantization, system
from hepllm.installation.findings import Finding
from hepllm.installation.machine import Machine

_WORK_FOLDERS = (Path(), Path("data"), Path("runs"))


def examine(
    config: Config,
    *,
    machine: Machine | None = None,
    probe: Callable[[], gpu.TorchBuild] = gpu.probe_torch,
    dry_run: bool = True,
) -> Iterator[Finding]:
    """Checks that the installation fits a configuration, and yields each finding at once.

    Args:
        config: the whole configuration.
        machine: the machine to check; None: this one.
        probe: finds the devices of torch.
        dry_run: also train one step.
    """
    machine = machine or Machine()
    platform = system.check_system(machine)
    yield platform
    if not platform.found.startswith("Linux"):
        return  # the other checks are for Linux
    yield _guarded("packages", packages.check_packages)
    for extra in packages.OPTIONAL:
        yield _guarded(f"optional {extra}", packages.check_extra, extra)
    yield _guarded("cores", system.check_cores, machine)
    yield _guarded("shared memory", system.check_shared_memory, machine)
    yield _guarded("fastjet", packages.check_fastjet)
    with tempfile.TemporaryDirectory() as folder:
        yield _guarded("tensorboard", packages.check_tensorboard, Path(folder))
    yield from _examine_model(config, machine, probe, dry_run)


def _examine_model(
    config: Config, machine: Machine, probe: Callable[[], gpu.TorchBuild], dry_run: bool
) -> Iterator[Finding]:
    """The checks that need torch and the language model."""
    backbone = config.backbone
    try:
        from huggingface_hub.constants import HF_HUB_CACHE

        from hepllm.model.sources import cache_folder

        build, hub_cache, cache = probe(), Path(HF_HUB_CACHE), cache_folder()
        weights = hub.find_weights(backbone.name, hub_cache)
    except HepllmError as error:
        found, _, remedy = str(error).partition("; ")
        yield Finding("model", "problem", found, remedy)
        return
    except Exception as error:  # a broken library raises anything
        yield _failed("model libraries", error)
        return
    device = "cuda" if build.gpus and backbone.device != "cpu" else "cpu"
    yield _guarded("gpu", gpu.check_gpu, machine, build, backbone.device)
    yield _guarded("precision", gpu.check_precision, backbone, build)
    optimizer = config.train.lora_optimizer
    yield _guarded(
        "bitsandbytes", quantization.check_quantization, backbone.quantization, optimizer, device
    )
    yield _guarded("model", hub.check_model, weights)
    reachable, weights = hub.check_hub(weights)
    yield reachable
    yield _guarded("memory", _check_memory, machine, config, weights.n_bytes, device)
    yield _guarded("mounts", system.check_mounts, machine, [*_WORK_FOLDERS, cache, hub_cache])
    share = system.QUANTIZED_SHARE if backbone.quantization == "nf4" else 0.0
    disk = partial(
        system.check_disk, download=weights.to_download, converted=share * weights.n_bytes
    )
    yield _guarded("disk", disk, machine, hub_cache, cache)
    if dry_run:
        yield _guarded("dry run", check_dry_run, config, weights)


def _check_memory(machine: Machine, config: Config, n_bytes: float, device: str) -> Finding:
    import torch

    from hepllm.model.devices import choose_dtype

    backbone = config.backbone
    element = 2 if device == "cuda" else choose_dtype(backbone.dtype, torch.device("cpu")).itemsize
    needed = system.memory_of_model(
        n_bytes,
        quantized=backbone.quantization == "nf4",
        on_gpu=device == "cuda",
        element=element,
    )
    return system.check_memory(machine, needed)


def check_dry_run(config: Config, weights: hub.Weights) -> Finding:
    """Trains one step on random events; without weights, a model of two random layers."""
    from torch.cuda import OutOfMemoryError

    from hepllm.model.sources import TINY_RANDOM

    is_stand_in = weights.folder is None
    name = TINY_RANDOM if is_stand_in else config.backbone.name
    changes = [f"backbone.name={json.dumps(name)}", "train.epochs=1", "train.warmup_fusion_steps=0"]
    try:
        found = f"one step of {name}: {_train_one_step(override_config(config, changes))}"
    except OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        remedy = (
            "end other programs on the GPU; lower train.micro_batch_size, or leave it to the "
            "budget: train.micro_batch_size=null backbone.gradient_checkpointing=auto; or set "
            "PYTORCH_ALLOC_CONF=expandable_segments:True in the environment"
        )
        return Finding("dry run", "problem", f"one step of {name}: {reason}", remedy)
    except HepllmError as error:
        return Finding("dry run", "problem", f"one step of {name}: {error}")
    if is_stand_in:
        remedy = f"get the weights of {weights.name} (see 'model' and 'hub'), then check again"
        found += f"; the weights of {weights.name} are missing"
        return Finding("dry run", "warning", found, remedy)
    return Finding("dry run", "ok", found)


def _train_one_step(config: Config) -> str:
    """Trains one step, and describes its size, time and memory.

    Raises:
        HepllmError: the model does not exist, or a group of weights does not learn.
    """
    import torch

    from hepllm.learning.capacity import cap_gpu_memory
    from hepllm.learning.memory import settle_memory
    from hepllm.learning.monitor import memory_gib
    from hepllm.learning.plan import TrainingPlan
    from hepllm.learning.steps import Trainer, TrainingData
    from hepllm.learning.watchdogs import PROVING_STEPS
    from hepllm.model.devices import choose_device
    from hepllm.runs.folder import make_classifier

    torch.set_num_threads(resolve_threads(config.train.threads))
    cap_gpu_memory(choose_device(config.backbone.device), config.train.memory_limit_gib)
    classifier, encoder = make_classifier(config)
    events = _made_up_events(config.train, config.seed)
    data = TrainingData(events, events)
    plan = settle_memory(classifier, encoder, data, TrainingPlan.of(config)).plan
    trainer = Trainer.fresh(classifier, encoder, data, plan)
    for _ in range(PROVING_STEPS):
        outcome = trainer.step(0, measure=True)
        # In float16, the first steps may be skipped until the loss scale is found.
        if not trainer.scaler.is_enabled() or all(g.update_ratio for g in trainer.groups):
            break
    for group in trainer.groups:
        group.check_learning()
    where = "GPU memory" if classifier.device.type == "cuda" else "memory of the process"
    return (
        f"{outcome.n_events} events with {outcome.n_tokens} tokens, "
        f"{plan.micro_batch} at a time, on {classifier.device.type} in "
        f"{outcome.seconds:.2f} s, {where} at most {memory_gib(classifier.device):.2f} GiB; "
        f"{' and '.join(group.name for group in trainer.groups)} learn"
    )


def _made_up_events(config: TrainConfig, seed: int) -> EventTable:
    """One batch of both classes with random values."""
    names, size = config.feature_names(), max(2, config.batch_size)
    random = np.random.default_rng(seed)
    label = (np.arange(size) % 2).astype(np.int8)
    return EventTable(
        features=random.gamma(4.0, 1.0, (size, len(names))),
        names=names,
        label=label,
        label_raw=label.astype(np.int16),
        weight=np.ones(size),
        event_id=np.arange(size),
        source=np.full(size, "doctor", dtype=object),
        event_digest=np.arange(size, dtype=np.uint64),
        split=np.full(size, "train", dtype=object),
    )


def _guarded(name: str, check: Callable[..., Finding], *arguments: Any) -> Finding:
    """The finding of a check; a problem if the check itself fails."""
    try:
        return check(*arguments)
    except Exception as error:  # a broken library raises anything
        return _failed(name, error)


def _failed(name: str, error: Exception) -> Finding:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    remedy = "see 'packages' above; in the source folder: pip install -c constraints.txt ."
    return Finding(name, "problem", f"could not be checked: {reason}", remedy)
