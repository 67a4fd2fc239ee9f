"""What the numbers of a branch are by its C++ type: values, or codes and bits of other things."""

from __future__ import annotations

import re
from typing import Any

from uproot.models.RNTuple import RField
from uproot.streamers import Model_TStreamerBasicType

_NUMBER = re.compile(
    r"((un)?signed |short |long )*(char|short|int|long|bool|float|double|(un)?signed)( int)?"
    r"|(std::)?\w+_t"
)
"""Types of C++ and names of typedefs, such as ``unsigned int``, ``std::uint8_t`` and ``Int_t``."""

_BITSET = re.compile(r"\bbitset\s*<")
_BITS = 15
"""``TStreamerInfo::kBits``, the type of the bits of a TObject."""


def what_it_holds(branch: Any) -> str | None:
    """What a branch or field holds, if not numbers: ``codes of the enumeration Process``.

    uproot gives codes of an enumeration as integers and a set of bits as a list of truth values;
    what a code or a bit means is known only to the program that wrote it.
    """
    if _BITSET.search(branch.typename):
        return f"bits ({branch.typename})"
    if isinstance(branch, RField):
        return _what_a_field_holds(branch.ntuple.field_records, branch.field_id)
    streamer = branch.streamer
    if not isinstance(streamer, Model_TStreamerBasicType):
        return None
    if streamer.fType % 20 == _BITS:
        return "bits of a TObject"
    return None if _NUMBER.fullmatch(streamer.typename) else _enumeration(streamer.typename)


def _what_a_field_holds(records: list[Any], place: int) -> str | None:
    """The same of a field of an RNTuple or one below it.

    An enumeration is a leaf whose one inner leaf has the integers, as of ``std::atomic``.
    """
    record = records[place]
    inner = [i for i, one in enumerate(records) if one.parent_field_id == place != i]
    if record.type_name == "std::byte":
        return "bytes (std::byte)"
    is_leaf = record.struct_role == 0 and record.repetition == 0
    if is_leaf and len(inner) == 1 and not record.type_name.startswith("std::"):
        return _enumeration(record.type_name)
    found = (_what_a_field_holds(records, one) for one in inner)
    return next((what for what in found if what is not None), None)


def _enumeration(name: str) -> str:
    return f"codes of the enumeration {name}"
