"""What the values stored in HDF5 mean: numbers, codes of numbers, or nothing that is a number.

Pandas and PyTables store categories, times and truth values as integers, and say so beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5t

from hepllm.arrays import Floats

_NOT_NUMBERS = re.compile(r"category|datetime|timedelta|period|interval|date|time|str|bytes|object")
"""Kinds of values in the attributes that pandas writes; older versions wrote them as pickles."""

_SCALES = ("scale_factor", "add_offset")

_MISSING_CATEGORY = -1
"""The code that pandas stores where there is no category."""


@dataclass(frozen=True)
class StoredValues:
    """How stored values become numbers.

    Attributes:
        refusal: what they are, if not numbers: ``texts``.
        codes: the number that each stored code stands for; None: stored values are the numbers.
    """

    refusal: str | None = None
    codes: tuple[tuple[int, float], ...] | None = None

    def decode(self, values: Any) -> Floats:
        """Numbers of stored values, of the same shape; NaN where missing.

        Raises:
            ValueError: a stored code stands for no number.
        """
        if self.codes is None:
            return np.asarray(values, dtype=np.float64)
        codes, numbers = (np.array(side) for side in zip(*self.codes, strict=True))
        values = np.asarray(values).astype(np.int64)
        place = np.minimum(np.searchsorted(codes, values), len(codes) - 1)
        unknown = codes[place] != values
        if unknown.any():
            raise ValueError(f"the code {values[unknown][0]} stands for no number")
        decoded: Floats = numbers[place].astype(np.float64)
        return decoded


def values_of_block(stored: h5py.Dataset) -> StoredValues:
    """What a block of a frame in fixed format holds."""
    return _values(stored.id.get_type(), stored.attrs, [stored.attrs.get("value_type")])


def values_of_field(group: h5py.Group, field: str) -> StoredValues:
    """What a field of the records of ``group/table`` holds, in table format."""
    table = group["table"]
    kind = table.id.get_type()
    kind = kind.get_member_type(kind.get_member_index(field.encode()))
    stated = [table.attrs.get(f"{field}_{what}") for what in ("dtype", "meta")]
    if "category" in _text(stated[1]):
        return _categories(group, field)
    return _values(kind, table.attrs, stated)


def _values(kind: Any, attributes: Mapping[str, Any], stated: list[Any]) -> StoredValues:
    for name in map(_text, stated):
        if found := _NOT_NUMBERS.search(name):
            return StoredValues(_called(found[0]))
    if scale := next((name for name in _SCALES if name in attributes), None):
        return StoredValues(f"integers to be scaled by the attribute '{scale}'")
    return _values_of_type(kind.get_super() if isinstance(kind, h5t.TypeArrayID) else kind)


def _values_of_type(kind: Any) -> StoredValues:
    if isinstance(kind, h5t.TypeEnumID):
        return _enumeration(kind)
    if isinstance(kind, h5t.TypeIntegerID | h5t.TypeFloatID):
        return StoredValues()
    if isinstance(kind, h5t.TypeBitfieldID) and kind.get_size() == 1:  # PyTables' truth values
        return _of_codes({0: 0.0, 1: 1.0})
    what = {
        h5t.TypeBitfieldID: "bit fields",
        h5t.TypeStringID: "texts",
        h5t.TypeCompoundID: "complex numbers" if kind.dtype.kind == "c" else "records",
    }
    return StoredValues(what.get(type(kind), "objects"))


def _enumeration(kind: h5t.TypeEnumID) -> StoredValues:
    """Codes whose names are numbers or truth values; other names say nothing of numbers."""
    names = [kind.get_member_name(i) for i in range(kind.get_nmembers())]
    truth = {b"FALSE": b"0", b"TRUE": b"1"}
    try:
        numbers = [float(truth.get(name.upper(), name)) for name in names]
    except ValueError:
        listed = ", ".join(name.decode(errors="replace") for name in names[:8])
        return StoredValues(f"codes of the enumeration {listed}")
    return _of_codes({kind.get_member_value(i): number for i, number in enumerate(numbers)})


def _categories(group: h5py.Group, field: str) -> StoredValues:
    """The categories, which are a series in table format below ``meta``."""
    path = f"meta/{field}/meta"
    meta = group.get(path)
    table = meta.get("table") if isinstance(meta, h5py.Group) else None
    if not isinstance(table, h5py.Dataset) or "values" not in (table.dtype.names or ()):
        return StoredValues(f"codes of categories, which '{group.name}/{path}' lacks")
    values = values_of_field(meta, "values")
    stored = table["values"]
    if values.refusal is not None:
        shown = ""
        if stored.dtype.kind == "S":
            texts = [text.decode(errors="replace") for text in stored[:8].tolist()]
            shown = f" ({', '.join(texts)})"
        return StoredValues(f"categories that are {values.refusal}{shown}")
    try:
        numbers = values.decode(stored)
    except ValueError as error:
        return StoredValues(f"categories of which {error}")
    return _of_codes({_MISSING_CATEGORY: np.nan, **dict(enumerate(numbers.tolist()))})


def _of_codes(codes: Mapping[int, float]) -> StoredValues:
    return StoredValues(codes=tuple(sorted(codes.items())))


def _text(attribute: Any) -> str:
    if attribute is None or isinstance(attribute, h5py.Empty):
        return ""
    if isinstance(attribute, bytes):
        return attribute.decode(errors="replace")
    return str(attribute)


def _called(kind: str) -> str:
    if kind in ("str", "bytes"):
        return "texts"
    if kind == "object":
        return "objects"
    return "categories" if kind == "category" else f"times ({kind})"
