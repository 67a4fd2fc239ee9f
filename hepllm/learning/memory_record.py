"""``memory.json``: how a training uses its device, for the next start of the same run.

A resumed training goes on with what is recorded, for sums over other micro-batches round
differently, and it must repeat the losses of an unbroken one.
"""

from __future__ import annotations

import json
from pathlib import Path

from hepllm.errors import InputError
from hepllm.files import write_text
from hepllm.learning.budget import Budget, Setting

_FILE = "memory.json"


def write_memory_record(
    folder: Path, budget: Budget, setting: Setting, limit_gib: float | None
) -> None:
    """Records a decision in a run folder.

    Args:
        folder: of the run.
        budget: by which it was decided.
        setting: the decision.
        limit_gib: ``train.memory_limit_gib``.
    """
    tree = {
        "micro_batch_size": setting.micro_batch,
        "checkpointing": setting.checkpointing,
        "memory_limit_gib": limit_gib,
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


def read_memory_record(folder: Path, limit_gib: float | None) -> Setting | None:
    """What a training began with.

    Args:
        folder: of the run.
        limit_gib: ``train.memory_limit_gib`` now.

    Returns:
        None for a new training, or where the limit has been changed since.

    Raises:
        InputError: if the record is broken.
    """
    file = folder / _FILE
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        setting = Setting(int(tree["micro_batch_size"]), bool(tree["checkpointing"]))
        limit = tree["memory_limit_gib"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not readable: {error!r}; remove it to choose anew") from None
    return setting if limit == limit_gib else None
