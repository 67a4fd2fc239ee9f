"""Says at once how a file is understood: what is read, derived and ignored, and doubtful units."""

from __future__ import annotations

import logging
import re

from hepllm.config import PreprocessConfig
from hepllm.errors import nearest_name
from hepllm.physics.derivation import derivable
from hepllm.physics.events import TabulatedEvents
from hepllm.physics.readers import EventFile
from hepllm.physics.readers.columns import listing
from hepllm.physics.readers.features import FeatureFile
from hepllm.physics.readers.hepmc import HepmcFile
from hepllm.physics.readers.lhco import LhcoFile
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
    first = _unselected(file).read(0, min(_ROWS, file.n_events))
    for doubt in suspect_units(first.content, config.energy_unit, config.angle_unit):
        logger.warning("%s: %s", file.path, doubt)
    if isinstance(first.content, TabulatedEvents):
        given = list(first.content.values)
        follows = [name for name in derivable(given) if name not in given]
        read = listing(file.described) if isinstance(file, FeatureFile) else listing(given)
        logger.info(
            "%s: read %s; derived from them: %s", file.path, read, listing(follows) or "nothing"
        )
    if isinstance(file, FeatureFile) and file.unused:
        _report_unused(file, is_chosen=config.columns is not None)


def _unselected(file: EventFile) -> EventFile:
    """The same file with all of its jets: in another unit, none may pass the selection."""
    if isinstance(file, FeatureFile | LhcoFile):
        return file
    from hepllm.physics.readers.root import RootFile  # noqa: PLC0415 (uproot loads slowly)

    return file.unselected() if isinstance(file, RootFile) else file


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
