"""TensorBoard scalars, a history file, and watchdogs with plain sentences."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from hepllm.learning.optimizers import OptimizerGroup

LOG = logging.getLogger(__name__)

_COLLAPSED = 0.02
_UNRESPONSIVE = 1e-3


class Monitor:
    """Writes what happens in a training below the run's folder.

    Args:
        folder: of the run; gets ``tensorboard/`` and ``history.jsonl``.
        start_step: the first step to come; what a killed run wrote beyond it is dropped.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        self._history = folder / "history.jsonl"
        self._drop_after(start_step)
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start_step or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def step(
        self, step: int, values: Mapping[str, float], groups: Sequence[OptimizerGroup]
    ) -> None:
        """Records one training step.

        Args:
            step: steps done.
            values: scalars by TensorBoard name.
            groups: whose rates, gradients and updates are recorded too.
        """
        scalars = dict(values)
        for group in groups:
            scalars[f"{group.name}/lr"] = group.lr
            scalars[f"{group.name}/gradient_norm"] = group.gradient_norm
            scalars[f"{group.name}/weight_norm"] = group.weight_norm
            scalars[f"{group.name}/update_ratio"] = group.update_ratio
        self._record(step, scalars)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Records a validation."""
        self._record(step, {f"validation/{name}": value for name, value in values.items()})
        self._writer.flush()

    def text(self, name: str, text: str) -> None:
        """Records a text, such as a sample prompt."""
        self._writer.add_text(name, f"```\n{text}\n```", 0)

    def _record(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        with self._history.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")

    def _drop_after(self, step: int) -> None:
        if not self._history.exists():
            return
        lines = self._history.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        self._history.write_text("".join(kept if step else []), encoding="utf-8")


def warn_of_collapse(predicted_signal: float, true_signal: float) -> bool:
    """Warns when a model calls nearly everything one class.

    Args:
        predicted_signal: share of validation events with a positive score.
        true_signal: share of signal among them.
    """
    both_classes = _COLLAPSED < true_signal < 1 - _COLLAPSED
    if both_classes and not _COLLAPSED < predicted_signal < 1 - _COLLAPSED:
        LOG.warning(
            "the model calls %.1f %% of the validation events signal (%.1f %% are): it has "
            "collapsed to one class; lower the learning rates or check the input features",
            100 * predicted_signal,
            100 * true_signal,
        )
        return True
    return False


def warn_of_deafness(scores: NDArray[np.float64], permuted: NDArray[np.float64]) -> bool:
    """Warns when scores stay as they are although the numbers were exchanged between events.

    Args:
        scores: shape (N,).
        permuted: the same events with the adapter's numbers of others.
    """
    reaction = float(np.mean(np.abs(scores - permuted)))
    if reaction < _UNRESPONSIVE * max(float(np.std(scores)), _UNRESPONSIVE):
        LOG.warning(
            "scores do not react to the numbers that the adapter gets (mean change %.2g): "
            "the fusion is not used",
            reaction,
        )
        return True
    return False
