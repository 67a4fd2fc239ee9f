"""What stands for "nothing here" in files and arrays: the one rule for all formats.

A number is missing where it is NaN, null or masked, or one of the values that the common formats
write in its place. A particle or jet is absent where its pT is 0, as in zero-padded lists, or where
all its kinematics are missing.
"""

from __future__ import annotations

import numpy as np

from hepllm.arrays import Bools, Columns, Floats, Ints
from hepllm.schema import FEATURES, TABLE_QUANTITIES

SENTINELS = (-99.0, -999.0, -1000.0, -9999.0, -99999.0)
"""Values that stand for a missing number which could be negative."""

SENTINELS_BELOW_ZERO = (-1.0, -9.0, -10.0, *SENTINELS)
"""The same for a number that is never negative."""

_JETS = ("jet1", "jet2", "jet3")
_COMPONENTS = ("px", "py", "pz")


def is_never_negative(name: str) -> bool:
    """Whether a feature or quantity of tables cannot be below 0."""
    ends = ("_pt", "_pt_lead", "_energy", "n_particles", "n_jets")
    return name.endswith(ends) or "tau" in name or name in ("ht", "delta_r") or is_mass(name)


def is_mass(name: str) -> bool:
    """Whether a feature or quantity of tables is a mass, or a difference of ordered masses."""
    return "mass" in name or name.startswith("m_")


def unit_of(name: str) -> str:
    """Unit of a feature or quantity of tables: ``GeV``, ``rad`` or none."""
    return FEATURES[name].unit if name in FEATURES else TABLE_QUANTITIES.get(name, "")


def missing_as_nan(name: str, stored: Floats) -> Floats:
    """The stored values of a feature or quantity of tables, NaN where one stands for "missing".

    Components of momenta keep all values, because each may be negative; ``absent_as_nan`` looks at
    a jet's components together. In degrees -99 is an angle.
    """
    if name.endswith(_COMPONENTS):
        return stored
    sentinels: tuple[float, ...] = SENTINELS
    if is_never_negative(name):
        sentinels = SENTINELS_BELOW_ZERO
    elif unit_of(name) == "rad":
        sentinels = SENTINELS[1:]
    missing = np.isin(stored, sentinels)
    if name.endswith("softdrop_mass"):
        with np.errstate(invalid="ignore"):
            missing |= stored < 0  # of a jet that grooming left nothing of
    return np.where(missing, np.nan, stored) if missing.any() else stored


def absent_as_nan(stored: Columns) -> Columns:
    """The stored columns of a feature table, NaN where a number is missing or its jet is absent.

    A jet is absent where its pT is 0 or missing by a sentinel, or where px, py and pz are all 0 or
    all the same sentinel; then every quantity of it is NaN.
    """
    values = {name: missing_as_nan(name, column) for name, column in stored.items()}
    for jet in _JETS:
        absent = _is_absent(jet, stored)
        if absent is not None and absent.any():
            values |= {
                name: np.where(absent, np.nan, column)
                for name, column in values.items()
                if name.startswith(f"{jet}_")
            }
    return values


def _is_absent(jet: str, stored: Columns) -> Bools | None:
    """The mask of events without this jet; None where the table cannot tell."""
    absent: Bools | None = None
    if (pt := stored.get(f"{jet}_pt")) is not None:
        absent = np.isin(pt, (0.0, *SENTINELS_BELOW_ZERO))
    components = [stored[f"{jet}_{axis}"] for axis in _COMPONENTS if f"{jet}_{axis}" in stored]
    if len(components) == len(_COMPONENTS):
        same = np.all([component == components[0] for component in components], axis=0)
        padded = same & np.isin(components[0], (0.0, *SENTINELS))
        absent = padded if absent is None else absent | padded
    return absent


def are_there(pt: Floats, others: list[Floats], counts: Ints) -> Bools:
    """The mask of the entries of lists that are particles or jets, and not padding.

    Padding has pT 0; or a sentinel as pT, and sentinels, zeros or NaN besides; or NaN everywhere,
    at the end of a list. NaN before the end is kept, because it may be a particle that was lost.

    Args:
        pt: transverse momenta, flat, event after event, as stored.
        others: further kinematics, such as eta and phi.
        counts: number of entries per event, shape (N,).
    """
    there: Bools = pt != 0
    is_nan = np.isnan(pt)
    with np.errstate(invalid="ignore"):
        negative = pt < 0
    if negative.any():
        blank = np.isin(pt, SENTINELS)
        for values in others:
            blank &= np.isnan(values) | np.isin(values, (0.0, *SENTINELS))
        there &= ~blank
    if is_nan.any():
        nothing = is_nan & np.all([np.isnan(values) for values in others], axis=0)
        event = np.repeat(np.arange(len(counts)), counts)
        last = np.full(len(counts), -1)
        something = np.flatnonzero(~nothing)
        last[event[something]] = something  # the last of equal places is what remains
        there &= ~(nothing & (np.arange(len(pt)) > last[event]))
    return there
