"""Instruments for memory on a CPU: what autograd keeps, and what is alive at the worst moment."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def saved_bytes(forward: Callable[[], Tensor], weights: Iterable[Tensor]) -> int:
    """Bytes that autograd saves for the backward pass, each storage once, weights apart."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    found: dict[int, int] = {}
    alive = []  # or a freed storage's address would be counted as known

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(found.values())


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside it and still alive.

    Attributes:
        now: bytes alive.
        peak: most bytes alive at once so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {_storage(part)._cdata for part in tree_iter((args, kwargs)) if _is_tensor(part)}
        for part in tree_iter(result):
            if _is_tensor(part) and _storage(part)._cdata not in given:
                self._add(_storage(part))
        return result

    def _add(self, storage: Any) -> None:
        if storage._cdata not in self._sizes:
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, storage._cdata)

    def _remove(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


def _is_tensor(part: Any) -> bool:
    return isinstance(part, Tensor)


def _storage(tensor: Tensor) -> Any:
    return tensor.untyped_storage()
