"""Several processes that do one training together, as torchrun starts them.

Each works on its share of every batch; gradients are summed over all of them, so that all do the
same update. What ends one of them ends all of them.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from hepllm.arrays import Floats
from hepllm.errors import HepllmError, InputError, RunError
from hepllm.executor import usable_cores
from hepllm.launcher import launched

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others: a first start may have to download a model."""

_GRACE = 10.0
"""Seconds in which the first process should tell of a failure that it has heard of."""

_BUCKET = 8 * 2**20
"""Gradient elements that are sent together: 32 MiB beside the gradients themselves."""

_LARGEST_DRIFT = 1e-3


class _LostError(RunError):
    """Another process of the training is gone."""


@dataclass(frozen=True)
class Team:
    """The processes of a training, seen from one of them; a single process is a team of one.

    Attributes:
        rank: of this process; the first, 0, alone writes files and speaks.
        size: number of processes.
        local_size: number of those on this machine.
        store: where processes leave word when they fail.
        uses_gpus: whether gradients are exchanged by NCCL.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    store: Store | None = None
    uses_gpus: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, n_items: int) -> slice:
        """This process's share of so many items; shares differ by one item at most."""
        share, more = divmod(n_items, self.size)
        start = self.rank * share + min(self.rank, more)
        return slice(start, start + share + (self.rank < more))

    def threads(self, wanted: int) -> int:
        """Threads for this process, where 0 stands for its share of the machine's cores."""
        return wanted or max(1, usable_cores() // self.local_size)

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their sums over all processes.

        Args:
            weights: the same in every process; one without a gradient, as where a process had no
                event of a small batch, counts as 0.

        Raises:
            RunError: if another process is gone.
        """
        if self.size == 1:
            return
        for bucket in _buckets(weights):
            gradients = [_gradient(weight) for weight in bucket]
            flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
            self._sum(flat)
            for gradient, total in zip(gradients, _split(flat, bucket), strict=True):
                gradient.copy_(total.view_as(gradient))

    def sum_array(self, values: Floats) -> Floats:
        """The sum of every element over all processes.

        Raises:
            RunError: if another process is gone.
        """
        if self.size == 1:
            return values
        total = torch.from_numpy(values.astype(np.float64))
        self._sum(total)
        return total.numpy()

    def first_says(self, value: float) -> float:
        """The value that the first process has, where rounding must not divide the others."""
        return float(self.sum_array(np.array([value if self.is_first else 0.0]))[0])

    def wait(self) -> None:
        """Goes on once all processes have come here."""
        self.sum_array(np.zeros(1))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Lets all processes go on, or none: an error in one of them ends the others as well.

        Raises:
            RunError: where another process failed.
        """
        error: HepllmError | None = None
        try:
            yield
        except HepllmError as caught:
            if self.size == 1:
                raise
            error = caught
        failures = self.sum_array(self._at_own_place(float(error is not None)))
        if error is not None:
            raise error
        if failures.any():
            raise self._lost(int(np.flatnonzero(failures)[0]))

    def require_same(self, texts: Mapping[str, str]) -> None:
        """Refuses to go on where processes were given different things.

        Args:
            texts: what they all must have, by what it is called.

        Raises:
            InputError: naming the process and the thing.
        """
        for name, text in texts.items():
            digest = hashlib.sha256(text.encode()).digest()
            number = float(int.from_bytes(digest[:6], "big"))  # exact in double precision
            numbers = self.sum_array(self._at_own_place(number))
            others = np.flatnonzero(numbers != numbers[0])
            if len(others):
                raise InputError(
                    f"process {others[0]} of {self.size} has another {name} than process 0; "
                    "all machines need the same command, files and versions"
                )

    def require_one_kind_of_device(self) -> None:
        """Refuses GPUs in some processes and none in others, which would wait for each other.

        Raises:
            InputError: naming a process without a GPU.
        """
        has_gpu = self.sum_array(self._at_own_place(float(self.uses_gpus)))
        if has_gpu.any() and not has_gpu.all():
            raise InputError(
                f"process {int(has_gpu.argmin())} of {self.size} has no GPU that torch can use, "
                f"and process {int(has_gpu.argmax())} has one: 'hepllm doctor' on its machine "
                "tells why; to do without GPUs, set backbone.device=cpu"
            )

    def require_same_weights(self, weights: Iterable[nn.Parameter]) -> None:
        """Ends a training whose processes no longer train the same model.

        Raises:
            RunError: in all processes, if the weights of one differ from those of the first.
        """
        if self.size == 1:
            return
        worst = 0.0
        for bucket in _buckets(weights):
            flat = torch.cat([weight.detach().reshape(-1).float() for weight in bucket])
            self._copy_from_first(flat)
            for weight, first in zip(bucket, _split(flat, bucket), strict=True):
                difference = (weight.detach().float() - first.view_as(weight)).norm()
                worst = max(worst, float(difference / first.norm().clamp(min=1e-12)))
        drifts = self.sum_array(self._at_own_place(worst))
        if not (drifts < _LARGEST_DRIFT).all():  # NaN too
            rank = int(np.argmax(drifts))
            raise RunError(
                f"the weights of process {rank} of {self.size} differ from those of process 0 "
                f"(by {drifts[rank]:.2g} of a weight's norm): all machines need the same "
                "versions; go on from the last checkpoint with: hepllm train --resume"
            )

    def leave_word(self, error: BaseException) -> bool:
        """Tells the other processes why this one ends.

        Returns:
            Whether the first process will tell the user, so that this one need not.
        """
        if self.store is None:
            return False
        try:
            if self.is_first or not isinstance(error, _LostError):
                self.store.set(_key(self.rank), str(error) or type(error).__name__)
            if not self.uses_gpus:  # NCCL might wait for ever here
                dist.destroy_process_group()  # so that those who wait for this one notice
            if not self.is_first:
                self.store.wait([_key(0)], timedelta(seconds=_GRACE))
        except (RuntimeError, ValueError):  # the first process, or its machine, is gone
            return False
        return not self.is_first

    def _at_own_place(self, value: float) -> Floats:
        values = np.zeros(self.size)
        values[self.rank] = value
        return values

    def _sum(self, tensor: Tensor) -> None:
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise self._lost(reason=error) from error

    def _copy_from_first(self, tensor: Tensor) -> None:
        try:
            dist.broadcast(tensor, src=0)
        except RuntimeError as error:
            raise self._lost(reason=error) from error

    def _lost(self, rank: int | None = None, reason: RuntimeError | None = None) -> _LostError:
        """Why another process ended, as far as it left word.

        Args:
            rank: of that process, if known.
            reason: what gloo or NCCL says, which need not be about another process.
        """
        others = [rank] if rank is not None else [r for r in range(self.size) if r != self.rank]
        limit = time.monotonic() + 1.0
        while self.store is not None and time.monotonic() < limit:
            try:
                for other in others:
                    if self.store.check([_key(other)]):
                        word = self.store.get(_key(other)).decode()
                        return _LostError(f"process {other} of {self.size} failed: {word}")
            except RuntimeError:  # the store went with the process that kept it
                break
            time.sleep(0.05)
        said = "" if reason is None else f" ({_in_short(reason)})"
        msg = (
            f"another of the {self.size} processes of this training has died without a word, or "
            f"was out of reach{said}; go on from the last checkpoint with: hepllm train --resume"
        )
        return _LostError(msg)


ALONE = Team()
"""A single process."""


@contextmanager
def join(device: str, timeout: timedelta = TIMEOUT) -> Iterator[Team]:
    """Joins the other processes that torchrun has started; without torchrun, there are none.

    All but the first process tell no more than errors, and leave those to the first where it has
    heard of them.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; a process takes the GPU of its local rank.
        timeout: after which a process that waits for the others gives up.

    Raises:
        InputError: if there are more processes than GPUs, or only some of them have a GPU.
        RunError: if another process is gone, or NCCL does not work.
    """
    place = launched()
    if place.size == 1:
        yield ALONE
        return
    if place.rank:
        for name in ("hepllm", "py.warnings"):
            logging.getLogger(name).setLevel(logging.ERROR)
    on_gpu = device != "cpu" and torch.cuda.is_available()
    words = _connect("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout)
    team = Team(place.rank, place.size, place.local_size, words, uses_gpus=on_gpu)
    try:
        team.require_one_kind_of_device()
        with team.together():
            if on_gpu:
                _take_gpu(place.local_rank)
        if on_gpu:
            _try_nccl(torch.device("cuda", place.local_rank))
        yield team
        team.wait()
    except HepllmError as error:
        if team.leave_word(error):
            raise SystemExit(error.exit_code) from None
        raise
    except BaseException as error:
        team.leave_word(error)
        raise
    dist.destroy_process_group()


def _connect(backend: str, timeout: timedelta) -> Store:
    """Finds the other processes by torchrun's variables; the store for what they tell each other.

    Raises:
        RunError: if they cannot be reached.
    """
    try:
        store, rank, size = next(rendezvous("env://", timeout=timeout))
        dist.init_process_group(
            backend,
            store=PrefixStore("training", store),
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this training do not reach each other: {error}"
        ) from error
    return PrefixStore("words", store)


def _take_gpu(number: int) -> None:
    present = torch.cuda.device_count()
    if number >= present:
        raise InputError(
            f"torchrun was told to start more than {number} processes here, but there are "
            f"{present} GPUs: use --nproc-per-node {present}, or backbone.device=cpu"
        )
    torch.cuda.set_device(number)


def _try_nccl(device: torch.device) -> None:
    """Lets NCCL connect the GPUs now, where what it says is not taken for a lost process.

    Raises:
        RunError: with what it says.
    """
    try:
        total = torch.ones(1, device=device)
        dist.all_reduce(total)
        float(total)  # waits for it
    except RuntimeError as error:
        raise RunError(
            f"NCCL cannot connect the GPUs: {_in_short(error)}; NCCL_DEBUG=INFO tells more, and "
            "'hepllm doctor' whether /dev/shm is large enough"
        ) from error


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _key(rank: int) -> str:
    return f"failed/{rank}"


def _gradient(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def _buckets(weights: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Groups of weights that are large enough to be worth a message, and no larger than need be."""
    bucket: list[nn.Parameter] = []
    for weight in weights:
        if bucket and sum(one.numel() for one in bucket) + weight.numel() > _BUCKET:
            yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket


def _split(flat: Tensor, weights: Sequence[nn.Parameter]) -> Sequence[Tensor]:
    return torch.split(flat, [weight.numel() for weight in weights])
