"""Says at once how a file is understood: what is read, derived and ignored, and doubtful units."""

from __future__ import annotations

import logging
import re

import numpy as np

from hepllm.arrays import Columns
from hepllm.config import PreprocessConfig
from hepllm.errors import nearest_name
from hepllm.physics.derivation import derive_features
from hepllm.physics.events import TabulatedEvents
from hepllm.physics.readers import EventFile
from hepllm.physics.readers.columns import listing
from hepllm.physics.readers.features import FeatureFile
from hepllm.physics.readers.hepmc import HepmcFile
from hepllm.physics.units import suspect_units
from hepllm.schema import FEATURES

logger = logging.getLogger(__name__)

_ROWS = 200
"""Rows that are looked at."""

_LIKE_A_FEATURE = re.compile(r"pt|eta|phi|p[xyz]|mass|tau|m_?j|^ht$|energy|n_?jets", re.IGNORECASE)


def report_first_rows(file: EventFile, config: PreprocessConfig) -> None:
    """Logs how the first rows of a file are understood, and warns of what looks wrong.

    Raises:
        InputError: the rows are damaged.
    """
    if isinstance(file, HepmcFile):  # states its units, and has no columns
        return
    content = file.read(0, min(_ROWS, file.n_events)).content
    for doubt in suspect_units(content, config.energy_unit, config.angle_unit):
        logger.warning("%s: %s", file.path, doubt)
    if isinstance(content, TabulatedEvents):
        logger.info("%s: read %s", file.path, what_follows(content.values))
    if isinstance(file, FeatureFile) and file.unused:
        _report_unused(file, is_chosen=config.columns is not None)


def _report_unused(file: FeatureFile, *, is_chosen: bool) -> None:
    """Lists columns that are not used; a warning where one may be a feature by another name."""
    doubtful = [name for name in file.unused if _LIKE_A_FEATURE.search(name)]
    if is_chosen or not doubtful:
        logger.info("%s: columns that are not used: %s", file.path, listing(file.unused))
        return
    shown = [f"{name}{nearest_name(name, FEATURES, 0.8)}" for name in doubtful]
    logger.warning(
        "%s: columns that are not used: %s; if they are features, map them in preprocess.columns",
        file.path,
        listing(shown),
    )


def what_follows(values: Columns) -> str:
    """What a table holds and what is derived from it, for a message."""
    length = len(next(iter(values.values())))
    derived = derive_features(TabulatedEvents(values, np.zeros(length, dtype=np.uint64)))
    new = [n for n, column in derived.items() if n not in values and not np.isnan(column).all()]
    return f"{listing(tuple(values))}; derived from them: {listing(new) or 'nothing'}"
