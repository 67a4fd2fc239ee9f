"""Types of NumPy arrays for signatures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Columns = Mapping[str, Floats]
"""Arrays of shape (N,) by feature name."""

Labels = NDArray[np.int8]
"""1 (signal), 0 (background) or -1 (unknown) per event."""

RawLabels = NDArray[np.int16]
"""Labels of an input file: 0 background, above 0 signal (1 or 2 in black box 3)."""

Digests = NDArray[np.uint64]
"""``event_digest`` per event: a 64-bit hash of its content."""
