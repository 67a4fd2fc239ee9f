"""Records a training for TensorBoard and in a history file."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from hepllm.learning.optimizers import OptimizerGroup
from hepllm.learning.validation import Validation
from hepllm.pictures.validation import pixels, roc_figure, score_figure, sic_figure


class Monitor:
    """Writes for TensorBoard, and ``history.jsonl`` in the run folder.

    Args:
        folder: folder of the run.
        start_step: steps already done; drops what a killed run wrote after them.
        logs: folder of TensorBoard's files; None: ``tensorboard`` in the folder of the run.
    """

    def __init__(self, folder: Path, start_step: int = 0, logs: Path | None = None) -> None:
        self._history = folder / "history.jsonl"
        self._drop_after(start_step)
        self._writer = SummaryWriter(str(logs or folder / "tensorboard"), purge_step=start_step + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def step(
        self, step: int, values: Mapping[str, float], groups: Sequence[OptimizerGroup]
    ) -> None:
        """Records scalars by TensorBoard name, and those of the groups, after ``step`` steps."""
        scalars = dict(values)
        for group in groups:
            scalars[f"{group.name}/lr"] = group.lr
            scalars[f"{group.name}/gradient_norm"] = group.gradient_norm
            scalars[f"{group.name}/weight_norm"] = group.weight_norm
            scalars[f"{group.name}/update_ratio"] = group.update_ratio
        self._record(step, scalars)

    def validation(
        self,
        step: int,
        validation: Validation,
        adapter: Mapping[str, nn.Parameter],
        min_background: int,
    ) -> None:
        """Records a validation: numbers, curves, scores, and the adapter's weights by name.

        ``min_background`` events must pass for a SIC value.
        """
        found = validation.found
        self._record(step, {f"validation/{name}": value for name, value in found.items()})
        figures = {
            "roc": roc_figure(validation.curve, min_background),
            "sic": sic_figure(validation.curve, min_background),
            "scores": score_figure(validation.events),
        }
        for name, figure in figures.items():
            image = pixels(figure)
            self._writer.add_image(f"validation/{name}", image, step, dataformats="HWC")
        events = validation.events
        for name, chosen in (("signal", events.is_signal), ("background", ~events.is_signal)):
            self._writer.add_histogram(f"score/{name}", events.score[chosen], step)
        for name, weight in adapter.items():
            self._writer.add_histogram(f"nfa_weights/{name}", weight.detach(), step)
        self._writer.flush()

    def hyper_parameters(
        self, settings: Mapping[str, int | float | str], metrics: Mapping[str, float]
    ) -> None:
        """Records settings by path and final metrics by name, for the HPARAMS page."""
        named = {f"validation_best/{name}": value for name, value in metrics.items()}
        # The writer's own method would make a second run.
        for summary in hparams(dict(settings), named):  # type: ignore[no-untyped-call]
            self._writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        for name, value in named.items():
            self._writer.add_scalar(name, value, 0)

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


def memory_gib(device: torch.device) -> float:
    """Returns the most memory used so far on the GPU, or by this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
