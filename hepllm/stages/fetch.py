"""``hepllm fetch``: the public LHC Olympics files from Zenodo into ``data/raw``.

A download goes on where it was cut, and a file takes its name only when it is whole and right.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hepllm.data.download import PATIENT, Download, ExpectedFile, Patience, expected_file
from hepllm.errors import HepllmError, InputError, RunError
from hepllm.files import file_digest
from hepllm.physics.readers.frames import open_frame
from hepllm.physics.readers.masterkey import read_masterkey

logger = logging.getLogger(__name__)

ZENODO = "https://zenodo.org"

Kind = Literal["events", "features", "masterkey"]

LEAST_COLUMNS: Mapping[Kind, int] = {"events": 2100, "features": 14}
"""700 x (pT, eta, phi), or momentum, mass and tau1..3 of two jets; a label may follow."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a Zenodo record.

    Attributes:
        name: what it is called here; its stem becomes the source's name in a dataset.
        record: number of the record, which is the end of its DOI, 10.5281/zenodo.<record>.
        remote: what it is called there.
        kind: what must be in it.
        n_events: how many events that are.
        checksum: ``algorithm:digest`` where one is known from elsewhere; else the record is asked.
    """

    name: str
    record: int
    remote: str
    kind: Kind
    n_events: int
    checksum: str | None = None

    def url(self, base: str) -> str:
        """Where it lies below a base such as ``https://zenodo.org``."""
        return f"{base}/records/{self.record}/files/{self.remote}?download=1"


def _blackbox(number: int) -> RemoteFile:
    remote = f"events_LHCO2020_BlackBox{number}.h5"
    return RemoteFile(f"bb{number}.h5", 4536624, remote, "events", 1_000_000)


def _key(number: int) -> RemoteFile:
    remote = f"events_LHCO2020_BlackBox{number}.masterkey"
    return RemoteFile(f"bb{number}.masterkey", 4536624, remote, "masterkey", 1_000_000)


# Checksums are those under which these files are known in other analyses' loaders.
SETS: Mapping[str, tuple[RemoteFile, ...]] = {
    "rnd": (RemoteFile("rnd.h5", 4536377, "events_anomalydetection.h5", "events", 1_100_000),),
    "rnd-v2": (
        RemoteFile(
            "rnd-v2.h5",
            6466204,
            "events_anomalydetection_v2.h5",
            "events",
            1_100_000,
            "sha256:5da8fda2ca78edf8fa5acc0af92fcb6a2d464ba7bf0fd75e3944a169b88cecc6",
        ),
    ),
    "rnd3": (
        RemoteFile(
            "rnd3.h5",
            6466204,
            "events_anomalydetection_Z_XY_qqq.h5",
            "events",
            100_000,
            "md5:54e123a86143b668f9cb76905152a124",
        ),
    ),
    "features": (
        RemoteFile(
            "features.h5",
            6466204,
            "events_anomalydetection_v2.features.h5",
            "features",
            1_100_000,
            "md5:271cf5e71fc756b2a8d2b32730689bdb",
        ),
    ),
    "bb1": (_key(1), _blackbox(1)),
    "bb2": (_blackbox(2),),  # holds no signal and has no key
    "bb3": (_key(3), _blackbox(3)),
}
"""What can be fetched, and the files that belong to it."""


@dataclass(frozen=True)
class FetchedFile:
    """A file that is there now.

    Attributes:
        path: where.
        size: in bytes.
        checksum: what it was compared with; None where nobody stated one.
        downloaded: False where it had been there already.
    """

    path: Path
    size: int
    checksum: str | None
    downloaded: bool

    @property
    def verification(self) -> str:
        """How it is known to be right, in words."""
        if self.checksum is None:
            return "checksum unknown, size and format checked"
        return f"{self.checksum.partition(':')[0]} checked"


def fetch(
    names: Sequence[str],
    output: Path,
    *,
    base_url: str = ZENODO,
    keys: bool = True,
    overwrite: bool = False,
    patience: Patience = PATIENT,
) -> list[FetchedFile]:
    """Downloads sets of files; what is there and right is left alone.

    Args:
        names: keys of ``SETS``.
        output: folder, made if it is not there.
        base_url: Zenodo, or a mirror with the same paths.
        keys: take the labels of black boxes too; without them an analysis stays blind.
        overwrite: replace other files of the same name.
        patience: how long to try.

    Raises:
        InputError: an unknown name, or another file of that name is there.
        RunError: no connection, the server refuses, the file is wrong or cannot be written; what
            was received is kept beside as ``<name>.part`` for the next try, unless it is wrong.
    """
    files = [file for name in names for file in _files_of(name) if keys or file.kind != "masterkey"]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{output}: cannot be made: {error.strerror}") from None
    return [_fetch_file(file, output, base_url, overwrite, patience) for file in files]


def _files_of(name: str) -> tuple[RemoteFile, ...]:
    if name not in SETS:
        raise InputError(f"'{name}' cannot be fetched; there are {', '.join(SETS)}")
    return SETS[name]


def _fetch_file(
    file: RemoteFile, output: Path, base_url: str, overwrite: bool, patience: Patience
) -> FetchedFile:
    path = output / file.name
    expected = ExpectedFile(None, file.checksum)
    if expected.checksum is None:
        expected = expected_file(base_url, file.record, file.remote, patience)
    if path.exists():
        if _is_right(path, file, expected):
            return FetchedFile(path, path.stat().st_size, expected.checksum, downloaded=False)
        if not overwrite:
            raise InputError(
                f"{path}: exists and is not {file.remote} of Zenodo record {file.record}; "
                "give --overwrite to replace it, or another --output"
            )
    download = Download(
        part=path.with_name(f"{path.name}.part"),
        size=expected.size,
        patience=patience,
        check=functools.partial(_check, file=file, checksum=expected.checksum),
    )
    download.run(file.url(base_url), path)
    return FetchedFile(path, path.stat().st_size, expected.checksum, downloaded=True)


def _is_right(path: Path, file: RemoteFile, expected: ExpectedFile) -> bool:
    """Whether a file that is there already is the one that would be fetched."""
    try:
        _check(path, file, expected.checksum)
    except HepllmError:
        return False
    return expected.size in (None, path.stat().st_size)


def _check(path: Path, file: RemoteFile, checksum: str | None) -> None:
    """Compares a file with its checksum, where one is known, and opens it as its kind."""
    if checksum is not None:
        algorithm, _, expected = checksum.partition(":")
        found = file_digest(path, algorithm)
        if found != expected:
            raise RunError(
                f"{file.remote}: {algorithm} {found} does not match the known {expected}; "
                "thrown away, run again to download it anew"
            )
    _check_format(path, file)


def _check_format(path: Path, file: RemoteFile) -> None:
    """Opens a file as its kind."""
    try:
        if file.kind == "masterkey":
            read_masterkey(path, file.n_events)
            return
        frame = open_frame(path)
    except InputError as error:
        raise RunError(f"{file.remote}: {error}; thrown away") from None
    least = LEAST_COLUMNS[file.kind]
    if frame.n_rows != file.n_events or frame.n_columns < least:
        raise RunError(
            f"{file.remote}: {frame.n_rows} rows of {frame.n_columns} columns, expected "
            f"{file.n_events} of at least {least}; thrown away"
        )
