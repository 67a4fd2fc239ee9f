"""Records what a training believes of its events, from the passes that it makes anyway.

Nothing is computed again: a listener keeps the logits that the loss was made of. With several
processes each keeps those of its own events until a checkpoint, where the first one gets all of
them. A checkpoint has the record as far as it goes, so that a resumed training writes the same
bytes as an unbroken one.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hepllm.arrays import Bools, Ints
from hepllm.cartography.dynamics import DYNAMICS, Dynamics, Part, PartDynamics, read_dynamics
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events
from hepllm.learning.distributed import Team
from hepllm.learning.listeners import MicroBatch
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.schedule import count_steps

_LARGEST = 60_000.0
"""Largest margin that is kept; a float16 ends at 65,504."""


class DynamicsRecorder:
    """Keeps the probability and the margin of the true class of each event in each epoch.

    Args:
        table: N training events; their labels are what is taken for true.
        plan: decides the numbers of epochs.
    """

    def __init__(self, table: EventTable, plan: TrainingPlan) -> None:
        train, alone = plan.train, plan.train.nfa_alone
        n_events = len(table)
        self._steps = n_events // min(train.batch_size, n_events)
        n_epochs: dict[Part, int] = {}
        if alone.epochs:
            config = train.model_copy(
                update={"epochs": alone.epochs, "batch_size": alone.batch_size}
            )
            steps = n_events // min(alone.batch_size, n_events)
            n_epochs["adapter"] = ceil(count_steps(n_events, config) / steps)
        n_epochs["model"] = ceil(count_steps(n_events, train) / self._steps)
        parts = {name: PartDynamics.empty(n_events, number) for name, number in n_epochs.items()}
        self.dynamics = Dynamics(table.event_digest, table.label, parts)
        self._is_signal = table.label == 1
        self._fresh: set[int] = set()
        """Epochs with the language model that changed since processes exchanged them."""

    def __call__(self, seen: MicroBatch) -> None:
        """Keeps a micro-batch of a step with the language model."""
        epoch = seen.step // self._steps
        odds = (seen.logits[:, 1] - seen.logits[:, 0]).float()
        self._keep("model", epoch, seen.events, odds, seen.is_wrong)
        self._fresh.add(epoch)

    def alone(self, epoch: int, events: Ints, odds: Tensor, is_wrong: Bools | None) -> None:
        """Keeps a step of the adapter alone.

        Args:
            epoch: epoch of the adapter, from 0.
            events: positions of the events, shape (B,).
            odds: logits of signal, shape (B,).
            is_wrong: events that were shown under another's hypothesis, shape (B,).
        """
        self._keep("adapter", epoch, events, odds, is_wrong)

    def _keep(
        self, name: Part, epoch: int, events: Ints, odds: Tensor, is_wrong: Bools | None
    ) -> None:
        part = self.dynamics.parts[name]
        signal = torch.from_numpy(self._is_signal[events]).to(odds.device)
        margin = torch.where(signal, odds.detach(), -odds.detach())
        probability = margin.sigmoid().cpu().numpy()
        margins = margin.clamp(-_LARGEST, _LARGEST).cpu().numpy()
        if is_wrong is not None:  # under another's hypothesis the label is not what was asked
            probability, margins = (
                np.where(is_wrong, np.nan, values) for values in (probability, margins)
            )
        part.probability[events, epoch] = probability
        part.margin[events, epoch] = margins

    def gather(self, team: Team) -> None:
        """Gives the first process what the others have kept; all processes call this.

        Raises:
            RunError: if another process is gone.
        """
        if team.size > 1:
            for epoch in sorted(self._fresh):
                self._gather(team, epoch)
        self._fresh.clear()

    def _gather(self, team: Team, epoch: int) -> None:
        part = self.dynamics.parts["model"]
        columns = [values[:, epoch] for values in (part.probability, part.margin)]
        sent = [np.nan_to_num(column.astype(np.float64), nan=0.0) for column in columns]
        is_seen = (~np.isnan(columns[0])).astype(np.float64)
        totals = team.sum_array(np.concatenate([*sent, is_seen])).reshape(3, -1)
        for column, total in zip(columns, totals, strict=False):
            # What was sent is forgotten by the others, so that no value is counted twice.
            column[:] = np.where(totals[2] > 0, total, np.nan) if team.is_first else np.nan

    def save(self, folder: Path) -> None:
        """Writes the record into a folder; it has all events once processes have exchanged them."""
        self.dynamics.write(folder / DYNAMICS)

    def load(self, checkpoint: Path, team: Team) -> None:
        """Takes the record of a checkpoint up; the first process keeps it for all.

        Events are found by their digest, since a resumed training may have another balance.

        Raises:
            InputError: if it is missing or damaged.
        """
        if not team.is_first:
            return
        remedy = "the checkpoint is not complete; train again with train.dynamics"
        kept, mine = read_dynamics(checkpoint, remedy), self.dynamics
        rows = np.arange(len(mine.event_digest))
        if not np.array_equal(kept.event_digest, mine.event_digest):
            rows = find_events(mine.event_digest, kept.event_digest)
        known = rows >= 0
        for name, part in mine.parts.items():
            former = kept.parts.get(name, PartDynamics.empty(len(kept.event_digest), 0))
            n_epochs = min(part.n_epochs, former.n_epochs)
            part.probability[known, :n_epochs] = former.probability[rows[known], :n_epochs]
            part.margin[known, :n_epochs] = former.margin[rows[known], :n_epochs]
