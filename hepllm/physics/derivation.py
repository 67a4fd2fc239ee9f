"""From the features that a file holds to those that follow from them."""

from __future__ import annotations

import numpy as np

from hepllm.arrays import Columns, Floats
from hepllm.physics.events import Momenta, TabulatedEvents
from hepllm.physics.features import leading_jet_columns, mass_ordered_columns, ratio
from hepllm.schema import FEATURES, TABLE_QUANTITIES

_JETS = ("jet1", "jet2", "jet3")

_NAMES = (*FEATURES, *TABLE_QUANTITIES)


def derive_features(tabulated: TabulatedEvents) -> Columns:
    """Completes what a feature table holds by all that follows from it.

    A value that the table holds is never replaced. Jets are put in falling pT where that is known,
    and masses are clipped at 0.

    Args:
        tabulated: N events.

    Returns:
        One array of shape (N,) a feature, in registry order; NaN where a value does not follow.
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
        _fill(columns, _ratios(jet, columns))
    with np.errstate(divide="ignore", invalid="ignore"):
        _fill(columns, leading_jet_columns(leading))
    _fill(columns, mass_ordered_columns(columns))
    _fill(columns, {"jet_mass_delta": columns["jet_mass_heavy"] - columns["jet_mass_light"]})
    return {name: columns[name] for name in FEATURES}


def _fill(columns: dict[str, Floats], derived: Columns) -> None:
    """Puts derived values where there are none."""
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
    """Gives each of an event's jets the place that its pT deserves; unknown ones stay last."""
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
    """The jet's four-momentum, from its mass, or from its energy where there is none."""
    pt, eta, phi = (columns[f"{jet}_{name}"] for name in ("pt", "eta", "phi"))
    pz = pt * np.sinh(eta)
    energy = np.sqrt(pt**2 + pz**2 + columns[f"{jet}_mass"] ** 2)
    energy = np.where(np.isnan(energy), columns[f"{jet}_energy"], energy)
    return Momenta(pt * np.cos(phi), pt * np.sin(phi), pz, energy)


def _ratios(jet: str, columns: Columns) -> Columns:
    """N-subjettiness ratios, in which the normalisation cancels."""
    if jet == "jet3":
        return {}
    taus: list[Floats] = []
    for n in (1, 2, 3):
        normalized = columns[f"{jet}_tau{n}"]
        taus.append(
            np.where(np.isnan(normalized), columns[f"{jet}_tau{n}_unnormalized"], normalized)
        )
    return {f"{jet}_tau21": ratio(taus[1], taus[0]), f"{jet}_tau32": ratio(taus[2], taus[1])}
