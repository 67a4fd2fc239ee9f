"""The folder of a run that is not complete: finished parts, and what they were made from.

It stands beside the output as ``<output>.partial``. Parts are renamed into place when they are
whole, so one that is there is good; the output appears by a rename when everything is done.
Workers may write parts themselves, also on other machines that share the file system.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from hepllm.errors import InputError, RunError
from hepllm.files import write_aside, write_text

logger = logging.getLogger(__name__)

_CUT_FLOW = b"cut_flow"

CutFlow = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Parts:
    """The finished parts in a folder; small and picklable, so that workers can have it.

    Attributes:
        folder: where they lie.
        mark: ends their names. A worker may outlive its run by a chunk; what it then writes does
            not count for a run with another mark.
    """

    folder: Path
    mark: str

    def save(self, part: str, table: pa.Table, cut_flow: CutFlow) -> None:
        """Keeps a finished part: it is there whole or not at all, even if two write it at once.

        Raises:
            OSError: the disk is full, or the folder is not there.
        """
        table = table.replace_schema_metadata({_CUT_FLOW: json.dumps(list(cut_flow)).encode()})
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            write_aside(self._file(part), shared=True) as aside,
            pa.OSFile(str(aside), "wb") as stream,
            pa.ipc.new_file(stream, table.schema, options=options) as writer,
        ):
            writer.write_table(table)

    def cut_flow(self, part: str) -> CutFlow | None:
        """The cut flow of a finished part; None where the part is missing or damaged."""
        try:
            with pa.OSFile(str(self._file(part))) as stream:
                metadata = pa.ipc.open_file(stream).schema.metadata or {}
        except (OSError, pa.ArrowInvalid):
            return None
        steps = json.loads(metadata.get(_CUT_FLOW, b"null"))
        return None if steps is None else [(name, events) for name, events in steps]

    def load(self, part: str) -> pa.Table:
        """A finished part's table."""
        try:
            with pa.OSFile(str(self._file(part))) as stream:
                return pa.ipc.open_file(stream).read_all().replace_schema_metadata(None)
        except (OSError, pa.ArrowInvalid) as error:
            raise RunError(f"{self._file(part)}: cannot be read back: {error}; run again") from None

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}-{self.mark}.arrow"


class WorkFolder:
    """Parts of an output that is being made; a context manager.

    Leaving it on an error keeps finished parts for the next run; with none, nothing is left.

    Attributes:
        folder: the working folder.
        parts: what is finished.
        result: where the output is put together before ``publish``.
    """

    def __init__(self, output: Path, fingerprint: Mapping[str, Any], overwrite: bool) -> None:
        """Names the folder; entering makes it or takes it up again.

        Args:
            output: where the result will stand.
            fingerprint: inputs and settings, a JSON tree; parts made from others are refused.
            overwrite: discard parts of an earlier run.
        """
        self.folder = output.with_name(output.name + ".partial")
        self.result = self.folder / "result"
        self._output = output
        text = json.dumps(fingerprint, sort_keys=True)
        self._fingerprint = json.loads(text)
        mark = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.parts = Parts(self.folder.absolute() / "parts", mark)
        self._overwrite = overwrite
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._take_up()
        except BaseException:
            self._release_lock()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.folder.exists():
            n_parts = sum(1 for _ in self.parts.folder.glob("*.arrow"))
            if n_parts == 0:
                shutil.rmtree(self.folder, ignore_errors=True)
            elif error is not None:
                logger.info("%s: %d finished parts kept for the next run", self.folder, n_parts)
        self._release_lock()

    def cut_flow(self, part: str) -> CutFlow | None:
        """The cut flow of a finished part; None where the part is missing or damaged."""
        return self.parts.cut_flow(part)

    def save(self, part: str, table: pa.Table, cut_flow: CutFlow) -> None:
        """Keeps a finished part."""
        self.parts.save(part, table, cut_flow)

    def load(self, part: str) -> pa.Table:
        """A finished part's table."""
        return self.parts.load(part)

    def publish(self) -> None:
        """Puts the result in the output's place, and the working folder away."""
        if self._output.exists():
            self._output.rename(self.folder / "replaced")
        self.result.rename(self._output)
        self._put_away()

    def publish_file(self) -> None:
        """The same for an output that is a file, which stands in ``result`` under its own name."""
        (self.result / self._output.name).replace(self._output)
        self._put_away()

    def _put_away(self) -> None:
        # A worker that outlived an earlier run may put its last part in just now.
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take_up(self) -> None:
        record = self.folder / "fingerprint.json"
        if not self._overwrite and record.is_file():
            self._refuse_changes(json.loads(record.read_text(encoding="utf-8")))
        else:
            shutil.rmtree(self.parts.folder, ignore_errors=True)
        self.parts.folder.mkdir(exist_ok=True)
        for leftover in self.parts.folder.glob(".*.partial"):
            leftover.unlink(missing_ok=True)
        shutil.rmtree(self.result, ignore_errors=True)
        self.result.mkdir()
        write_text(record, json.dumps(self._fingerprint, indent=1), durable=True)

    def _refuse_changes(self, earlier: Any) -> None:
        changed = list(_differences(earlier, self._fingerprint))
        if changed:
            raise InputError(
                f"{self.folder}: an unfinished run with other inputs or settings: "
                f"{'; '.join(changed[:5])}; give --overwrite to start anew"
            )

    def _take_lock(self) -> None:
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._release_lock()
            raise RunError(f"{self.folder}: another run is at work on this output") from None

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Dotted paths that differ in two JSON trees, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{path} was {old}, is {new}"]
