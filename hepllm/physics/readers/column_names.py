"""Reads the column names of a pandas frame, which are often stored as a pickle.

Loading a pickle may run any code, so this module only lists its instructions and takes the
constants of its innermost list as the names.
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
_IGNORED = {
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "MARK", "APPEND", "APPENDS", "LIST"),
    *("EMPTY_LIST", "FRAME", "PROTO"),
}
_ENDS = {"STOP", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BUILD"}


def items_names(axis: h5py.Dataset | None) -> list[Name] | None:
    """Names in a dataset of numbers, texts or one pickle; None if they cannot be read."""
    if axis is None or axis.ndim != 1:
        return None
    if axis.dtype.kind in "iufSU":
        return [_plain(name) for name in axis[()].tolist()]
    return pickled_names(np.asarray(axis[0]).tobytes()) if len(axis) == 1 else None


def block_names(pickled: Any) -> list[Name] | None:
    """Names in an attribute, which PyTables pickles; None if they cannot be read."""
    return None if pickled is None else pickled_names(bytes(pickled))


def pickled_names(pickled: bytes) -> list[Name] | None:
    """The texts and integers in the innermost list of a pickle, without loading it.

    Returns:
        The names; None if there is no such list, or the list holds something else.
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
            elif operation.name not in _IGNORED:
                return None
    except (ValueError, IndexError):  # not a pickle
        return None
    return names or None


def _plain(name: Any) -> Name:
    if isinstance(name, bytes):
        return name.decode(errors="replace")
    return int(name) if isinstance(name, float) and name.is_integer() else name
