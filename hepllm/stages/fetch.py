"""``hepllm fetch``: downloads the public LHC Olympics files from Zenodo to ``data/raw``.

An interrupted download is continued, and a file gets its name only when it is complete and correct.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hepllm.config import SignalConfig
from hepllm.data.download import PATIENT, Download, ExpectedFile, Patience, expected_file
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
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
        name: local name; its stem becomes the source's name in a dataset.
        record: number of the record, which is the end of its DOI, 10.5281/zenodo.<record>.
        remote: name in the record.
        kind: expected content.
        n_events: expected number of events.
        checksum: ``algorithm:digest``; None: as in the record.
        signal: masses and decays of its signal; None where it has none, or should stay unknown.
    """

    name: str
    record: int
    remote: str
    kind: Kind
    n_events: int
    checksum: str | None = None
    signal: SignalConfig | None = None

    def url(self, base: str) -> str:
        """URL of the file below a base such as ``https://zenodo.org``."""
        return f"{base}/records/{self.record}/files/{self.remote}?download=1"


def _blackbox(number: int, kind: Literal["events", "masterkey"]) -> RemoteFile:
    suffix = "h5" if kind == "events" else kind
    remote = f"events_LHCO2020_BlackBox{number}.{suffix}"
    return RemoteFile(f"bb{number}.{suffix}", 4536624, remote, kind, 1_000_000)


# Checksums are those in the loaders of other analyses.
_RND_V2 = "sha256:5da8fda2ca78edf8fa5acc0af92fcb6a2d464ba7bf0fd75e3944a169b88cecc6"
_RND3 = "md5:54e123a86143b668f9cb76905152a124"
_FEATURES = "md5:271cf5e71fc756b2a8d2b32730689bdb"


_TWO_PRONGS = SignalConfig()
_THREE_PRONGS = SignalConfig(decay_x="qqq", decay_y="qqq")
"""The signals of the R&D files (arXiv:2101.08320), both Z' of 3.5 TeV to 500 and 100 GeV."""


def _rnd(
    name: str, remote: str, n_events: int, checksum: str | None, kind: Kind = "events"
) -> RemoteFile:
    remote = f"events_anomalydetection{remote}.h5"
    record = 6466204 if checksum else 4536377
    signal = _THREE_PRONGS if name == "rnd3" else _TWO_PRONGS
    return RemoteFile(f"{name}.h5", record, remote, kind, n_events, checksum, signal)


SETS: Mapping[str, tuple[RemoteFile, ...]] = {
    "rnd": (_rnd("rnd", "", 1_100_000, None),),
    "rnd-v2": (_rnd("rnd-v2", "_v2", 1_100_000, _RND_V2),),
    "rnd3": (_rnd("rnd3", "_Z_XY_qqq", 100_000, _RND3),),
    "features": (_rnd("features", "_v2.features", 1_100_000, _FEATURES, "features"),),
    "bb1": (_blackbox(1, "masterkey"), _blackbox(1, "events")),
    "bb2": (_blackbox(2, "events"),),  # contains no signal and has no key
    "bb3": (_blackbox(3, "masterkey"), _blackbox(3, "events")),
}
"""The files of each name that can be fetched."""


@dataclass(frozen=True)
class FetchedFile:
    """A complete local file of ``size`` bytes; ``downloaded`` is False where it existed already.

    It agrees with the ``checksum``, which is None where none is known.
    """

    path: Path
    size: int
    checksum: str | None
    downloaded: bool

    @property
    def verification(self) -> str:
        """What was checked, in words."""
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
    """Downloads sets of files; files that exist and are correct are kept.

    Beside R&D files, ``<stem>.points.json`` says what their signal is, for training by hypotheses.

    Args:
        names: keys of ``SETS``.
        output: folder, made if it does not exist.
        base_url: Zenodo, or a mirror with the same paths.
        keys: also fetch the labels of black boxes; without them an analysis stays blind.
        overwrite: replace other files of the same name.
        patience: how often and how long to try.

    Raises:
        InputError: a name is unknown, or another file of that name exists.
        RunError: no connection, the server refuses, or the file is wrong or cannot be written.
            Received bytes are kept as ``<name>.part`` for the next try, unless they are wrong.
    """
    for name in names:
        if name not in SETS:
            raise InputError(f"'{name}' cannot be fetched; there are {', '.join(SETS)}")
    files = [file for name in names for file in SETS[name] if keys or file.kind != "masterkey"]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{output}: cannot be made: {error.strerror}") from None
    fetched = []
    for file in files:
        fetched.append(_fetch_file(file, output, base_url, overwrite, patience))
        if file.signal is not None:
            points = [SignalPoint.of(file.signal, 0, file.n_events)]
            SignalPoints(points=points).write(points_beside(output / file.name))
    return fetched


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
    """Whether an existing file is the one that would be fetched."""
    try:
        _check(path, file, expected.checksum)
    except HepllmError:
        return False
    return expected.size in (None, path.stat().st_size)


def _check(path: Path, file: RemoteFile, checksum: str | None) -> None:
    """Compares a file with its checksum, where one is known, and reads it as its kind."""
    if checksum is not None:
        algorithm, _, expected = checksum.partition(":")
        found = file_digest(path, algorithm)
        if found != expected:
            raise RunError(
                f"{file.remote}: {algorithm} {found} does not match the known {expected}; "
                "deleted, run again to download it from scratch"
            )
    try:
        if file.kind == "masterkey":
            read_masterkey(path, file.n_events)
            return
        frame = open_frame(path)
    except InputError as error:
        raise RunError(f"{file.remote}: {error}; deleted") from None
    least = LEAST_COLUMNS[file.kind]
    if frame.n_rows != file.n_events or frame.n_columns < least:
        raise RunError(
            f"{file.remote}: {frame.n_rows} rows of {frame.n_columns} columns, expected "
            f"{file.n_events} of at least {least}; deleted"
        )
