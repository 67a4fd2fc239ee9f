"""UMAP (McInnes et al., arXiv:1802.03426), for a picture: it shows clusters that are not there.

``umap-learn`` is an extra, and has this module as its one importer.
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np

from hepllm.arrays import Floats
from hepllm.errors import InputError

UMAP = "umap"
"""Value of ``clusters.picture``."""


def require_umap() -> None:
    """Raises InputError where umap-learn is not installed."""
    if importlib.util.find_spec("umap") is None:
        raise InputError(
            "clusters.picture=umap needs umap-learn: install the extra 'hepllm[umap]', or leave "
            "clusters.picture=components"
        )


def umap_places(values: Floats, seed: int) -> Floats:
    """Places of N events in a picture, shape (N, 2), from coordinates of shape (N, D)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # that TensorFlow is missing, for other uses
        import umap  # noqa: PLC0415 (an extra, which takes seconds to import)

    reducer = umap.UMAP(n_components=2, random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(values), dtype=np.float64)
