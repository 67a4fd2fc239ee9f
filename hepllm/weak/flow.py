"""A conditional normalising flow, trained on sidebands and sampled at other conditions."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hepllm.arrays import Floats
from hepllm.baselines.mlp import one_thread
from hepllm.errors import InputError, RunError
from hepllm.logs import progress_bar

_SAMPLING_BATCH = 16_384


@dataclass(frozen=True)
class FlowSettings:
    """Sizes and training of a flow.

    The paper has 15 affine blocks and 100 epochs, for half a million events; splines need fewer.

    Attributes:
        kind: ``nsf``, neural splines (Durkan et al., arXiv:1906.04032), or ``maf``, affine steps
            (Papamakarios et al., arXiv:1705.07057).
        transforms: autoregressive steps, each in the reverse order of the one before.
        hidden: widths of the hidden layers of each step.
        batch: events of a step of the optimiser; None for a hundred steps an epoch, with 256 to
            2,048 events, beyond which larger ones cost as much time for each event.
        rate: initial learning rate of Adam; it falls by 3 where the validation loss stalls.
        max_epochs: most passes over the training events.
        patience: epochs without a new best validation loss after which the training ends.
        n_best: epochs of the lowest validation loss that share the samples (10 in the paper).
        validation_share: share of the events held out to judge the epochs.
    """

    kind: Literal["nsf", "maf"] = "nsf"
    transforms: int = 3
    hidden: tuple[int, ...] = (64, 64)
    batch: int | None = None
    rate: float = 2e-3
    max_epochs: int = 60
    patience: int = 10
    n_best: int = 10
    validation_share: float = 0.2


@dataclass(frozen=True, eq=False)
class ConditionalFlow:
    """A trained flow p(x | c), as the weights of its best epochs; made by ``fit_flow``.

    Attributes:
        module: the flow.
        states: weights of the best epochs, the best first.
        validation_loss: mean of -log p over the held-out events in each of these epochs.
        n_epochs: epochs of the training.
    """

    module: nn.Module
    states: tuple[dict[str, Tensor], ...]
    validation_loss: tuple[float, ...]
    n_epochs: int

    def sample(self, condition: Floats, seed: int) -> Floats:
        """Draws one x of D numbers for each condition, (N, C); returns shape (N, D).

        Each epoch draws an equal share, and which events those are is random.
        """
        epoch = np.random.default_rng([seed, 17]).integers(len(self.states), size=len(condition))
        parts: dict[int, Floats] = {}
        with torch.random.fork_rng(devices=[]), one_thread(), torch.no_grad():
            torch.manual_seed(seed)
            for number in np.unique(epoch):
                self.module.load_state_dict(self.states[number])
                parts[number] = self._draw(condition[epoch == number])
        result = np.empty((len(condition), next(iter(parts.values())).shape[1]))
        for number, drawn in parts.items():
            result[epoch == number] = drawn
        return result

    def _draw(self, condition: Floats) -> Floats:
        given = torch.from_numpy(condition.astype(np.float32))
        starts = range(0, len(given), _SAMPLING_BATCH)
        drawn = [self.module(given[one : one + _SAMPLING_BATCH]).sample() for one in starts]
        return torch.cat(drawn).double().numpy()


def fit_flow(
    values: Floats, condition: Floats, seed: int, settings: FlowSettings | None = None
) -> ConditionalFlow:
    """Trains a flow on events (N, D) with conditions (N, C), in single precision on one thread.

    Raises:
        InputError: if zuko is not installed.
        RunError: if the loss is not finite.
    """
    settings = settings or FlowSettings()
    zuko = _zuko()
    order = np.random.default_rng([seed, 7]).permutation(len(values))
    n_held_out = max(1, round(settings.validation_share * len(values)))
    x, c = (torch.from_numpy(part[order].astype(np.float32)) for part in (values, condition))
    held_out, training = (x[:n_held_out], c[:n_held_out]), (x[n_held_out:], c[n_held_out:])
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        flow = {"nsf": zuko.flows.NSF, "maf": zuko.flows.MAF}[settings.kind]
        module: nn.Module = flow(
            values.shape[1],
            condition.shape[1],
            transforms=settings.transforms,
            hidden_features=settings.hidden,
        )
        return _train(module, training, held_out, settings)


def _zuko() -> Any:
    try:
        return importlib.import_module("zuko")
    except ImportError:
        raise InputError(
            "a template from the sidebands needs zuko, which is not installed; "
            "run: pip install 'hepllm[weak]'"
        ) from None


Pair = tuple[Tensor, Tensor]


def _train(
    module: nn.Module, training: Pair, held_out: Pair, settings: FlowSettings
) -> ConditionalFlow:
    optimizer = torch.optim.Adam(module.parameters(), lr=settings.rate)
    size = settings.batch or int(np.clip(len(training[0]) // 100, 256, 2048))
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=1 / 3, patience=3)
    best: list[tuple[float, int, dict[str, Tensor]]] = []
    lowest, waited, epoch = np.inf, 0, 0
    with progress_bar(settings.max_epochs, "flow", "epochs") as bar:
        while epoch < settings.max_epochs and waited < settings.patience:
            epoch += 1
            for x, c in _batches(training, size):
                optimizer.zero_grad()
                torch.autograd.backward(_loss(module, x, c))
                nn.utils.clip_grad_norm_(module.parameters(), 5.0)
                optimizer.step()
            with torch.no_grad():
                loss = float(_loss(module, *held_out))
            if not np.isfinite(loss):
                raise RunError(f"the loss of the flow is {loss} after {epoch} epochs")
            schedule.step(loss)
            best.append((loss, epoch, copy.deepcopy(module.state_dict())))
            best = sorted(best, key=lambda one: one[:2])[: settings.n_best]
            waited = 0 if loss < lowest else waited + 1
            lowest = min(lowest, loss)
            bar.update()
    losses, _, states = zip(*best, strict=True)
    return ConditionalFlow(module, tuple(states), tuple(losses), epoch)


def _batches(events: Pair, size: int) -> Iterator[Pair]:
    order = torch.randperm(len(events[0]))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield events[0][chosen], events[1][chosen]


def _loss(module: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    loss: Tensor = -module(c).log_prob(x).mean()
    return loss
