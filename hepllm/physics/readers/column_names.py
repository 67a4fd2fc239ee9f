"""Names of a pandas frame's columns, which it often keeps as a pickle.

A pickle is a program that may run any code, so none is ever run here: its instructions are listed,
and the constants of its one list are taken for the names.
"""

from __future__ import annotations

import pickletools
from typing import Any

import h5py
import numpy as np

Name = str | int

_CONSTANTS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_SILENT = {
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "MARK", "APPEND", "APPENDS", "LIST"),
    *("EMPTY_LIST", "FRAME", "PROTO"),
}
_ENDS = {"STOP", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BUILD"}


def frame_names(group: h5py.Group) -> list[Name] | None:
    """Names of a fixed frame's columns in order; None where they cannot be read."""
    return items_names(group.get("axis0"))


def items_names(axis: h5py.Dataset | None) -> list[Name] | None:
    """Names that stand in a dataset, as numbers, text or a pickle."""
    if axis is None or axis.ndim != 1:
        return None
    if axis.dtype.kind in "iuf":
        return [_plain(name) for name in axis[()].tolist()]
    if axis.dtype.kind in "SU":
        return [_plain(name) for name in axis[()].tolist()]
    if len(axis) != 1:
        return None
    return pickled_names(np.asarray(axis[0]).tobytes())


def block_names(pickled: Any) -> list[Name] | None:
    """Names that stand in an attribute, which PyTables pickles."""
    return None if pickled is None else pickled_names(bytes(pickled))


def pickled_names(pickled: bytes) -> list[Name] | None:
    """The texts and integers of the innermost list of a pickle, which is not run.

    Returns:
        The names; None where there is no such list, or something else is in it.
    """
    names: list[Name] | None = None
    try:
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name in ("LIST", "EMPTY_LIST"):
                names = []
            elif names is None:
                continue
            elif operation.name in _CONSTANTS:
                names.append(_plain(argument))
            elif operation.name in _ENDS:
                return names or None
            elif operation.name not in _SILENT:
                return None
    except (ValueError, IndexError):  # not a pickle
        return None
    return names or None


def _plain(name: Any) -> Name:
    if isinstance(name, bytes):
        return name.decode(errors="replace")
    return int(name) if isinstance(name, float) and name.is_integer() else name
