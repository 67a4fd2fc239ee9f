"""A small network with the numerical embedding of the model: the model without language model.

The encoder of numbers turns the numbers of an event into one vector, exactly as for the language
model; a linear layer replaces everything after it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hepllm.arrays import Floats
from hepllm.baselines.scorer import TrainingSample
from hepllm.model.adapter.numbers import NumberEncoder
from hepllm.model.distance_correlation import background_dependence

_WIDTH = 64
_RATE = 2e-3
_DECAY = 1e-2
_BATCH = 256
_STOPPING_SHARE = 0.15
_PATIENCE = 8
_MAX_EPOCHS = 100
_SCORING_BATCH = 8192
_DEPENDENT = 2048


class _Network(nn.Module):
    def __init__(self, sample: TrainingSample) -> None:
        super().__init__()
        one_token = sample.fusion.model_copy(update={"n_tokens": 1})
        self.adapter = NumberEncoder(sample.names, _WIDTH, 1.0, one_token)
        self.head = nn.Linear(_WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(self.adapter(features)[:, 0]).squeeze(-1)
        return logits


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network; made by ``fit_network``."""

    module: nn.Module

    def score(self, features: Floats, hypothesis: NDArray[np.object_] | None = None) -> Floats:
        """Logits of (N, F) features, shape (N,)."""
        del hypothesis
        scores = np.empty(len(features))
        with torch.inference_mode():
            for start in range(0, len(features), _SCORING_BATCH):
                part = slice(start, start + _SCORING_BATCH)
                values = torch.from_numpy(np.ascontiguousarray(features[part]))
                scores[part] = self.module(values).double().numpy()
        return scores


@dataclass(frozen=True)
class _Events:
    features: Tensor
    label: Tensor
    weight: Tensor
    m_jj: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def take(self, events: NDArray[Any]) -> _Events:
        index = torch.from_numpy(events)
        parts = self.features, self.label, self.weight, self.m_jj
        return _Events(*(part[index] for part in parts))

    def loss(self, module: nn.Module, disco: float) -> Tensor:
        logits = module(self.features)
        each = nn.functional.binary_cross_entropy_with_logits(logits, self.label, reduction="none")
        loss = (each * self.weight).mean()
        if not disco:
            return loss
        return loss + disco * background_dependence(logits, self.m_jj, self.label, self.weight)


def fit_network(sample: TrainingSample) -> Network:
    """Trains the network with AdamW until the held-out loss has not improved for eight epochs.

    15 % of the events are held out. The learning rate falls when their loss no longer does; the
    weights of the best epoch are kept. ``sample.fusion`` sets sizes and embedding.

    Raises:
        InputError: for events that no classifier can be trained on.
    """
    sample.check()
    generator = np.random.default_rng([sample.seed, 5])
    order = generator.permutation(len(sample.label))
    n_held_out = max(1, round(_STOPPING_SHARE * len(order)))
    events = _tensors(sample)
    held_out, training = events.take(order[:n_held_out]), order[n_held_out:]
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(sample.seed)
        module = _Network(sample)
        module.adapter.standardizer.fit(sample.features[training])
        _train(module, events.take(training), held_out, generator, sample.disco)
    return Network(module.eval())


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread: for so small a network, more only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tensors(sample: TrainingSample) -> _Events:
    weight = np.ones(len(sample.label)) if sample.weight is None else sample.weight
    m_jj = np.full(len(sample.label), np.nan) if sample.m_jj is None else sample.m_jj
    return _Events(
        torch.from_numpy(np.ascontiguousarray(sample.features, dtype=np.float64)),
        torch.from_numpy(sample.label.astype(np.float32)),
        torch.from_numpy((weight / np.abs(weight).mean()).astype(np.float32)),
        torch.from_numpy(m_jj.astype(np.float32)),
    )


def _train(
    module: _Network,
    training: _Events,
    held_out: _Events,
    generator: np.random.Generator,
    disco: float,
) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=_DECAY)
    n_events = len(training.label)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
    size = int(np.clip(n_events // 20, 16, _BATCH))
    best, best_state, waited = np.inf, copy.deepcopy(module.state_dict()), 0
    for _ in range(_MAX_EPOCHS):
        module.train()
        order = generator.permutation(n_events)
        for start in range(0, n_events, size):
            optimizer.zero_grad()
            loss = training.take(order[start : start + size]).loss(module, disco)
            torch.autograd.backward(loss)
            optimizer.step()
        module.eval()
        with torch.inference_mode():
            loss_held_out = _loss_of(held_out, module, disco)
        schedule.step(loss_held_out)
        if loss_held_out < best:
            best, best_state, waited = loss_held_out, copy.deepcopy(module.state_dict()), 0
            continue
        waited += 1
        if waited >= _PATIENCE:
            break
    module.load_state_dict(best_state)


def _loss_of(events: _Events, module: nn.Module, disco: float) -> float:
    """The loss; with a dependence, of which the memory grows like N^2, the mean over parts."""
    if not disco:
        return float(events.loss(module, disco))
    parts = np.array_split(np.arange(len(events)), -(-len(events) // _DEPENDENT))
    return float(np.mean([float(events.take(part).loss(module, disco)) for part in parts]))
