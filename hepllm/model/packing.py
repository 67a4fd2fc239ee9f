"""Packs many events behind one question, so that the question is encoded once for all of them.

In causal attention no token reads a later one, so what events have in common needs to be encoded
only once if it comes first. A row of a batch holds a question and then the tokens of many events. A
mask lets the tokens of an event attend to the question and to themselves, and all events stand at
the same positions, those that follow the question. Each event so gets the score that it has alone,
and gradients reach the question from all of them, in one ordinary pass without a cache: with
activation checkpointing and dropout as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepllm.arrays import Ints

EVENTS_PER_QUESTION = 1024
"""Most events behind one copy of a question; more would save next to nothing."""
_FEWEST, _UNEVEN = 16, 2
"""Where questions have very different numbers of events, a copy has at most this number, or this
multiple of the mean: attention takes as long for each copy as for the one with the most events."""
_PADDING = -1
_SHARED = -1


@dataclass(frozen=True)
class Question:
    """The tokens that come before those of an event.

    Attributes:
        token_ids: P token ids; a filler where the soft token of a mass goes.
        mass_places: places of the masses among them.
        masses: the masses in GeV.
        soft_places: place of the first soft token of each example, an event that is a part of the
            question.
        soft_events: number of each example, by which its soft tokens are found.
    """

    token_ids: Sequence[int]
    mass_places: Sequence[int] = ()
    masses: Sequence[float] = ()
    soft_places: Sequence[int] = ()
    soft_events: Sequence[int] = ()


@dataclass(frozen=True)
class PackedPrompts:
    """Prompts of B events in R rows of S tokens, padded on the right.

    Places are counted through all rows, so that token ``s`` of row ``r`` is at ``r * S + s``.

    Attributes:
        token_ids: shape (R, S); a filler where soft tokens go and on padding.
        position_ids: shape (R, S).
        question: shape (R, S), number of the question that a token belongs to; -1 for padding.
        event: shape (R, S), event of a token; -1 for the tokens of questions and padding.
        fusion_places: shape (B + E, n_tokens), places of the soft tokens of each event, and then of
            each example.
        last_places: shape (B,), places of the last token of each event, where its class is read.
        mass_places: shape (M,), places of the soft tokens of masses.
        masses: shape (M,), float64, in GeV.
        starts: shape (Q,), place of the first token of each copy of a question.
        lengths: shape (Q,), tokens of each.
        counts: shape (Q,), events behind each.
        examples: shape (E,), number of each example of all copies of questions.
    """

    token_ids: Tensor
    position_ids: Tensor
    question: Tensor
    event: Tensor
    fusion_places: Tensor
    last_places: Tensor
    mass_places: Tensor
    masses: Tensor
    starts: Tensor
    lengths: Tensor
    counts: Tensor
    examples: Tensor

    @property
    def n_tokens(self) -> int:
        """Tokens of all rows, without padding."""
        return int((self.question != _PADDING).sum())

    @property
    def n_questions(self) -> int:
        """Copies of questions in all rows."""
        return len(self.starts)

    @property
    def n_tokens_of_event(self) -> int:
        """Tokens of the longest prompt, that of the question and those of one event."""
        return int(self.position_ids.max()) + 1

    @property
    def longest_question(self) -> int:
        """Tokens of the longest question."""
        return int(self.lengths.max())

    def may_attend(self, device: torch.device, window: int | None = None) -> Tensor:
        """Returns whether a token (axis 1) attends to another (axis 2), shape (R, S, S).

        Padding attends to padding, so that no row of attention weights is empty.

        Args:
            device: where to compute.
            window: positions that a token sees, its own included; None for all.
        """
        question, event, position = (
            part.to(device) for part in (self.question, self.event, self.position_ids)
        )
        size = question.shape[1]
        is_same = question[:, :, None] == question[:, None, :]
        is_own = event[:, :, None] == event[:, None, :]
        seen = is_same & (is_own | (event == _SHARED)[:, None, :])
        seen &= torch.ones(size, size, dtype=torch.bool, device=device).tril()
        if window is not None:
            seen &= (position[:, :, None] - position[:, None, :]) < window
        return seen


def additive_mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns what is added to attention scores, (R, 1, S, S): 0, or the lowest number if unseen.

    Its rows are aligned in memory as the fused kernels of GPUs need it, which would otherwise copy
    it in every layer.
    """
    n_rows, size, _ = seen.shape
    aligned = -(-size // 8) * 8
    mask = torch.zeros(n_rows, 1, size, aligned, dtype=dtype, device=seen.device)[..., :size]
    return mask.masked_fill_(~seen.unsqueeze(1), torch.finfo(dtype).min)


def pack(
    questions: Sequence[Question],
    asked: Ints,
    ending: Sequence[int],
    *,
    n_soft: int,
    filler: int,
    events_per_question: int = EVENTS_PER_QUESTION,
) -> PackedPrompts:
    """Arranges questions and events in rows.

    Args:
        questions: the different questions.
        asked: shape (B,), number of the question that each event is asked.
        ending: the tokens of each event: fillers for its soft tokens, and what follows them.
        n_soft: number of its soft tokens, which come first.
        filler: token id for padding.
        events_per_question: most events behind one copy of a question.
    """
    own = len(ending)
    mean = -(-len(asked) // max(1, len(questions)))
    limit = min(events_per_question, max(_FEWEST, _UNEVEN * mean))
    segments = list(_segments(questions, asked, limit))
    lengths = [len(question.token_ids) + own * len(events) for question, events in segments]
    rows = _fill_rows(lengths)
    shape = (len(rows), max(lengths, default=0))
    token_ids = np.full(shape, filler)
    position_ids = np.zeros(shape, dtype=np.int64)
    of_question = np.full(shape, _PADDING)
    of_event = np.full(shape, _SHARED)
    first = np.zeros(len(asked), dtype=np.int64)
    starts = np.zeros(len(segments), dtype=np.int64)
    mass_places: list[int] = []
    masses: list[float] = []
    soft_places: list[int] = []
    examples: list[int] = []
    for row, chosen in enumerate(rows):
        start = 0
        for number in chosen:
            question, events = segments[number]
            ids, stop = question.token_ids, start + lengths[number]
            behind = len(ids)
            starts[number] = place = row * shape[1] + start
            token_ids[row, start:stop] = [*ids, *(list(ending) * len(events))]
            position_ids[row, start : start + behind] = np.arange(behind)
            position_ids[row, start + behind : stop] = behind + np.tile(np.arange(own), len(events))
            of_question[row, start:stop] = number
            of_event[row, start + behind : stop] = np.repeat(events, own)
            first[events] = place + behind + own * np.arange(len(events))
            mass_places += [place + here for here in question.mass_places]
            masses += question.masses
            soft_places += [place + here for here in question.soft_places]
            examples += question.soft_events
            start = stop
    return PackedPrompts(
        token_ids=torch.from_numpy(token_ids),
        position_ids=torch.from_numpy(position_ids),
        question=torch.from_numpy(of_question),
        event=torch.from_numpy(of_event),
        fusion_places=torch.from_numpy(
            np.array([*first, *soft_places], dtype=np.int64)[:, None] + np.arange(n_soft)
        ),
        last_places=torch.from_numpy(first + own - 1),
        mass_places=torch.tensor(mass_places, dtype=torch.int64),
        masses=torch.tensor(masses, dtype=torch.float64),
        starts=torch.from_numpy(starts),
        lengths=torch.tensor([len(question.token_ids) for question, _ in segments]),
        counts=torch.tensor([len(events) for _, events in segments]),
        examples=torch.tensor(examples, dtype=torch.int64),
    )


def _segments(
    questions: Sequence[Question], asked: Ints, limit: int
) -> Iterator[tuple[Question, NDArray[np.intp]]]:
    """Yields each question with at most ``limit`` of its events, as equally many as can be."""
    order = np.argsort(asked, kind="stable")
    counts = np.bincount(asked, minlength=len(questions))
    for question, events in zip(questions, np.split(order, np.cumsum(counts)[:-1]), strict=True):
        if len(events):
            for part in np.array_split(events, -(-len(events) // limit)):
                yield question, part


def _fill_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Divides segments among rows as long as the longest one: first fit, in falling order."""
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[number]
        row = next((row for row, left in enumerate(room) if left >= length), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(max(lengths))
        rows[row].append(number)
        room[row] -= length
    return rows
