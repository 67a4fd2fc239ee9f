"""``hepllm export``: a dataset as JSON lines for other tool chains, one file per class.

Events go through in batches, so that memory does not grow with the dataset; the files appear
together when all are complete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from hepllm.config import Config, override_config
from hepllm.data.dataset import LABEL_NAMES, EventTable, read_dataset
from hepllm.errors import InputError, RunError
from hepllm.files import write_together
from hepllm.logs import progress_bar
from hepllm.model.prompts import LABEL_WORDS, Layout, render
from hepllm.schema import BACKGROUND, FEATURES, SIGNAL

Style = Literal["record", "completion", "messages"]

BATCH = 2000

_ANSWERS = {label: LABEL_WORDS[label].strip() for label in (BACKGROUND, SIGNAL)}


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        path: where.
        n_events: its lines.
    """

    path: Path
    n_events: int


def export(
    folder: Path,
    output: Path,
    config: Config,
    *,
    style: Style = "record",
    split: str | None = None,
    overwrite: bool = False,
) -> list[ExportedFile]:
    """Writes ``signal.jsonl``, ``background.jsonl`` and ``unknown.jsonl``, those that have events.

    A line of style ``record`` holds the event's identity, its features as numbers (null where
    missing) and the prompt; ``completion`` has ``prompt`` and ``completion``; ``messages`` is a
    chat with the class as answer. Events without a label get no completion and no answer.

    Args:
        folder: the dataset.
        output: folder, made if it is not there.
        config: ``train.features`` are the numbers, ``prompt`` says what the text shows; layout
            ``auto`` is compact here.
        style: what a line looks like.
        split: events of this split only.
        overwrite: replace files of an earlier export.

    Raises:
        InputError: no dataset, no such split, a prompt without numbers, files in the way, or an
            output folder that cannot be made.
        RunError: the output cannot be written.
    """
    dataset = read_dataset(folder)
    dataset.require_events()
    if config.prompt.layout == "auto":
        config = override_config(config, ["prompt.layout=compact"])
    if config.prompt_layout == "minimal":
        raise InputError(
            "prompt.layout 'minimal' prints no numbers; export compact or full prompts"
        )
    names = [f"{label}.jsonl" for label in LABEL_NAMES.values()]
    present = [name for name in names if (output / name).exists()]
    if present and not overwrite:
        raise InputError(
            f"{output}: {', '.join(present)} there already; give --overwrite to replace"
        )
    try:
        with write_together(output) as aside:
            batches = dataset.batches(config.train.feature_names(), BATCH, split)
            total = sum(dataset.manifest.counts.get(split or "all", {}).values())
            lines = _Lines(style, config.prompt_features(), config.prompt_layout)
            counts = _write(batches, total, lines, aside)
            for label, name in LABEL_NAMES.items():
                if not counts[label]:  # an earlier export may have had other classes
                    (aside / f"{name}.jsonl").unlink()
                    (output / f"{name}.jsonl").unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{error.filename or output}: cannot be written: {error.strerror or error}"
        ) from None
    return [
        ExportedFile(output / f"{name}.jsonl", counts[label])
        for label, name in LABEL_NAMES.items()
        if counts[label]
    ]


def _write(
    batches: Iterable[EventTable], total: int, lines: _Lines, folder: Path
) -> dict[int, int]:
    """Writes one file per class into a folder; returns the lines of each, by label."""
    counts = dict.fromkeys(LABEL_NAMES, 0)
    with ExitStack() as stack, progress_bar(total, "export") as progress:
        files: dict[int, IO[str]] = {
            label: stack.enter_context((folder / f"{name}.jsonl").open("w", encoding="utf-8"))
            for label, name in LABEL_NAMES.items()
        }
        for events in batches:
            for label, line in lines.of(events):
                files[label].write(line)
                counts[label] += 1
            progress.update(len(events))
    return counts


@dataclass(frozen=True)
class _Lines:
    """How an event becomes a line.

    Attributes:
        style: what the line holds.
        printed: features that the prompt prints.
        layout: of the prompt.
    """

    style: Style
    printed: tuple[str, ...]
    layout: Layout

    def of(self, events: EventTable) -> Iterator[tuple[int, str]]:
        """The label and the line of each event."""
        for i, row in enumerate(events.features.tolist()):
            event = dict(zip(events.names, row, strict=True))
            label = int(events.label[i])
            text = render(event, self.printed, self.layout, fusion=False)
            if self.style == "record":
                content = _record(events, i, event) | {"prompt": text}
            elif self.style == "completion":
                answer = {"completion": LABEL_WORDS[label]} if label in _ANSWERS else {}
                content = {"prompt": text, **answer}
            else:
                content = {"messages": _messages(text, _ANSWERS.get(label))}
            yield label, json.dumps(content, allow_nan=False) + "\n"


def _record(events: EventTable, i: int, event: dict[str, float]) -> dict[str, Any]:
    return {
        "source": events.source[i],
        "event_id": int(events.event_id[i]),
        "event_digest": f"{int(events.event_digest[i]):016x}",
        "split": events.split[i],
        "label": LABEL_NAMES[int(events.label[i])],
        "weight": float(np.float64(events.weight[i])),
        "features": {name: _number(name, value) for name, value in event.items()},
    }


def _number(name: str, value: float) -> float | int | None:
    if math.isnan(value):
        return None
    return int(value) if FEATURES[name].integral else value


def _messages(text: str, answer: str | None) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": text}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return messages
