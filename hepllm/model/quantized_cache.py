"""Keeps copies of quantised models on disk, so that only the first start quantises the model.

A copy is a model folder and a record, written last, with its origin and the digests of its files.
There is one copy per model, device and precision; another version of the weights or of a library
replaces it.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from transformers import PreTrainedModel

from hepllm.files import file_digest

LOG = logging.getLogger(__name__)

_RECORD = "quantized.json"
_MODEL_FILES = (".safetensors", ".bin", ".gguf", ".json")
_SHARD = "1GB"  # size of the part that the machine's memory holds while a copy is written
_RESERVE = 2**28
"""Bytes that must stay free on the disk beside a copy."""
_LONGEST_WRITE = 3600.0
"""Seconds without a write after which an unfinished copy is abandoned."""


def model_identity(
    source: str, *, local_files_only: bool = False, **_: Any
) -> dict[str, Any] | None:
    """Identifies the present state of a model's files.

    Args:
        source: a folder, or a name on the model hub.
        local_files_only: whether to ask the cache alone; further options of the loaders of
            transformers change nothing.

    Returns:
        The folder with names, sizes and times of its files, or the hub's name and commit; None
        if the commit is unknown.

    Raises:
        OSError: if there is no such model.
    """
    folder = Path(source)
    if folder.is_dir():
        files = sorted(file for file in folder.iterdir() if file.suffix in _MODEL_FILES)
        stats = [(file.name, file.stat()) for file in files]
        return {
            "folder": str(folder.resolve()),
            "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
        }
    # The cache has a folder for each commit: .../snapshots/<commit>/config.json
    file = Path(hf_hub_download(source, "config.json", local_files_only=local_files_only))
    is_commit = re.fullmatch(r"[0-9a-f]{40}", file.parent.name) is not None
    return {"hub": source, "commit": file.parent.name} if is_commit else None


class QuantizedCache:
    """Finds and saves the quantised copy of one model.

    Args:
        folder: folder of all copies.
        name: name of this copy's folder.
        origin: JSON tree of what the copy is made from; a copy of another origin is stale.
    """

    def __init__(self, folder: Path, name: str, origin: Mapping[str, Any]) -> None:
        self._place = folder / re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
        self._origin = json.loads(json.dumps(origin))

    def find(self) -> Path | None:
        """Returns the copy's folder; None, with a log line, if the copy is stale or damaged."""
        if not self._place.is_dir():
            return None
        try:
            record = json.loads((self._place / _RECORD).read_text(encoding="utf-8"))
            origin, digests = record["origin"], dict(record["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            LOG.warning("%s: its record is not readable: quantising again", self._place)
            return None
        if origin != self._origin:
            LOG.info("%s: from other weights or versions: quantising again", self._place)
            return None
        for name, expected in digests.items():
            if _digest(self._place / name) != expected:
                LOG.warning("%s: damaged: quantising again", self._place / name)
                return None
        return self._place

    def save(self, model: PreTrainedModel) -> None:
        """Saves a complete copy; if the disk is full, warns and saves none.

        Args:
            model: quantised, without LoRA weights.
        """
        needed = sum(value.nbytes for value in model.state_dict().values())
        aside: Path | None = None
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self._place.parent)
            _check_room(self._place.parent, needed)
            aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=self._place.parent))
            self._write(model, aside)
            self._put_in_place(aside)
        except (OSError, SafetensorError) as error:
            LOG.warning(
                "%s: cannot keep the quantised weights; the next start quantises again: %s",
                self._place,
                " ".join(str(error).split()),
            )
        else:
            LOG.info("kept the quantised weights in %s (%.2f GiB)", self._place, needed / 2**30)
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)

    def _write(self, model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(folder, max_shard_size=_SHARD)
        digests = {file.name: _digest(file) for file in sorted(folder.iterdir())}
        record = {"origin": self._origin, "sha256": digests}
        (folder / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _put_in_place(self, aside: Path) -> None:
        if self.find() is not None:  # another process has made it, and may read it now
            return
        if self._place.is_dir():  # stale or damaged; a process that reads it keeps its open files
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=self._place.parent))
            self._place.rename(old / "copy")
            shutil.rmtree(old, ignore_errors=True)
        try:
            aside.rename(self._place)
        except OSError:
            if not (self._place / _RECORD).is_file():  # else another process has just made it
                raise


def _remove_leftovers(folder: Path) -> None:
    """Removes unfinished copies of killed processes, unless another process may still write."""
    limit = time.time() - _LONGEST_WRITE
    for aside in (*folder.glob(".aside-*"), *folder.glob(".old-*")):
        with suppress(FileNotFoundError):  # its process has just finished
            if max(file.stat().st_mtime for file in (aside, *aside.rglob("*"))) < limit:
                shutil.rmtree(aside, ignore_errors=True)


def _check_room(folder: Path, needed: int) -> None:
    """Raises OSError if a copy would fill the disk."""
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE:
        raise OSError(
            errno.ENOSPC, f"{needed / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB are free"
        )


def _digest(file: Path) -> str | None:
    """Returns the SHA-256 of a file; None if it cannot be read."""
    try:
        return file_digest(file)
    except OSError:
        return None
