"""Opens files for Arrow by the bytes of their names.

Arrow takes a text for a URI where it can (``a:b.parquet``), and cannot encode names that are not
UTF-8.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pyarrow as pa


def open_file(path: Path, mode: Literal["rb", "wb"] = "rb") -> pa.NativeFile:
    """Opens a file of any name.

    Raises:
        OSError: the file does not exist, or may not be read or written.
    """
    return pa.OSFile(os.fsencode(path), mode)
