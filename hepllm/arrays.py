"""Names for the NumPy arrays that function signatures speak of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Labels = NDArray[np.int8]
"""1 (signal), 0 (background) or -1 (unknown) per event."""

Digests = NDArray[np.uint64]
"""``event_digest`` per event: a hash of its content."""
