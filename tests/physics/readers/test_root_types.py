"""Trees of other classes, and branches whose numbers are codes or bits of something else.

uproot writes neither, so its writer is led to write the bytes that ROOT writes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from uproot import streamers
from uproot.writing import _cascadentuple, _cascadetree
from uproot.writing._cascade import RawStreamerInfo

from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.events import TabulatedEvents
from hepllm.physics.readers import open_event_file
from hepllm.physics.readers.root_types import what_it_holds
from hepllm.physics.readers.trees import RootTree

N = 6
KIND = np.array([2, 1, 2, 1, 2, 1], dtype="i4")


def _counted(version: int, content: bytes) -> bytes:
    return struct.pack(">IH", len(content) + 2 | 0x4000_0000, version) + content


def _object(name: str, content: bytes) -> bytes:
    content = b"\xff\xff\xff\xff" + name.encode() + b"\x00" + content
    return struct.pack(">I", len(content) | 0x4000_0000) + content


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _element(name: str, title: str, code: int, size: int, kind: str) -> bytes:
    named = _counted(1, b"\x00\x01" + bytes(4) + b"\x03\x00\x00\x00" + _text(name) + _text(title))
    return _counted(4, named + struct.pack(">2i7i", code, size, *[0] * 7) + _text(kind))


def _streamer_of_ntuple(class_name: str) -> bytes:
    """The class as ROOT describes it in a file: a TTree and the number of its columns."""
    base = _counted(3, _element("TTree", "Tree descriptor", 0, 0, "BASE") + b"\x00\x00\x00\x14")
    member = _counted(2, _element("fNvar", "Number of columns", 3, 4, "int"))
    elements = _object("TStreamerBase", base) + _object("TStreamerBasicType", member)
    listed = b"\x00\x01" + bytes(8) + b"\x00" + struct.pack(">2i", 2, 0) + elements
    named = _counted(1, b"\x00\x01" + bytes(4) + b"\x03\x01\x00\x00" + _text(class_name) + b"\x00")
    content = named + struct.pack(">Ii", 0x7A4A7A4A, 2)
    content += _object("TObjArray", _counted(3, listed))
    return _object("TStreamerInfo", _counted(9, content)) + b"\x00"  # its option in the list


@pytest.fixture(params=["TNtuple", "TNtupleD"])
def ntuple(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file with an n-tuple of ROOT: an object that begins with a TTree."""
    build, header = _cascadetree.Tree._build_out, 6

    def build_out(self: Any) -> list[bytes]:
        out: list[bytes] = build(self)
        refs = [datum["tleaf_reference_number"] for datum in self._branch_data]
        place = out.index(np.array(refs, ">u4").tobytes())
        out[place] = np.array([ref + header for ref in refs], ">u4").tobytes()
        self._metadata_start += header
        for datum in self._branch_data:
            datum["metadata_start"] += header
            datum["basket_metadata_start"] += header
            datum["tleaf_reference_number"] += header
        content = b"".join(out) + struct.pack(">i", len(refs))
        return [_counted(2, content)]

    def mktree(file: Any, columns: dict[str, Any]) -> None:
        directory = file._cascading
        add = type(directory).add_object

        def add_object(self: Any, sink: Any, kind: str, *rest: Any, **more: Any) -> Any:
            return add(self, sink, request.param if kind == "TTree" else kind, *rest, **more)

        monkeypatch.setattr(type(directory), "add_object", add_object)
        tree = file.mktree("ntuple", {name: values.dtype for name, values in columns.items()})
        tree.extend(columns)
        raw = _streamer_of_ntuple(request.param)
        described = RawStreamerInfo(None, raw, request.param, 2)
        file.file._cascading.streamers.update_streamers(file.file.sink, [described])

    monkeypatch.setattr(_cascadetree.Tree, "_build_out", build_out)
    columns = {"m_jj": np.linspace(3000, 3500, N).astype("f4"), "label": np.arange(N) % 2}
    with uproot.recreate(tmp_path / "a.root") as file:
        mktree(file, {name: column.astype("f4") for name, column in columns.items()})
    return tmp_path / "a.root"


def test_ntuples_of_root_are_read(ntuple: Path) -> None:
    with uproot.open(ntuple) as file:
        assert file.classnames(cycle=False)["ntuple"].startswith("TNtuple")
        assert file["ntuple"].member("fNvar") == 2
    file = open_event_file(ntuple)
    batch = file.read(1, N)
    assert batch.label_raw.tolist() == [1, 0, 1, 0, 1]
    assert isinstance(batch.content, TabulatedEvents)
    assert batch.content.values["m_jj"].tolist() == [3100, 3200, 3300, 3400, 3500]


@pytest.fixture
def fields(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An RNTuple with fields of an enumeration, of bits, of bytes and of an atomic number."""
    build = _cascadentuple.NTuple_Header._build_field_col_records
    described = _cascadentuple.NTuple_Field_Description

    def build_records(self: Any, form: Any, field_name: str, **more: Any) -> None:
        first = len(self._field_records)
        build(self, form, field_name=field_name, **more)
        record = self._field_records[first]
        match field_name:
            case "process" | "atomic":  # a leaf whose inner leaf has the column
                record.type_name = {"process": "Process"}.get(field_name, "std::atomic<int>")
                self._field_records.append(described(first, 0, "_0", "std::int32_t"))
                self._column_records[-1].field_id = first + 1
            case "bits":  # the column belongs to the field itself
                record.type_name = "std::bitset<3>"
                del self._field_records[first + 1 :]
                self._column_records[-1].field_id = first
            case "byte":
                record.type_name = "std::byte"

    monkeypatch.setattr(_cascadentuple.NTuple_Header, "_build_field_col_records", build_records)
    bits = ak.to_regular(ak.Array([[True, False, False]] * N))
    content = {"m_jj": KIND * 1000.0, "process": KIND, "atomic": KIND, "byte": KIND.astype("u1")}
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("Events", {**content, "bits": bits})
    return tmp_path / "a.root"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("process", "codes of the enumeration Process"),
        ("bits", r"bits \(std::bitset<3>\)"),
        ("byte", r"bytes \(std::byte\)"),
    ],
)
def test_codes_and_bits_of_fields_are_no_numbers(field: str, found: str, fields: Path) -> None:
    config = PreprocessConfig(columns={"m_jj": "m_jj"}, label=field)
    with pytest.raises(InputError, match=f"branch '{field}' holds {found}, expected numbers"):
        open_event_file(fields, config).read(0, N)
    config = PreprocessConfig(columns={"m_jj": "m_jj"}, label="atomic")
    assert open_event_file(fields, config).read(0, N).label_raw.tolist() == KIND.tolist()


def _member(kind: str, code: int) -> Any:
    """A branch of a member of a class, as uproot describes it."""
    streamer = streamers.Model_TStreamerBasicType.empty()
    streamer._members.update(fTypeName=kind, fType=code, fName="x")
    return SimpleNamespace(typename="int32_t", streamer=streamer)


@pytest.mark.parametrize(
    ("kind", "code", "found"),
    [
        ("Event::Process", 3, "codes of the enumeration Event::Process"),
        ("Event::Process", 23, "codes of the enumeration Event::Process"),  # an array of them
        ("unsigned int", 15, "bits of a TObject"),
        *((kind, 3, None) for kind in ("int", "Int_t", "std::int8_t", "unsigned long long")),
        *((kind, 13, None) for kind in ("UInt_t", "unsigned int", "size_t", "unsigned")),
    ],
)
def test_members_of_classes(kind: str, code: int, found: str | None) -> None:
    assert what_it_holds(_member(kind, code)) == found


def test_bits_of_a_class_of_the_standard_library() -> None:
    branch = SimpleNamespace(typename="std::bitset<16>", streamer=None)
    assert what_it_holds(branch) == "bits (std::bitset<16>)"


class _Fake(RootTree):
    """A tree with a branch that uproot reads but cannot write."""

    def __init__(self, array: Any) -> None:
        super().__init__(Path("fake.root"), "t", N, ("x",))
        object.__setattr__(self, "array", array)

    def _array(self, branch: str, start: int, stop: int) -> Any:
        return self.array[start:stop]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "array",
    [
        ak.Array([{"fDatime": 7}] * N),  # TDatime: NumPy makes a number of a record of one
        ak.Array([{"fNbits": 8, "fAllBits": [1]}] * N),  # TBits
        ak.Array(["1"] * N),
    ],
)
def test_records_and_texts_are_no_numbers(array: Any) -> None:
    with pytest.raises(InputError, match=r"branch 'x' does not hold numbers"):
        _Fake(array).scalars("x", 0, N)
