"""Recognises the format of a file by its first bytes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hepllm.errors import InputError

_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"PAR1": "parquet",
    b"\x93NUMPY": "npy",
    b"root": "root",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"<LesHouchesEvents": "lhe",
}

_SUFFIXES = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "hdf5"),
    **dict.fromkeys((".csv", ".txt", ".tsv", ".dat"), "csv"),
    ".parquet": "parquet",
    ".npy": "npy",
    ".root": "root",
    **dict.fromkeys((".hepmc", ".hepmc2", ".hepmc3"), "hepmc"),
}

PERHAPS_EVENTS = (".txt", ".dat")
"""Endings of tables, but also of other files, that a folder of inputs may contain."""

SUFFIXES = tuple(suffix for suffix in _SUFFIXES if suffix not in PERHAPS_EVENTS)
"""Endings of the files of events in a folder of inputs."""

_NAMES = {
    "hdf5": "an HDF5 file",
    "parquet": "a Parquet file",
    "npy": "a NumPy .npy file",
    "root": "a ROOT file",
    "hepmc": "a HepMC file",
    "csv": "a text table",
}

_HDF5_OFFSETS = (0, 512, 1024, 2048)
"""Possible positions of the signature of an HDF5 file, after a user block."""


def kind_of_content(path: Path, packed: Collection[str] = ()) -> str:
    """Recognises ``hdf5``, ``parquet``, ``npy``, ``root``, ``hepmc`` or ``csv`` by the content.

    Args:
        path: the file.
        packed: kinds of compressed files that are returned too: ``gzip``, ``zip``.

    Raises:
        InputError: there is no such file, its format is unknown, or its name states another one.
    """
    if not path.is_file():
        what = "is a folder, expected a file of events" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}")
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not head:
        raise InputError(f"{path}: is empty; copy or fetch it again")
    kind = _kind_of(head)
    claimed = _SUFFIXES.get(path.suffix.lower())
    if claimed and (kind == "binary" or (kind == "csv" and claimed != "csv")):
        raise InputError(f"{path}: not {_NAMES[claimed]}, although its name says so")
    if kind not in _NAMES and kind not in packed:
        raise InputError(_describe_unread(path, kind))
    return kind


def _kind_of(head: bytes) -> str:
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.lstrip().startswith(b"HepMC::"):  # version 2 begins with an empty line
        return "hepmc"
    if any(head[offset:].startswith(b"\x89HDF\r\n\x1a\n") for offset in _HDF5_OFFSETS):
        return "hdf5"
    return "binary" if b"\x00" in head or not head.strip() else "csv"


def _describe_unread(path: Path, kind: str) -> str:
    if kind in ("gzip", "bzip2", "zip"):
        return f"{path}: compressed with {kind}, so rows cannot be located; unpack it first"
    if kind == "lhe":
        return (
            f"{path}: LHE events, whose partons have no jet substructure; "
            "shower and hadronise them first, and give the HepMC or ROOT file"
        )
    return f"{path}: unknown format; known are LHCO HDF5, ROOT, HepMC, CSV, Parquet and NPY"


def one_line(error: Exception) -> str:
    """The message of a library's error on one line."""
    return " ".join(str(error).split())


def is_number(text: str | bytes) -> bool:
    """Whether a text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
