"""Downloads that go on where the line was cut, and what a Zenodo record says about its files."""

from __future__ import annotations

import errno
import fcntl
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
from hepllm.logs import progress_bar

logger = logging.getLogger(__name__)

_BLOCK = 1 << 14
"""Bytes that are lost at most when the line is cut."""

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "hepllm"}


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    Attributes:
        tries: without a byte between them, before it is given up.
        wait: seconds before the second try; doubled before each further one.
        longest_wait: at most so many seconds.
        timeout: seconds without an answer after which the line counts as cut.
    """

    tries: int = 6
    wait: float = 1.0
    longest_wait: float = 60.0
    timeout: float = 30.0

    def sleep(self, n_failed: int, asked: float = 0.0) -> None:
        """Waits after so many tries in vain, or as long as the server asked for."""
        time.sleep(min(max(self.wait * 2 ** (n_failed - 1), asked), self.longest_wait))


PATIENT = Patience()


@dataclass(frozen=True)
class ExpectedFile:
    """What is known of a file before it is downloaded; None where it is not known."""

    size: int | None
    checksum: str | None


def expected_file(base_url: str, record: int, name: str, patience: Patience) -> ExpectedFile:
    """Asks a Zenodo record for the size and the checksum of one of its files.

    A record that cannot be read leaves both unknown; a file that it does not have is an error.
    """
    url = f"{base_url}/api/records/{record}"
    try:
        answer = _answer_of_record(url, patience)
        listed = {entry["key"]: entry for entry in answer.json()["files"]}
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: cannot be read, so the checksum is unknown: %s", url, _cause(error))
        return ExpectedFile(None, None)
    if name not in listed:
        raise RunError(
            f"{url}: has no file {name}; there are {', '.join(sorted(listed)) or 'none'}"
        )
    checksum = listed[name].get("checksum") or ""
    is_usable = checksum.partition(":")[0] in hashlib.algorithms_guaranteed
    return ExpectedFile(listed[name].get("size"), checksum if is_usable else None)


def _answer_of_record(url: str, patience: Patience) -> requests.Response:
    """Asks again a few times where the server is busy, but not where there is no connection."""
    for n_failed in range(1, patience.tries):
        answer = requests.get(url, headers=_HEADERS, timeout=patience.timeout)
        if answer.status_code not in _TRY_AGAIN:
            break
        patience.sleep(n_failed)
    answer.raise_for_status()
    return answer


class _CutError(Exception):
    """The line was cut or the server is busy; worth another try."""

    def __init__(self, cause: str, asked: float = 0.0) -> None:
        super().__init__(cause)
        self.asked = asked


@dataclass
class Download:
    """One URL's way into a file, over a part file that a later run can continue.

    Attributes:
        part: collects the bytes; it stays when a download is given up.
        size: expected bytes; None takes the server's word.
        patience: how long to try.
        check: raises if the whole file is not what it should be.
    """

    part: Path
    size: int | None
    patience: Patience
    check: Callable[[Path], None]

    def run(self, url: str, output: Path) -> None:
        """Downloads what is missing, checks the file, and gives it its name.

        Raises:
            RunError: given up, refused, wrong, or no room on the disk. What was received is kept
                for the next run, unless it is wrong.
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
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> RunError:
        kept = self.part.stat().st_size if self.part.exists() else 0
        return RunError(
            f"{self.part}: cannot be written: {error.strerror or error}; "
            f"{kept / 1e6:.0f} MB are kept, run again to go on"
        )

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        with self.part.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(f"{self.part}: another download is at work on it") from None
            try:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            finally:
                if stream.tell() == 0:
                    self.part.unlink()

    def _fill(self, url: str, stream: IO[bytes]) -> None:
        """Asks for the missing bytes until all are there."""
        n_failed = 0
        while True:
            before = stream.tell()
            try:
                self._ask(url, stream)
            except _CutError as cut:
                n_failed = 1 if stream.tell() > before else n_failed + 1
                if n_failed >= self.patience.tries:
                    raise self._given_up(url, stream.tell(), str(cut)) from None
                logger.info("%s: %s; going on at %.1f MB", url, cut, stream.tell() / 1e6)
                self.patience.sleep(n_failed, cut.asked)
            else:
                return

    def _given_up(self, url: str, n_bytes: int, cause: str) -> RunError:
        return RunError(
            f"{url}: {cause}; given up after {self.patience.tries} tries with {n_bytes / 1e6:.1f} "
            "MB received and kept; check the network and run again to go on"
        )

    def _ask(self, url: str, stream: IO[bytes]) -> None:
        """One request for everything that is missing."""
        start = stream.tell()
        if self.size is not None and start == self.size:
            return
        headers = _HEADERS | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with requests.get(
                url, headers=headers, stream=True, timeout=self.patience.timeout
            ) as answer:
                size = self._begin(url, answer, stream)
                if size is not None:
                    self._receive(answer, stream, size)
        except requests.RequestException as error:
            raise _CutError(_cause(error)) from None

    def _begin(self, url: str, answer: requests.Response, stream: IO[bytes]) -> int | None:
        """Understands the answer's head; the whole file's size, None if nothing is missing."""
        start = stream.tell()
        if answer.status_code in _TRY_AGAIN:
            asked = answer.headers.get("Retry-After", "")
            seconds = float(asked) if asked.isdigit() else 0.0
            raise _CutError(f"HTTP {answer.status_code}", seconds)
        first, total = _content_range(answer)
        if answer.status_code == 416 and total == start:
            return None
        if start and (answer.status_code == 416 or (answer.ok and first != start)):
            stream.truncate(0)  # the server gives the whole file or none of it
            stream.seek(0)
            if answer.status_code == 416 or first != 0:
                raise _CutError("the server has another range")
        if not answer.ok:
            raise RunError(f"{url}: HTTP {answer.status_code} {answer.reason}")
        if total is None:
            total = self.size
        if total is None:
            raise RunError(
                f"{url}: the server does not tell the size, so a cut could not be noticed"
            )
        if self.size not in (None, total):
            raise RunError(f"{url}: {total} bytes, expected {self.size}")
        self._check_room(total - stream.tell())
        return total

    def _check_room(self, missing: int) -> None:
        if shutil.disk_usage(self.part.parent).free < missing:
            raise self._cannot_write(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _receive(self, answer: requests.Response, stream: IO[bytes], size: int) -> None:
        name = self.part.name.removesuffix(".part")
        with progress_bar(size // 10**6, name, unit="MB") as progress:
            for block in answer.iter_content(_BLOCK):
                stream.write(block)
                progress.update(stream.tell() // 10**6 - progress.n)
        if stream.tell() != size:
            raise _CutError(f"the line was cut after {stream.tell()} of {size} bytes")


def _content_range(answer: requests.Response) -> tuple[int | None, int | None]:
    """The first byte that an answer brings, and the whole file's size."""
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ")
    if answer.status_code in (206, 416):
        span, _, total = text.partition("/")
        first = span.partition("-")[0]
        return int(first) if first.isdigit() else None, int(total) if total.isdigit() else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _cause(error: Exception) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, requests.Timeout):
        return "no answer"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the line was cut"
    if isinstance(error, requests.ConnectionError):
        inner = error.args[0] if error.args else error
        reason = getattr(inner, "reason", inner)
        return f"no connection ({' '.join(str(reason).split())[:160]})"
    return " ".join(str(error).split())[:200]
