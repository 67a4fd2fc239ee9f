"""The checks that events must pass, the same for particles, jets and feature tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from hepllm.arrays import Bools, Columns, Floats, Ints
from hepllm.physics.absent import is_mass, is_never_negative, unit_of
from hepllm.physics.events import Defects, EventBatch, Particles, TabulatedEvents

MAX_ABS_ETA = 20.0
"""Beyond it, the energy of a massless particle is too large for exact clustering."""

MAX_PT = 1.0e5
"""GeV; more than the energy of any collision, so a larger value is a defect of the file."""

_MAX_RATIO = 100.0
"""Of N-subjettiness ratios, which hardly exceed 1."""

_ROUNDING = 5.0
"""GeV; a mass that is less negative comes from rounding, which single precision makes of E - p."""

_RATIO = re.compile(r"tau\d\d(_|$)")


def describe_defects(batch: EventBatch) -> Defects:
    """Finds contents that would silently be lost or give wrong features."""
    content = batch.content
    if isinstance(content, Particles):
        found = describe_bad_particles(content)
    else:
        found = [*content.defects, *describe_bad_values(content)]
    for name, column in batch.observers.items():
        infinite = np.isinf(column)
        if infinite.any():
            found.append((f"{int(infinite.sum())} with an infinite {name}", infinite))
    unweighted = ~np.isfinite(batch.weight)
    if unweighted.any():
        found.append((f"{int(unweighted.sum())} with a weight that is not finite", unweighted))
    return found


def describe_bad_particles(particles: Particles) -> Defects:
    """Finds particles that clustering would silently lose or turn into false jets."""
    return describe_bad_entries(
        particles.pt, particles.eta, particles.phi, particles.counts, "particle"
    )


def describe_bad_entries(pt: Floats, eta: Floats, phi: Floats, counts: Ints, noun: str) -> Defects:
    """Finds impossible entries of the lists of N events.

    Args:
        pt: transverse momenta in GeV, flat, event after event as for the others.
        eta: pseudorapidities.
        phi: azimuths in radians.
        counts: number of entries per event, shape (N,).
        noun: what an entry is, ``particle`` or ``jet``.
    """
    with np.errstate(invalid="ignore"):
        defects = {
            "with NaN": np.isnan(pt) | np.isnan(eta) | np.isnan(phi),
            "with an infinite value": np.isinf(pt) | np.isinf(eta) | np.isinf(phi),
            "with pT < 0": pt < 0,
            f"with pT > {MAX_PT:g} GeV": np.isfinite(pt) & (pt > MAX_PT),
            f"with |eta| > {MAX_ABS_ETA:g}": np.isfinite(eta) & (np.abs(eta) > MAX_ABS_ETA),
            "with |phi| > 4 pi": np.isfinite(phi) & (np.abs(phi) > 4 * np.pi),
        }
    event = np.repeat(np.arange(len(counts)), counts)
    found: Defects = []
    for description, bad in defects.items():
        if number := int(bad.sum()):
            events = np.zeros(len(counts), dtype=bool)
            events[event[bad]] = True
            found.append((f"{number} {noun if number == 1 else f'{noun}s'} {description}", events))
    together = np.bincount(event, pt, len(counts)) > MAX_PT
    for _, events in found:
        together &= ~events
    if together.any():
        found.append((f"{int(together.sum())} with a sum of pT > {MAX_PT:g} GeV", together))
    return found


def describe_bad_values(tabulated: TabulatedEvents) -> Defects:
    """Finds values that a feature cannot have; NaN is a missing value.

    Events in which the reader has found defects are left out, because those explain these.
    """
    known = [bad for _, bad in tabulated.defects]
    fine = ~np.any([np.zeros(len(tabulated), dtype=bool), *known], axis=0)
    candidates = [
        (what, bad & fine)
        for name, column in tabulated.values.items()
        for what, bad in _impossible(name, column)
    ]
    candidates += [(what, bad & fine) for what, bad in _jets_without_momentum(tabulated.values)]
    return [(f"{int(bad.sum())} with {what}", bad) for what, bad in candidates if bad.any()]


def _impossible(name: str, column: Floats) -> Iterator[tuple[str, Bools]]:
    """What is wrong with values of a column, and where."""
    yield f"an infinite {name}", np.isinf(column)
    if is_never_negative(name):
        yield f"a negative {name}", column < (-_ROUNDING if is_mass(name) else 0)
    size = np.where(np.isinf(column), np.nan, np.abs(column))
    if unit_of(name) == "GeV":
        yield f"{name} > {MAX_PT:g} GeV", size > MAX_PT
    elif unit_of(name) == "rad":
        yield f"|{name}| > 4 pi", size > 4 * np.pi
    elif name.endswith("eta"):
        limit = MAX_ABS_ETA * (2 if name == "delta_eta" else 1)
        yield f"|{name}| > {limit:g}", size > limit
    elif _RATIO.search(name):
        yield f"{name} > {_MAX_RATIO:g}", size > _MAX_RATIO


def _jets_without_momentum(values: Columns) -> Iterator[tuple[str, Bools]]:
    """Jets whose pT is missing although they are there: another would pass for the leading jet."""
    for jet in ("jet1", "jet2", "jet3"):
        of_jet = [name for name in values if name.startswith(f"{jet}_")]
        given = [name for name in (f"{jet}_pt", f"{jet}_px", f"{jet}_py") if name in of_jet]
        needed = given[:1] if f"{jet}_pt" in given else given
        others = [name for name in of_jet if name not in given and not name.endswith("_pz")]
        if needed and others:
            lost = np.any([np.isnan(values[name]) for name in needed], axis=0)
            there = np.any([~np.isnan(values[name]) for name in others], axis=0)
            yield f"no {' or '.join(needed)} of a jet that is there", lost & there
