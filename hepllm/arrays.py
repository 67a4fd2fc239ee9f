"""Names for the NumPy arrays that function signatures speak of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Columns = Mapping[str, Floats]
"""One array of shape (N,) per feature, by its name."""

Labels = NDArray[np.int8]
"""1 (signal), 0 (background) or -1 (unknown) per event."""

RawLabels = NDArray[np.int16]
"""Labels as a file has them: 0 background, above 0 signal (in black box 3, 1 or 2)."""

Digests = NDArray[np.uint64]
"""``event_digest`` per event: a hash of its content."""
