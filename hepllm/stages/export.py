"""``hepllm export``: a dataset as JSON lines for other software, one file per class.

Events are read in batches, so that memory does not grow with the dataset; the files appear
together when all are complete.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from hepllm.config import Config, override_config
from hepllm.config.learning import TEXT_WITHOUT_NUMBERS
from hepllm.data.dataset import LABEL_NAMES, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.files import refuse_existing, write_errors, write_together
from hepllm.logs import progress_bar
from hepllm.model.prompts import LABEL_WORDS, Layout, render
from hepllm.schema import BACKGROUND, SIGNAL, feature_of

Style = Literal["record", "completion", "messages"]

BATCH = 2000

_ANSWERS = {label: LABEL_WORDS[label].strip() for label in (BACKGROUND, SIGNAL)}


@dataclass(frozen=True)
class ExportedFile:
    """A written file with one line per event."""

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
        output: folder, made if it does not exist.
        config: ``train.features`` for the numbers, ``prompt`` for the text; here the layout
            ``auto`` means compact.
        style: content of a line.
        split: events of this split only.
        overwrite: replace files of an earlier export.

    Raises:
        InputError: the dataset or the split does not exist, the prompt has no numbers, files exist,
            or the output folder cannot be made.
        RunError: the output cannot be written.
    """
    dataset = read_dataset(folder).with_variables(config.preprocess.variables())
    dataset.require_events()
    if config.prompt.layout == "auto":
        config = override_config(config, ["prompt.layout=compact"])
    if config.prompt_layout in TEXT_WITHOUT_NUMBERS:
        raise InputError(
            f"prompt.layout '{config.prompt_layout}' prints no numbers; choose compact or full"
        )
    names = {label: f"{name}.jsonl" for label, name in LABEL_NAMES.items()}
    refuse_existing(output, names.values(), overwrite)
    with write_errors(output, "choose another --output"), write_together(output) as aside:
        batches = dataset.batches(config.train.feature_names(), BATCH, split)
        total = sum(dataset.manifest.counts.get(split or "all", {}).values())
        printed, layout = config.prompt_features(), config.prompt_layout
        lines = partial(_lines, style=style, printed=printed, layout=layout)
        counts = _write(batches, total, lines, aside)
        for label, name in names.items():
            if not counts[label]:  # an earlier export may have had other classes
                (aside / name).unlink()
                (output / name).unlink(missing_ok=True)
    return [
        ExportedFile(output / name, counts[label]) for label, name in names.items() if counts[label]
    ]


def _write(
    batches: Iterable[EventTable],
    total: int,
    lines: Callable[[EventTable], Iterator[tuple[int, str]]],
    folder: Path,
) -> dict[int, int]:
    """Writes one file per class into a folder; returns the number of lines by label."""
    counts = dict.fromkeys(LABEL_NAMES, 0)
    with ExitStack() as stack, progress_bar(total, "export") as progress:
        files: dict[int, IO[str]] = {
            label: stack.enter_context((folder / f"{name}.jsonl").open("w", encoding="utf-8"))
            for label, name in LABEL_NAMES.items()
        }
        for events in batches:
            for label, line in lines(events):
                files[label].write(line)
                counts[label] += 1
            progress.update(len(events))
    return counts


def _lines(
    events: EventTable, style: Style, printed: tuple[str, ...], layout: Layout
) -> Iterator[tuple[int, str]]:
    """Yields the label and the line of each event."""
    for i, row in enumerate(events.features.tolist()):
        event = dict(zip(events.names, row, strict=True))
        label = int(events.label[i])
        text = render(event, printed, layout, fusion=False)
        if style == "record":
            content = _record(events, i, event) | {"prompt": text}
        elif style == "completion":
            answer = {"completion": LABEL_WORDS[label]} if label in _ANSWERS else {}
            content = {"prompt": text, **answer}
        else:
            messages = [{"role": "user", "content": text}]
            if label in _ANSWERS:
                messages.append({"role": "assistant", "content": _ANSWERS[label]})
            content = {"messages": messages}
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
    return int(value) if feature_of(name).integral else value
