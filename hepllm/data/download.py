"""Downloads that continue after an interruption, and sizes and checksums from Zenodo records."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests

from hepllm.errors import HepllmError, RunError
from hepllm.files import locked
from hepllm.logs import progress_bar

logger = logging.getLogger(__name__)

_BLOCK = 1 << 14
"""Bytes per block; at most one block is lost when the connection is interrupted."""

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "hepllm"}


@dataclass(frozen=True)
class Patience:
    """How often and how long to try a download.

    Attributes:
        tries: maximum number of consecutive tries without a received byte.
        wait: seconds before the second try, doubled before each further try.
        longest_wait: maximum wait in seconds.
        timeout: seconds without an answer after which a try has failed.
    """

    tries: int = 6
    wait: float = 1.0
    longest_wait: float = 60.0
    timeout: float = 30.0

    def sleep(self, n_failed: int, asked: float = 0.0) -> None:
        """Waits after ``n_failed`` tries, or for the ``asked`` seconds of the server if longer."""
        time.sleep(min(max(self.wait * 2 ** (n_failed - 1), asked), self.longest_wait))


PATIENT = Patience()


@dataclass(frozen=True)
class ExpectedFile:
    """Size in bytes and checksum of a file that is to be downloaded; None where unknown."""

    size: int | None
    checksum: str | None


def expected_file(base_url: str, record: int, name: str, patience: Patience) -> ExpectedFile:
    """Reads size and checksum of a file from a Zenodo record; unknown if that cannot be read.

    Raises:
        RunError: the record does not have the file.
    """
    url = f"{base_url}/api/records/{record}"
    try:
        answer = _answer_of_record(url, patience)
        listed = {entry["key"]: entry for entry in answer.json()["files"]}
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: cannot be read, so the checksum is unknown: %s", url, _cause(error))
        return ExpectedFile(None, None)
    if name not in listed:
        raise RunError(f"{url}: no file {name}; there are {', '.join(sorted(listed)) or 'none'}")
    checksum = listed[name].get("checksum") or ""
    is_usable = checksum.partition(":")[0] in hashlib.algorithms_guaranteed
    return ExpectedFile(listed[name].get("size"), checksum if is_usable else None)


def _answer_of_record(url: str, patience: Patience) -> requests.Response:
    """Tries again while the server is busy, but not without a connection."""
    for n_failed in range(1, patience.tries):
        answer = requests.get(url, headers=_HEADERS, timeout=patience.timeout)
        if answer.status_code not in _TRY_AGAIN:
            break
        patience.sleep(n_failed)
    answer.raise_for_status()
    return answer


class _CutError(Exception):
    """The connection was interrupted or the server is busy; another try may succeed."""

    def __init__(self, cause: str, asked: float = 0.0) -> None:
        super().__init__(cause)
        self.asked = asked


@dataclass
class Download:
    """The download of one URL to a part file, which a later run can continue.

    Attributes:
        part: file of the received bytes; it stays when the download fails.
        size: expected bytes; None: as the server says.
        patience: how often and how long to try.
        check: raises ``HepllmError`` if the complete file is wrong.
    """

    part: Path
    size: int | None
    patience: Patience
    check: Callable[[Path], None]

    def run(self, url: str, output: Path) -> None:
        """Downloads the missing bytes, checks the file, and moves it to ``output``.

        Raises:
            RunError: the download failed, the file is wrong, or the disk is full. Received bytes
                are kept for the next run, unless the file is wrong.
        """
        try:
            with self._locked() as stream:
                self._fill(url, stream)
            try:
                self.check(self.part)
            except HepllmError:
                self.part.unlink()
                raise
            self.part.replace(output)
        except OSError as error:
            kept = self.part.stat().st_size if self.part.exists() else 0
            raise RunError(
                f"{self.part}: cannot be written: {error.strerror or error}; "
                f"{kept / 1e6:.0f} MB are kept; run again to continue"
            ) from None

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        refusal = f"{self.part}: another download is at work on it"
        with self.part.open("ab") as stream, locked(self.part, refusal):
            try:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            finally:
                if stream.tell() == 0:
                    self.part.unlink()

    def _fill(self, url: str, stream: IO[bytes]) -> None:
        """Requests the missing bytes until all are received."""
        n_failed = 0
        while True:
            before = stream.tell()
            try:
                self._ask(url, stream)
            except _CutError as cut:
                n_failed = 1 if stream.tell() > before else n_failed + 1
                megabytes = stream.tell() / 1e6
                if n_failed >= self.patience.tries:
                    raise RunError(
                        f"{url}: {cut}; given up after {n_failed} tries with {megabytes:.1f} MB "
                        "received and kept; check the network and run again to continue"
                    ) from None
                logger.info("%s: %s; continuing at %.1f MB", url, cut, megabytes)
                self.patience.sleep(n_failed, cut.asked)
            else:
                return

    def _ask(self, url: str, stream: IO[bytes]) -> None:
        """Makes one request for all missing bytes."""
        start = stream.tell()
        if start == self.size:
            return
        headers = _HEADERS | ({"Range": f"bytes={start}-"} if start else {})
        timeout = self.patience.timeout
        try:
            with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
                size = self._begin(url, answer, stream)
                if size is not None:
                    self._receive(answer, stream, size)
        except requests.RequestException as error:
            raise _CutError(_cause(error)) from None

    def _begin(self, url: str, answer: requests.Response, stream: IO[bytes]) -> int | None:
        """Reads the answer's headers; returns the file's size, or None if nothing is missing."""
        start = stream.tell()
        if answer.status_code in _TRY_AGAIN:
            asked = answer.headers.get("Retry-After", "")
            seconds = float(asked) if asked.isdigit() else 0.0
            raise _CutError(f"HTTP {answer.status_code}", seconds)
        first, total = _content_range(answer)
        if answer.status_code == 416 and total == start:
            return None
        if start and (answer.status_code == 416 or (answer.ok and first != start)):
            stream.truncate(0)  # the server sends only whole files
            stream.seek(0)
            if answer.status_code == 416 or first != 0:
                raise _CutError("the server has another range")
        if not answer.ok:
            raise RunError(f"{url}: HTTP {answer.status_code} {answer.reason}")
        if total is None:
            total = self.size
        if total is None:
            raise RunError(f"{url}: size unknown, so an incomplete file could not be recognised")
        if self.size not in (None, total):
            raise RunError(f"{url}: {total} bytes, expected {self.size}")
        if shutil.disk_usage(self.part.parent).free < total - stream.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return total

    def _receive(self, answer: requests.Response, stream: IO[bytes], size: int) -> None:
        name = self.part.name.removesuffix(".part")
        with progress_bar(size // 10**6, name, unit="MB") as progress:
            for block in answer.iter_content(_BLOCK):
                stream.write(block)
                progress.update(stream.tell() // 10**6 - progress.n)
        if stream.tell() != size:
            raise _CutError(f"interrupted after {stream.tell()} of {size} bytes")


def _content_range(answer: requests.Response) -> tuple[int | None, int | None]:
    """Position of the first byte in an answer, and the size of the whole file."""
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ")
    if answer.status_code in (206, 416):
        span, _, total = text.partition("/")
        first = span.partition("-")[0]
        return int(first) if first.isdigit() else None, int(total) if total.isdigit() else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _cause(error: Exception) -> str:
    """The reason of a failure in a few words."""
    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was interrupted"
    if isinstance(error, requests.ConnectionError):
        inner = error.args[0] if error.args else error
        reason = getattr(inner, "reason", inner)
        return f"no connection ({' '.join(str(reason).split())[:160]})"
    return " ".join(str(error).split())[:200]
