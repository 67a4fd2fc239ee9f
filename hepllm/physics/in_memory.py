"""Events in memory, which pass the rules and checks of events in files.

Arrays come with option types, masks, None, padding and records in any nesting. What is absent is
taken out here, once, so that nothing else sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import vector
from scipy.sparse import issparse

from hepllm.arrays import Columns, Floats
from hepllm.config import PreprocessConfig
from hepllm.data.tables_in_memory import filled, named_columns
from hepllm.errors import InputError, nearest_name
from hepllm.physics.absent import absent_as_nan, are_there
from hepllm.physics.chunks import describe_events
from hepllm.physics.defects import describe_defects
from hepllm.physics.derivation import derivable, derive_features
from hepllm.physics.events import EventBatch, Particles, TabulatedEvents
from hepllm.physics.readers.columns import listing
from hepllm.physics.readers.features import LHCO_FEATURES
from hepllm.physics.units import suspect_units
from hepllm.schema import FEATURES, TABLE_QUANTITIES

logger = logging.getLogger(__name__)

_KINEMATICS = ("pt", "eta", "phi")

_COORDINATES = (*_KINEMATICS, "rho", "theta", "px", "py", "pz", "x", "y", "z")
"""Fields that ``vector`` takes for components of three-momenta."""


def as_particles(events: Any) -> ak.Array | None:
    """Lists of particles as one awkward array; None for events of another form.

    Particles are an awkward array of lists, a structured array of shape (N, slots), an array of
    numbers of shape (N, slots, 3), lists of lists of dicts, or a mapping with lists as pt, eta and
    phi.
    """
    if isinstance(events, ak.Array) and events.ndim != 1:
        return events
    if isinstance(events, np.ndarray):
        return _of_slots(events)
    if isinstance(events, Mapping | ak.Array) and not issparse(events):  # some are dicts of places
        names = events if isinstance(events, Mapping) else ak.fields(events)
        if set(names) >= set(_KINEMATICS) and ak.Array(events["pt"]).ndim > 1:
            return _zipped({name: events[name] for name in _KINEMATICS})
    elif isinstance(events, Sequence) and not isinstance(events, str) and _are_lists(events):
        return ak.from_iter(events)
    return None


def _of_slots(events: Any) -> ak.Array | None:
    """Lists from an array of shape (N, slots) of records, or (N, slots, 3) of numbers."""
    if events.dtype.names and events.ndim == 2:
        return _zipped({name: events[name] for name in events.dtype.names})
    if events.ndim == 3 and events.shape[2] == 3:
        numbers = filled(events)
        numbers[np.ma.getmaskarray(events).all(axis=2)] = 0  # as padding
        return _zipped(dict(zip(_KINEMATICS, np.moveaxis(numbers, 2, 0), strict=True)))
    return None


def _zipped(columns: Mapping[str, Any]) -> ak.Array:
    """Lists of records from columns of lists or from arrays of shape (N, slots)."""
    lists = {name: ak.from_regular(ak.Array(column), axis=1) for name, column in columns.items()}
    return ak.zip(lists)


def _are_lists(events: Sequence[Any]) -> bool:
    """Whether these are lists of dicts, of which some may be None or empty."""
    lists = [
        event for event in events if isinstance(event, Sequence) and not isinstance(event, str)
    ]
    records = [one for event in lists for one in event if one is not None]
    return bool(records) and all(isinstance(one, Mapping) for one in records)


def as_table(events: Any) -> Any:
    """Records as a mapping of columns; other events as they are."""
    if not isinstance(events, Sequence) or isinstance(events, str) or not events:
        return events
    if not all(isinstance(one, Mapping) for one in events):
        return events
    names = dict.fromkeys(name for one in events for name in one)
    return {str(name): [one.get(name) for one in events] for name in names}


def read_particles(events: ak.Array) -> Particles:
    """Lists of massless particles, without what is absent.

    A particle is absent where it is None or masked, and where ``are_there`` finds padding.

    Args:
        events: N lists with momenta in GeV in any coordinates of ``vector``.

    Raises:
        InputError: they are no lists of momenta, an event is None, or a particle cannot be.
    """
    if events.ndim != 2:
        raise InputError(f"expected lists of particles (2 dimensions), found {events.ndim}")
    absent = ak.to_numpy(ak.is_none(events, axis=0))
    if absent.any():
        raise InputError(
            f"None or masked events: {int(absent.sum())}, first event {int(absent.argmax())}; "
            "leave them out, as with events[~ak.is_none(events)]"
        )
    # By fields, because functions on records descend into their options in different ways.
    fields = [name for name in ak.fields(events) if name in _COORDINATES]
    if set(_KINEMATICS) <= set(fields):
        fields = list(_KINEMATICS)  # further coordinates would contradict or repeat them
    lists = {name: ak.from_regular(events[name], axis=1) for name in fields}
    flat = {name: ak.to_numpy(ak.flatten(lists[name], axis=1)) for name in fields}
    pt, eta, phi = _momenta({name: filled(values) for name, values in flat.items()}, events)
    given = ~np.all([np.ma.getmaskarray(values) for values in flat.values()], axis=0)
    counts = ak.to_numpy(ak.num(lists[fields[0]], axis=1)).astype(np.int64)
    there = given & are_there(pt, [eta, phi], counts)
    event = np.repeat(np.arange(len(counts)), counts)[there]
    kept = np.bincount(event, minlength=len(counts))
    particles = Particles(pt[there], eta[there], phi[there], kept)
    _check(particles, "events cannot be clustered")
    return particles


def describe_particles(
    events: ak.Array, settings: PreprocessConfig, constituents: int
) -> tuple[Columns, Mapping[str, pa.Array] | None]:
    """Features of clustered events, and the lists of constituents for a model that reads them.

    Args:
        events: lists of particles, as ``read_particles`` takes them.
        settings: how they are clustered.
        constituents: particles of each jet that the model reads; 0 for none.
    """
    particles = read_particles(events)
    changes = {"particles_per_jet": constituents}
    return describe_events(particles, settings.model_copy(update=changes))


def _momenta(columns: Columns, events: ak.Array) -> list[Floats]:
    """Flat pT, eta and phi from any coordinates."""
    try:
        momenta = vector.zip(dict(columns))
        return [np.asarray(getattr(momenta, name), dtype=np.float64) for name in _KINEMATICS]
    except (TypeError, AttributeError):
        raise InputError(
            "particles need three-momenta, such as the fields pt, eta, phi or px, py, pz; "
            f"found {', '.join(ak.fields(events)) or 'no fields'}"
        ) from None


def checked_columns(columns: Columns) -> Columns:
    """Columns of a table, NaN where the rule for files says that a value is missing.

    Args:
        columns: (N,) values by name in GeV and radians; names of the user's own are left alone.

    Raises:
        InputError: a value cannot be.
    """
    known = _known(columns)
    if not known:
        return columns
    content = TabulatedEvents(absent_as_nan(known), _no_digests(known))
    _check(content, "columns cannot be used")
    return {**columns, **content.values}


def checked_rows(rows: Floats, names: Sequence[str]) -> Floats:
    """As ``checked_columns`` for an array of shape (N, F) with the features ``names``.

    An array does not say what its columns are, so an impossible value is only warned of.
    """
    known = _known(dict(zip(names, rows.T, strict=True)))
    if not known:
        return rows
    values = absent_as_nan(known)
    content = TabulatedEvents(values, _no_digests(known))
    doubts = [text for text, _ in describe_defects(_batch(content))]
    doubts += [doubt.what for doubt in suspect_units(content)]
    for doubt in doubts:
        logger.warning("events: %s; are the columns %s?", doubt, ", ".join(names))
    return np.column_stack([values.get(name, rows[:, i]) for i, name in enumerate(names)])


def features_of_table(table: Any, names: Sequence[str], wanted: Sequence[str]) -> Columns:
    """The features of a table in memory, read and completed as those of a file.

    Args:
        table: columns of numbers in GeV and radians, by the names of features, of quantities from
            which features follow, or of the user's own.
        names: names of its columns.
        wanted: names of the features that are needed.

    Returns:
        The wanted features, shape (N,), NaN where missing.

    Raises:
        InputError: a value cannot be, or a feature is neither given nor follows from what is.
    """
    read = [name for name in names if _quantity(name) or name in wanted]
    given = {_quantity(name) or name: column for name, column in named_columns(table, read).items()}
    _refuse_missing([name for name in wanted if name not in given], read, names)
    columns = checked_columns(given)
    known = _known(columns)
    derived = derive_features(TabulatedEvents(known, _no_digests(known))) if known else {}
    found = {**columns, **derived}
    follow, unused = set(wanted) - set(columns), set(names) - set(read)
    if follow or unused:
        logger.info(
            "derived: %s; not used: %s",
            listing(sorted(follow)) or "nothing",
            listing(sorted(unused)) or "nothing",
        )
    return {name: found[name] for name in wanted}


def _quantity(name: str) -> str | None:
    """The feature or quantity of tables that a column of this name holds."""
    stored = LHCO_FEATURES.get(name, name)
    return stored if stored in FEATURES or stored in TABLE_QUANTITIES else None


def _known(columns: Columns) -> Columns:
    return {name: column for name, column in columns.items() if _quantity(name) == name}


def _refuse_missing(missing: Sequence[str], read: Sequence[str], names: Sequence[str]) -> None:
    """Raises an ``InputError`` for features that do not follow from the columns that are read."""
    follows = derivable(stored for name in read if (stored := _quantity(name)))
    lost = [name for name in missing if name not in follows]
    if lost:
        hints = [name if name in read else f"{name}{nearest_name(name, lost)}" for name in names]
        raise InputError(
            f"no columns for the model's features {', '.join(lost)}, which do not follow from "
            f"{listing(hints) or 'no columns'}; give NaN where a feature is not known"
        )


def _no_digests(columns: Columns) -> Any:
    return np.zeros(len(next(iter(columns.values()), ())), dtype=np.uint64)


def _batch(content: Particles | TabulatedEvents) -> EventBatch:
    n_events = len(content)
    return EventBatch(np.arange(n_events), content, np.full(n_events, np.nan), np.ones(n_events))


def _check(content: Particles | TabulatedEvents, what: str) -> None:
    """Refuses impossible values, and warns where units look wrong.

    Raises:
        InputError: a value cannot be.
    """
    doubts = [f"{doubt.what}, but GeV and radians are expected" for doubt in suspect_units(content)]
    if defects := describe_defects(_batch(content)):
        first = min(int(np.argmax(events)) for _, events in defects)
        found = ", ".join(text for text, _ in defects)
        raise InputError("; ".join([f"{what}: {found}, first in event {first}", *doubts]))
    for doubt in doubts:
        logger.warning("%s", doubt)
