"""The adapter with a linear head on its soft tokens: what a language model has to improve on.

The encoders make the soft tokens exactly as for the language model; one linear layer replaces
everything after them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hepllm.arrays import Floats
from hepllm.baselines.mlp import one_thread
from hepllm.baselines.scorer import TrainingSample
from hepllm.config import FusionConfig
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.model.inputs import ModelInputs

PARTICLES = "particles"

_WIDTH = 64
_RATE = 2e-3
_DECAY = 1e-2
_BATCH = 128
_PASSES = 150_000
"""Events that a training sees, each several times: two minutes on one core."""
_EPOCHS = (2, 20)
_WARM_UP = 0.1
_CLIP = 1.0
_SCORING_BATCH = 1024


class AdapterNetwork(nn.Module):
    """An adapter and a linear head; made by ``fit_adapter``.

    Args:
        names: features, in the order of the columns of ``ModelInputs.numbers``.
        fusion: what it reads, and its sizes.
    """

    def __init__(self, names: tuple[str, ...], fusion: FusionConfig) -> None:
        super().__init__()
        self.names, self.fusion = names, fusion
        self.adapter = NumericFusionAdapter(names, _WIDTH, 1.0, fusion)
        self.head = nn.Linear(self.adapter.n_tokens * _WIDTH, 1)

    @classmethod
    def of_state(
        cls, names: tuple[str, ...], fusion: FusionConfig, state: Mapping[str, NDArray[Any]]
    ) -> Self:
        """A trained network from the arrays of its ``state_dict``."""
        with torch.random.fork_rng(devices=[]):
            module = cls(names, fusion)
        module.load_state_dict({name: torch.from_numpy(one) for name, one in state.items()})
        return module.eval()

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Logits of B events, shape (B,)."""
        logits: Tensor = self.head(self.adapter(inputs).flatten(1)).squeeze(-1)
        return logits

    def score(self, inputs: ModelInputs) -> Floats:
        """Logits of N events, shape (N,)."""
        scores = np.empty(len(inputs))
        with torch.inference_mode(), one_thread():
            for start in range(0, len(inputs), _SCORING_BATCH):
                part = slice(start, start + _SCORING_BATCH)
                scores[part] = self(inputs.take(part)).double().numpy()
        return scores


def fit_adapter(
    sample: TrainingSample, inputs: ModelInputs, *, epochs: int | None = None
) -> AdapterNetwork:
    """Trains an adapter with a linear head by AdamW in a fixed number of epochs.

    The learning rate rises over a tenth of the steps and falls to 0 along half a cosine, so that
    no event is needed to tell when to stop.

    Args:
        sample: labels, weights and seed; ``sample.fusion`` sets what is read, and all sizes.
        inputs: the same N events.
        epochs: passes over them; None: 2 to 20, as many as make 150,000 events.

    Raises:
        InputError: for events that no classifier can be trained on.
    """
    sample.check()
    if epochs is None:
        epochs = int(np.clip(round(_PASSES / max(1, len(inputs))), *_EPOCHS))
    weight = np.ones(len(sample.label)) if sample.weight is None else sample.weight
    targets = torch.from_numpy(sample.label.astype(np.float32))
    weights = torch.from_numpy((weight / np.abs(weight).mean()).astype(np.float32))
    generator = np.random.default_rng([sample.seed, 6])
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(sample.seed)
        module = AdapterNetwork(sample.names, sample.fusion)
        module.adapter.fit(inputs)
        size = int(np.clip(len(inputs) // 20, 16, _BATCH))
        optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            _RATE,
            total_steps=epochs * math.ceil(len(inputs) / size),
            pct_start=_WARM_UP,
        )
        for _ in range(epochs):
            order = generator.permutation(len(inputs))
            for start in range(0, len(order), size):
                events = order[start : start + size]
                logits = module(inputs.take(events))
                each = functional.binary_cross_entropy_with_logits(
                    logits, targets[events], reduction="none"
                )
                optimizer.zero_grad()
                torch.autograd.backward((each * weights[events]).mean())
                nn.utils.clip_grad_norm_(module.parameters(), _CLIP)
                optimizer.step()
                schedule.step()
    return module.eval()
