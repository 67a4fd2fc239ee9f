"""Reads trees and RNTuples of ROOT files with uproot."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from hepllm.arrays import Floats, Ints
from hepllm.errors import InputError, nearest_name
from hepllm.physics.absent import SENTINELS
from hepllm.physics.readers.columns import listing
from hepllm.physics.readers.content import one_line
from hepllm.physics.readers.root_types import what_it_holds

_USUAL_TREES = ("Delphes", "Events")
_TREES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")
"""Classes of ROOT that hold events; uproot reads both alike."""

_INDEXED = re.compile(r"(?P<branch>.+)\[(?P<index>\d+)\]")

Jagged = tuple[Floats, Ints]
"""Flat values of all events, and their number per event."""


@dataclass(frozen=True)
class RootTree:
    """A ``ColumnTable`` in a tree or an RNTuple of a ROOT file, which each worker opens.

    Attributes:
        name: name of the tree.
        n_rows: number of entries.
        branches: full names of the branches.
    """

    path: Path
    name: str
    n_rows: int
    branches: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the branches, without those of their parent branches where that is unique."""
        short = [branch.rpartition("/")[2] for branch in self.branches]
        times = Counter(short)
        pairs = zip(short, self.branches, strict=True)
        return tuple(name if times[name] == 1 else full for name, full in pairs)

    @property
    def n_columns(self) -> int:
        """Number of branches."""
        return len(self.branches)

    def has(self, branch: str) -> bool:
        """Whether the tree has a branch of this name, which may end with an index."""
        names = {*self.names, *self.branches}
        indexed = _INDEXED.fullmatch(branch)
        return branch in names or (indexed is not None and indexed[1] in names)

    def require(self, branch: str, what: str) -> None:
        """Raises an ``InputError`` if the tree does not have a branch."""
        if not self.has(branch):
            hint = nearest_name(branch, self.names)
            raise InputError(
                f"{self.path}: no branch '{branch}' for {what} in the tree '{self.name}'{hint}; "
                f"there are {listing(self.names)}"
            )

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads branches with one number per event, shape (N, branches)."""
        places = range(self.n_columns) if columns is None else columns
        return np.stack([self.scalars(self.branches[i], start, stop) for i in places], axis=1)

    def scalars(self, branch: str, start: int, stop: int) -> Floats:
        """One number per event, shape (N,): the first of a list; NaN if the list is empty."""
        array = self._array(branch, start, stop)
        if array.ndim > 1:
            array = ak.fill_none(ak.firsts(array, axis=1), np.nan)
        return self._numbers(array, branch)

    def lists(self, branch: str, start: int, stop: int) -> Jagged:
        """A list of numbers per event; ``Jet.Tau[5][0]`` is the first of five of each jet.

        A null list is empty, and a null in a list is a sentinel: unlike NaN, which may come from a
        failed computation, it says that nothing is there.
        """
        indexed = _INDEXED.fullmatch(branch)
        inner = None
        if indexed and branch not in (*self.names, *self.branches):
            branch, inner = indexed["branch"], int(indexed["index"])
        array = self._array(branch, start, stop)
        if array.ndim != (2 if inner is None else 3):
            found = {1: "one number", 2: "one list"}.get(array.ndim, "lists of lists")
            raise InputError(
                f"{self.path}: branch '{branch}' holds {found} per event, "
                f"expected {'a list' if inner is None else f'lists for [{inner}]'}"
            )
        array = ak.fill_none(array, [], axis=0)
        counts = np.asarray(ak.num(array, axis=1), dtype=np.int64)
        flat = ak.flatten(array, axis=1)
        if inner is None:
            flat = ak.fill_none(flat, SENTINELS[-1], axis=0)
        else:
            flat = ak.fill_none(ak.pad_none(flat, inner + 1, axis=1)[:, inner], np.nan)
        return self._numbers(flat, branch), counts

    def _array(self, branch: str, start: int, stop: int) -> Any:
        full = next(
            full
            for full, name in zip(self.branches, self.names, strict=True)
            if branch in (full, name)
        )
        state = self.path.stat()
        try:
            stored = _opened(self.path, self.name, state.st_mtime_ns, state.st_size)[full]
            what = what_it_holds(stored)
            if what is None:
                return stored.array(entry_start=start, entry_stop=stop, library="ak")
        except Exception as error:  # uproot's codecs and interpretations raise many kinds
            raise InputError(
                f"{self.path}: rows {start}-{stop - 1}: branch '{branch}' cannot be read: "
                f"{one_line(error)[:200]}"
            ) from None
        raise InputError(f"{self.path}: branch '{branch}' holds {what}, expected numbers")

    def _numbers(self, array: Any, branch: str) -> Floats:
        array = ak.fill_none(array, np.nan, axis=None)
        try:
            numbers = np.asarray(ak.to_numpy(array, allow_missing=False))
        except (ValueError, TypeError):
            numbers = np.empty(0, dtype=object)
        if numbers.dtype.kind not in "iufb":  # texts and records too could become numbers
            raise InputError(f"{self.path}: branch '{branch}' does not hold numbers")
        return numbers.astype(np.float64)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, tree: str, _mtime: int, _size: int) -> Any:
    """The tree of a file, opened once per worker because a wide tree takes a second.

    uproot takes a relative path such as ``file:a.root`` for a URI.
    """
    return uproot.open(path.absolute(), num_workers=1)[tree]


def open_tree(path: Path, name: str | None, setting: str = "in preprocess.root.tree") -> RootTree:
    """Opens a tree without reading entries.

    Args:
        path: the file.
        name: name of the tree; None: the only one, or that of Delphes or NanoAOD.
        setting: where the name can be given, for the message.

    Raises:
        InputError: the file is damaged, has no such tree, or the tree is empty.
    """
    try:
        with uproot.open(path.absolute()) as file:
            _check_length(path, int(file.file.fEND))
            classes = file.classnames(cycle=False)
            name = _choose_tree(path, classes, name, setting)
            tree = file[name]
            n_rows, branches = int(tree.num_entries), tuple(tree.keys(recursive=True))
    except InputError:
        raise
    except Exception as error:  # uproot raises many kinds for damaged files
        raise InputError(f"{path}: not a readable ROOT file: {one_line(error)[:200]}") from None
    if n_rows == 0:
        raise InputError(f"{path}: there are no events in the tree '{name}'")
    return RootTree(path, name, n_rows, branches)


def _check_length(path: Path, expected: int) -> None:
    """Refuses a file that is shorter than its header states; part of it may still be readable."""
    size = path.stat().st_size
    if size < expected:
        raise InputError(f"{path}: truncated at {size} of {expected} bytes; copy it again")


def _choose_tree(path: Path, classes: dict[str, str], name: str | None, setting: str) -> str:
    trees = [key for key, kind in classes.items() if kind in _TREES]
    if not trees:
        others = listing([f"{kind} '{key}'" for key, kind in classes.items()]) or "nothing"
        raise InputError(f"{path}: no tree or RNTuple in it, but {others}")
    found = listing(trees)
    if name is not None and name not in trees:
        raise InputError(f"{path}: no tree '{name}'{nearest_name(name, trees)}; there are {found}")
    chosen = [name] if name else [tree for tree in _USUAL_TREES if tree in trees]
    if not chosen and len(trees) != 1:
        raise InputError(f"{path}: which tree? There are {found}; name one {setting}")
    return (chosen or trees)[0]
