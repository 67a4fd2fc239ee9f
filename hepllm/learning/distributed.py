"""Trains in several processes together, as torchrun starts them.

Each process works on its share of every batch. Gradients are summed over all processes, so that
all do the same update. An error in one process ends all of them.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from hepllm.arrays import Floats
from hepllm.errors import HepllmError, InputError, RunError
from hepllm.executor import resolve_threads, usable_cores
from hepllm.launcher import launched

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others; a first start may download a model."""

_GRACE = 10.0
"""Seconds within which the first process reports the failure of another one."""

_BUCKET = 8 * 2**20
"""Gradient elements that are sent together: 32 MiB beside the gradients themselves."""

_LARGEST_DRIFT = 1e-3


class _LostError(RunError):
    """Another process of the training is gone."""


@dataclass(frozen=True)
class Team:
    """The processes of a training, seen from one of them; a single process is a team of one.

    Attributes:
        rank: number of this process; only the first, 0, writes files and logs.
        size: number of processes.
        local_size: number of processes on this machine.
        store: shared store for the reasons of failures.
        uses_gpus: whether NCCL exchanges the gradients.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    store: Store | None = None
    uses_gpus: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def part(self, n_items: int) -> slice:
        """Returns this process's share of the items; shares differ by at most one item."""
        share, more = divmod(n_items, self.size)
        start = self.rank * share + min(self.rank, more)
        return slice(start, start + share + (self.rank < more))

    def threads(self, wanted: int) -> int:
        """Returns the threads of this process; for 0, its share of the machine's cores.

        A process alone takes ``OMP_NUM_THREADS``; for several, torchrun sets it to 1 itself.
        """
        if self.size == 1:
            return resolve_threads(wanted)
        return wanted or max(1, usable_cores() // self.local_size)

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their sums over all processes.

        Args:
            weights: the same weights in every process; a missing gradient counts as 0, since a
                process may have no event of a small batch.

        Raises:
            RunError: if another process is gone.
        """
        if self.size == 1:
            return
        for bucket in _buckets(weights):
            gradients = [_gradient(weight) for weight in bucket]
            flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
            self._exchange(dist.all_reduce, flat)
            for gradient, total in zip(gradients, _split(flat, bucket), strict=True):
                gradient.copy_(total.view_as(gradient))

    def sum_array(self, values: Floats) -> Floats:
        """Returns the sum of each element over all processes.

        Raises:
            RunError: if another process is gone.
        """
        if self.size == 1:
            return values
        total = torch.from_numpy(values.astype(np.float64))
        self._exchange(dist.all_reduce, total)
        return total.numpy()

    def first_says(self, value: float) -> float:
        """Returns the value of the first process, so that rounding cannot differ between them."""
        return float(self.sum_array(np.array([value if self.is_first else 0.0]))[0])

    def wait(self) -> None:
        """Waits until all processes have called this."""
        self.sum_array(np.zeros(1))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Runs the ``with`` block in all processes; an error in one of them ends all.

        Raises:
            RunError: if another process failed.
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
        """Checks that all processes have the same texts.

        Args:
            texts: texts to compare, by the name for the message.

        Raises:
            InputError: if one differs; names the process and the text.
        """
        for name, text in texts.items():
            digest = hashlib.sha256(text.encode()).digest()
            number = float(int.from_bytes(digest[:6], "big"))  # exact in double precision
            numbers = self.sum_array(self._at_own_place(number))
            others = np.flatnonzero(numbers != numbers[0])
            if len(others):
                raise InputError(
                    f"process {others[0]} of {self.size} has another {name} than process 0; "
                    "use the same command, files and versions on all machines"
                )

    def require_one_kind_of_device(self) -> None:
        """Checks that all processes have a GPU or none has; a mixture would wait for ever.

        Raises:
            InputError: if only some have a GPU.
        """
        has_gpu = self.sum_array(self._at_own_place(float(self.uses_gpus)))
        if has_gpu.any() and not has_gpu.all():
            raise InputError(
                f"process {int(has_gpu.argmin())} of {self.size} has no GPU that torch can use, "
                f"and process {int(has_gpu.argmax())} has one: 'hepllm doctor' on its machine "
                "explains why; to use no GPU, set backbone.device=cpu"
            )

    def require_same_weights(self, weights: Iterable[nn.Parameter]) -> None:
        """Checks that all processes still train the same model.

        Raises:
            RunError: in all processes, if the weights of one differ from those of the first.
        """
        if self.size == 1:
            return
        worst = 0.0
        for bucket in _buckets(weights):
            flat = torch.cat([weight.detach().reshape(-1).float() for weight in bucket])
            self._exchange(partial(dist.broadcast, src=0), flat)
            for weight, first in zip(bucket, _split(flat, bucket), strict=True):
                difference = (weight.detach().float() - first.view_as(weight)).norm()
                worst = max(worst, float(difference / first.norm().clamp(min=1e-12)))
        drifts = self.sum_array(self._at_own_place(worst))
        if not (drifts < _LARGEST_DRIFT).all():  # NaN too
            rank = int(np.argmax(drifts))
            raise RunError(
                f"the weights of process {rank} of {self.size} differ from those of process 0 "
                f"(by {drifts[rank]:.2g} of a weight's norm): use the same versions on all "
                "machines; continue from the last checkpoint with: hepllm train --resume"
            )

    def leave_word(self, error: BaseException) -> bool:
        """Tells the other processes why this one ends.

        Returns:
            Whether the first process reports the error to the user.
        """
        if self.store is None:
            return False
        try:
            if self.is_first or not isinstance(error, _LostError):
                self.store.set(_key(self.rank), str(error) or type(error).__name__)
            if not self.uses_gpus:  # NCCL might wait for ever here
                dist.destroy_process_group()  # ends the waiting of other processes
            if not self.is_first:
                self.store.wait([_key(0)], timedelta(seconds=_GRACE))
        except (RuntimeError, ValueError):  # the first process, or its machine, is gone
            return False
        return not self.is_first

    def _at_own_place(self, value: float) -> Floats:
        values = np.zeros(self.size)
        values[self.rank] = value
        return values

    def _exchange(self, operation: Callable[[Tensor], object], tensor: Tensor) -> None:
        try:
            operation(tensor)
        except RuntimeError as error:
            raise self._lost(reason=error) from error

    def _lost(self, rank: int | None = None, reason: RuntimeError | None = None) -> _LostError:
        """Makes the error for another process that ended, with its reason if it left one.

        Args:
            rank: number of that process, if known.
            reason: error of gloo or NCCL, which may have another cause.
        """
        others = [rank] if rank is not None else [r for r in range(self.size) if r != self.rank]
        limit = time.monotonic() + 1.0
        while self.store is not None and time.monotonic() < limit:
            try:
                for other in others:
                    if self.store.check([_key(other)]):
                        word = self.store.get(_key(other)).decode()
                        return _LostError(f"process {other} of {self.size} failed: {word}")
            except RuntimeError:  # the process that kept the store is gone
                break
            time.sleep(0.05)
        said = "" if reason is None else f" ({_in_short(reason)})"
        return _LostError(
            f"another of the {self.size} processes of this training ended without a reason, or "
            f"is out of reach{said}; continue from the last checkpoint with: hepllm train --resume"
        )


ALONE = Team()
"""A single process."""


@contextmanager
def join(device: str, timeout: timedelta = TIMEOUT) -> Iterator[Team]:
    """Joins the other processes that torchrun has started; without torchrun, there are none.

    Processes other than the first log only errors, and only those that the first does not report.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; a process uses the GPU of its local rank.
        timeout: longest time that a process waits for the others.

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
    reasons = _connect("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout)
    team = Team(place.rank, place.size, place.local_size, reasons, uses_gpus=on_gpu)
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
    """Connects to the other processes by torchrun's variables; returns a store for failures.

    Raises:
        RunError: if they cannot be reached.
    """
    try:
        store, rank, size = next(rendezvous("env://", timeout=timeout))
        own = PrefixStore("training", store)
        dist.init_process_group(backend, timeout=timeout, world_size=size, rank=rank, store=own)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"the processes of this training cannot reach each other: {error}"
        ) from error
    return PrefixStore("words", store)


def _take_gpu(number: int) -> None:
    present = torch.cuda.device_count()
    if number >= present:
        raise InputError(
            f"torchrun started more than {number} processes on this machine, which has "
            f"{present} GPUs: use --nproc-per-node {present}, or backbone.device=cpu"
        )
    torch.cuda.set_device(number)


def _try_nccl(device: torch.device) -> None:
    """Lets NCCL connect the GPUs now, so that later errors mean a lost process.

    Raises:
        RunError: with the error of NCCL.
    """
    try:
        total = torch.ones(1, device=device)
        dist.all_reduce(total)
        float(total)  # waits for the result
    except RuntimeError as error:
        raise RunError(
            f"NCCL cannot connect the GPUs: {_in_short(error)}; set NCCL_DEBUG=INFO for details, "
            "and check with 'hepllm doctor' that /dev/shm is large enough"
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
    """Groups weights into messages of at most ``_BUCKET`` elements, or of one larger weight."""
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
