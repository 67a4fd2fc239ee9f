"""The folder of an unfinished run: finished parts, and the inputs and settings that made them.

It is beside the output as ``<output>.partial``. A part gets its name only when it is complete, and
the output gets its name only when all parts are done. Workers may write parts themselves, also on
other machines that share the file system.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hepllm.arrow_files import open_file
from hepllm.errors import InputError, RunError
from hepllm.files import beside, locked, real_path, write_aside, write_text

logger = logging.getLogger(__name__)

_CUT_FLOW = b"cut_flow"
_FINGERPRINT = "fingerprint.json"

CutFlow = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Parts:
    """The finished parts in a folder; small and picklable, so that workers can have it.

    Attributes:
        folder: the folder of the parts.
        mark: the end of their names. A worker may outlive its run by a chunk; a run with another
            mark ignores what it then writes.
    """

    folder: Path
    mark: str

    def save(self, part: str, table: pa.Table, cut_flow: CutFlow) -> None:
        """Saves a finished part, completely or not at all, even if two processes do so at once.

        Raises:
            OSError: the disk is full, or the folder does not exist.
        """
        table = table.replace_schema_metadata({_CUT_FLOW: json.dumps(list(cut_flow)).encode()})
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            write_aside(self._file(part), shared=True) as aside,
            open_file(aside, "wb") as stream,
            pa.ipc.new_file(stream, table.schema, options=options) as writer,
        ):
            writer.write_table(table)

    def cut_flow(self, part: str) -> CutFlow | None:
        """The cut flow of a finished part; None where the part is missing or damaged."""
        try:
            with open_file(self._file(part)) as stream:
                metadata = pa.ipc.open_file(stream).schema.metadata or {}
        except (OSError, pa.ArrowInvalid):
            return None
        steps = json.loads(metadata.get(_CUT_FLOW, b"null"))
        return None if steps is None else [(name, events) for name, events in steps]

    def load(self, part: str) -> pa.Table:
        """Loads the table of a finished part.

        Raises:
            RunError: the part is missing or damaged.
        """
        try:
            with open_file(self._file(part)) as stream:
                return pa.ipc.open_file(stream).read_all().replace_schema_metadata(None)
        except (OSError, pa.ArrowInvalid) as error:
            raise RunError(f"{self._file(part)}: cannot be read back: {error}; run again") from None

    def _file(self, part: str) -> Path:
        return self.folder / f"{part}-{self.mark}.arrow"


@dataclass(frozen=True)
class WorkFolder:
    """The working folder of one output; made by ``work_folder``.

    Attributes:
        folder: the working folder.
        output: the final path of the result.
        parts: the finished parts.
    """

    folder: Path
    output: Path
    parts: Parts

    @property
    def result(self) -> Path:
        """Folder where the output is assembled before ``publish``."""
        return self.folder / "result"

    def publish(self) -> None:
        """Moves the result to the output and removes the working folder."""
        if self.output.exists():
            self.output.rename(self.folder / "replaced")
        self.result.rename(self.output)
        self._remove()

    def publish_file(self) -> None:
        """The same for an output that is a file, which is in ``result`` under its final name."""
        (self.result / self.output.name).replace(self.output)
        self._remove()

    def discard(self) -> None:
        """Removes the working folder where its parts have become a result elsewhere."""
        self._remove()

    def _remove(self) -> None:
        # A worker that outlived an earlier run may add its last part during the first removal.
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def work_folder(
    output: Path, fingerprint: Mapping[str, Any], overwrite: bool, *, discard_other: bool = False
) -> Iterator[WorkFolder]:
    """Makes the working folder of an output, or continues with that of an earlier run.

    After an error, finished parts stay for the next run; without any, the folder is removed.

    Args:
        output: the final path of the result.
        fingerprint: inputs and settings, a JSON tree; parts of other inputs or settings are
            refused.
        overwrite: discard the parts of an earlier run.
        discard_other: discard parts of other inputs or settings instead of refusing them.

    Raises:
        InputError: an earlier run had other inputs or settings, which are not to be discarded.
        RunError: another process works on this output.
    """
    output = real_path(output)  # so that all is written where a link points to
    folder = beside(output, end=".partial")
    text = json.dumps(fingerprint, sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    work = WorkFolder(folder, output, Parts(folder.absolute() / "parts", mark))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"{folder}: another run is at work on this output"):
        earlier, present = _earlier_fingerprint(folder), json.loads(text)
        _prepare(work, present, earlier, overwrite or (discard_other and earlier != present))
        try:
            yield work
        finally:
            _remove_unfinished(work)  # of workers that were ended while they wrote
            n_parts = sum(1 for _ in work.parts.folder.glob("*.arrow"))
            if n_parts:
                logger.info("%s: %d finished parts kept for the next run", folder, n_parts)
            else:
                shutil.rmtree(folder, ignore_errors=True)


def _remove_unfinished(work: WorkFolder) -> None:
    for leftover in work.parts.folder.glob(".*.partial"):
        leftover.unlink(missing_ok=True)


def _earlier_fingerprint(folder: Path) -> Any:
    """Inputs and settings of the parts in a folder; None without a readable record."""
    try:
        return json.loads((folder / _FINGERPRINT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _prepare(work: WorkFolder, fingerprint: Any, earlier: Any, overwrite: bool) -> None:
    """Refuses the parts of other inputs or settings, and removes unfinished files."""
    if not overwrite and earlier is not None:
        if changed := _differences(earlier, fingerprint):
            raise InputError(
                f"{work.folder}: an unfinished run with other inputs or settings: "
                f"{'; '.join(changed[:5])}; give --overwrite to start from scratch"
            )
    else:
        shutil.rmtree(work.parts.folder, ignore_errors=True)
    work.parts.folder.mkdir(exist_ok=True)
    _remove_unfinished(work)
    shutil.rmtree(work.result, ignore_errors=True)
    work.result.mkdir()
    write_text(work.folder / _FINGERPRINT, json.dumps(fingerprint, indent=1), durable=True)


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Dotted paths that differ in two JSON trees, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{path} was {old}, is {new}"]
