"""Copies of quantised models on disk, so that only the first start reads and quantises the whole.

A copy is a model folder with a record of what it was made from and of its files' digests, written
last. There is one for each model, device and precision; another version of the weights or of a
library replaces it.
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

from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel

from hepllm.files import file_digest

LOG = logging.getLogger(__name__)

_RECORD = "quantized.json"
_MODEL_FILES = (".safetensors", ".bin", ".gguf", ".json")
_SHARD = "1GB"  # a shard at a time lies in the machine's memory while a copy is written
_RESERVE = 2**28
"""Bytes that must stay free on the disk beside a copy."""
_LONGEST_WRITE = 3600.0
"""Seconds after which a copy to which nothing was added belongs to nobody."""


def model_identity(source: str) -> dict[str, Any] | None:
    """What tells one state of a model's files from another.

    Args:
        source: a folder, or a name on the model hub.

    Returns:
        The folder with names, sizes and times of its files, or the hub's name and commit; None
        where the commit is not known.

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
    commit = getattr(
        AutoConfig.from_pretrained(source, trust_remote_code=False), "_commit_hash", None
    )
    return {"hub": source, "commit": commit} if commit else None


class QuantizedCache:
    """The place of one model's quantised copy.

    Args:
        folder: of all copies.
        name: of the copy's own folder.
        origin: what the copy is made from, a JSON tree; a copy made from anything else is stale.
    """

    def __init__(self, folder: Path, name: str, origin: Mapping[str, Any]) -> None:
        self._place = folder / re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
        self._origin = json.loads(json.dumps(origin))

    def find(self) -> Path | None:
        """The copy's folder; None where there is none, or it is stale or damaged, which is told."""
        if not self._place.is_dir():
            return None
        try:
            record = json.loads((self._place / _RECORD).read_text(encoding="utf-8"))
            origin, digests = record["origin"], dict(record["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            LOG.warning("%s: its record is not readable: quantising anew", self._place)
            return None
        if origin != self._origin:
            LOG.info("%s: from other weights or versions: quantising anew", self._place)
            return None
        for name, expected in digests.items():
            if _digest(self._place / name) != expected:
                LOG.warning("%s: damaged: quantising anew", self._place / name)
                return None
        return self._place

    def save(self, model: PreTrainedModel) -> None:
        """Puts a copy in place, whole or not at all; a disk that is full only costs the copy.

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
                "%s: the quantised weights cannot be kept, the next start quantises again: %s",
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
        if self.find() is not None:  # made by another process meanwhile, which may read it
            return
        if self._place.is_dir():  # stale or damaged; a process that reads it keeps its open files
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=self._place.parent))
            self._place.rename(old / "copy")
            shutil.rmtree(old, ignore_errors=True)
        try:
            aside.rename(self._place)
        except OSError:
            if not (self._place / _RECORD).is_file():  # not made by another process meanwhile
                raise


def _remove_leftovers(folder: Path) -> None:
    """Removes what processes left that were killed; what is young may be another's work."""
    limit = time.time() - _LONGEST_WRITE
    for aside in (*folder.glob(".aside-*"), *folder.glob(".old-*")):
        with suppress(FileNotFoundError):  # its process has just finished
            if max(file.stat().st_mtime for file in (aside, *aside.rglob("*"))) < limit:
                shutil.rmtree(aside, ignore_errors=True)


def _check_room(folder: Path, needed: int) -> None:
    """Refuses to fill a disk.

    Raises:
        OSError: saying what is missing.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE:
        raise OSError(
            errno.ENOSPC, f"{needed / 2**30:.2f} GiB are needed and {free / 2**30:.2f} GiB are free"
        )


def _digest(file: Path) -> str | None:
    """SHA-256 of a file; None where it cannot be read."""
    try:
        return file_digest(file)
    except OSError:
        return None
