"""Derives features from those that a file holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hepllm.arrays import Columns, Floats
from hepllm.physics.events import Momenta, TabulatedEvents
from hepllm.physics.features import leading_jet_columns, mass_ordered_columns, ratio
from hepllm.schema import FEATURES, TABLE_QUANTITIES

_JETS = ("jet1", "jet2", "jet3")

_NAMES = (*FEATURES, *TABLE_QUANTITIES)


def derive_features(tabulated: TabulatedEvents) -> Columns:
    """Completes the features of a table with those that follow from them.

    Keeps all values of the table, but sorts jets in falling pT where it is known and clips masses
    at 0.

    Returns:
        One array of shape (N,) per feature, in registry order; NaN where a value does not follow.
    """
    nothing = np.full(len(tabulated), np.nan)
    columns = {name: tabulated.values.get(name, nothing) for name in (*_NAMES, "jet3_energy")}
    for name in _NAMES:
        if "mass" in name or name.startswith("m_"):
            columns[name] = np.maximum(columns[name], 0.0)
    for jet in _JETS:
        _fill(columns, _directions(jet, columns))
    columns = _in_falling_pt(columns)
    leading = [_momenta(jet, columns) for jet in _JETS]
    for jet, momenta in zip(_JETS, leading, strict=True):
        _fill(columns, {f"{jet}_energy": momenta.energy, f"{jet}_mass": momenta.mass})
    for jet in _JETS[:2]:
        _fill(columns, _ratios(jet, columns))
    with np.errstate(divide="ignore", invalid="ignore"):
        _fill(columns, leading_jet_columns(leading))
    _fill(columns, mass_ordered_columns(columns))
    _fill(columns, {"jet_mass_delta": columns["jet_mass_heavy"] - columns["jet_mass_light"]})
    return {name: columns[name] for name in FEATURES}


def derivable(names: Iterable[str]) -> tuple[str, ...]:
    """Names of the features that a table with these columns has, given or derived."""
    ones = {name: np.ones(1) for name in names}
    derived = derive_features(TabulatedEvents(ones, np.zeros(1, dtype=np.uint64)))
    return tuple(name for name, column in derived.items() if not np.isnan(column).any())


def _fill(columns: dict[str, Floats], derived: Columns) -> None:
    """Replaces missing values by derived values."""
    for name, values in derived.items():
        if name in columns:
            columns[name] = np.where(np.isnan(columns[name]), values, columns[name])


def _directions(jet: str, columns: Columns) -> Columns:
    """pT, eta and phi from Cartesian components."""
    px, py, pz = (columns[f"{jet}_{axis}"] for axis in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta = np.arcsinh(pz / pt)
    eta[~np.isfinite(eta)] = np.nan
    return {f"{jet}_pt": pt, f"{jet}_eta": eta, f"{jet}_phi": np.arctan2(py, px)}


def _in_falling_pt(columns: dict[str, Floats]) -> dict[str, Floats]:
    """Sorts the jets of each event in falling pT; jets of unknown pT come last."""
    pt = np.stack([columns[f"{jet}_pt"] for jet in _JETS])
    unordered = np.nan_to_num(pt[1:], nan=-np.inf) > np.nan_to_num(pt[:-1], nan=np.inf)
    if not unordered.any():
        return columns
    order = np.argsort(-np.nan_to_num(pt, nan=-np.inf), axis=0, kind="stable")
    ordered = dict(columns)
    for quantity in sorted({name.partition("_")[2] for name in _NAMES if name.startswith("jet1_")}):
        names = [f"{jet}_{quantity}" for jet in _JETS if f"{jet}_{quantity}" in columns]
        values = np.full(pt.shape, np.nan)
        values[: len(names)] = [columns[name] for name in names]
        ordered |= dict(zip(names, np.take_along_axis(values, order, axis=0), strict=False))
    swapped = (order[0] == 1) & (order[1] == 0)
    ordered["delta_eta"] = np.where(swapped, -columns["delta_eta"], columns["delta_eta"])
    return ordered


def _momenta(jet: str, columns: Columns) -> Momenta:
    """Four-momenta of a jet, from its mass, or from its energy where the mass is missing."""
    pt, eta, phi = (columns[f"{jet}_{name}"] for name in ("pt", "eta", "phi"))
    pz = pt * np.sinh(eta)
    energy = np.sqrt(pt**2 + pz**2 + columns[f"{jet}_mass"] ** 2)
    energy = np.where(np.isnan(energy), columns[f"{jet}_energy"], energy)
    return Momenta(pt * np.cos(phi), pt * np.sin(phi), pz, energy)


def _ratios(jet: str, columns: Columns) -> Columns:
    """N-subjettiness ratios, in which the normalisation cancels."""
    normalized = np.stack([columns[f"{jet}_tau{n}"] for n in (1, 2, 3)])
    unnormalized = np.stack([columns[f"{jet}_tau{n}_unnormalized"] for n in (1, 2, 3)])
    tau1, tau2, tau3 = np.where(np.isnan(normalized), unnormalized, normalized)
    return {f"{jet}_tau21": ratio(tau2, tau1), f"{jet}_tau32": ratio(tau3, tau2)}
