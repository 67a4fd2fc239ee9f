"""Suspects other units than the stated ones, by what collisions and jets can have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.config.inputs import AngleUnit, EnergyUnit
from hepllm.physics.absent import unit_of
from hepllm.physics.events import Particles, TabulatedEvents

_MOMENTA, _MASSES, _SUMS = (8.0, 2.0e4), (1.5, 1.0e4), (15.0, 5.0e4)
"""GeV; a median outside is not that of jets."""

_USUAL: Mapping[str, tuple[float, float]] = {
    **{f"jet{jet}_pt": _MOMENTA for jet in (1, 2, 3)},
    **{f"jet{jet}_mass": _MASSES for jet in (1, 2, 3)},
    **dict.fromkeys(("jet_mass_light", "jet_mass_heavy", "jet_mass_delta"), _MASSES),
    **dict.fromkeys(("m_jj", "m_jjj", "ht"), _SUMS),
}

_SMALLER: Mapping[EnergyUnit, EnergyUnit] = {"TeV": "GeV", "GeV": "MeV"}
_LARGER: Mapping[EnergyUnit, EnergyUnit] = {"MeV": "GeV", "GeV": "TeV"}

_FEWEST = 5
"""Values of which a median of masses is taken; that of momenta is telling at once."""


@dataclass(frozen=True)
class Doubt:
    """What looks as if it had another unit, and what to do about it where it is in a file."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


def suspect_units(
    content: Particles | TabulatedEvents,
    energy: EnergyUnit = "GeV",
    angle: AngleUnit = "rad",
) -> list[Doubt]:
    """What looks as if it had other units than the stated ones.

    Args:
        content: N events, read with the stated units.
        energy: the stated unit of energies.
        angle: the stated unit of angles.
    """
    if isinstance(content, Particles):
        event = content.event_of_particle()
        sums: Floats = np.bincount(event, np.nan_to_num(content.pt), len(content)).astype(
            np.float64
        )
        found = [_judge("the sum of pT", sums, _SUMS)]
        angles = {"phi": content.phi}
    else:
        values = content.values
        found = [_judge(name, values[name], _USUAL[name]) for name in _USUAL if name in values]
        angles = {name: column for name, column in values.items() if unit_of(name) == "rad"}
    return [*_together(found, energy), *_angles(angles, angle)]


def _judge(name: str, column: Floats, usual: tuple[float, float]) -> tuple[str, float, int] | None:
    """Name, median, and 1 where it is too large, -1 too small, else 0; None for too few values."""
    positive = column[np.isfinite(column) & (column > 0)]
    if len(positive) < (_FEWEST if usual is _MASSES else 1):
        return None
    median = float(np.median(positive))
    return name, median, int(median > usual[1]) - int(median < usual[0])


def _together(found: list[tuple[str, float, int] | None], unit: EnergyUnit) -> Iterator[Doubt]:
    """One doubt for all that is too large, and one for all that is too small."""
    judged = [one for one in found if one is not None]
    for size, sign, others in (("large", 1, _SMALLER), ("small", -1, _LARGER)):
        shown = [f"{name} ({median:.3g} GeV)" for name, median, side in judged if side == sign]
        if not shown:
            continue
        other = others.get(unit)
        if len(shown) < len(judged):
            remedy = "set the scale of these columns in preprocess.columns"
        elif other is not None:
            remedy = f"if the file is in {other}, give --set preprocess.energy_unit={other}"
        else:
            remedy = "see preprocess.energy_unit"
        yield Doubt(f"the median of {', '.join(shown)} is too {size} for {unit}", remedy)


def _angles(angles: Mapping[str, Floats], unit: AngleUnit) -> Iterator[Doubt]:
    flat = np.concatenate([np.empty(0), *angles.values()])
    size = np.abs(flat[np.isfinite(flat)])
    shown = ", ".join(angles)
    degrees = size[(size > 4 * np.pi) & (size <= 360)]
    if unit == "rad" and len(degrees) > 0.2 * len(size):
        what = f"{shown} up to {degrees.max():.3g}, as in degrees"
        yield Doubt(what, "give --set preprocess.angle_unit=deg")
    if unit == "deg" and len(size) >= _FEWEST and size.max() <= np.deg2rad(2 * np.pi):
        what = f"{shown} up to {np.rad2deg(size.max()):.3g}, as in radians"
        yield Doubt(what, "give --set preprocess.angle_unit=rad")
