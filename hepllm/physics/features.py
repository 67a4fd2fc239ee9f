"""From particles to the columns of the feature registry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hepllm.arrays import Columns, Floats, Ints
from hepllm.config import JetsConfig
from hepllm.physics.events import Momenta, Particles, starts_of
from hepllm.physics.jets import Jets, cluster, n_subjettiness, soft_drop_mass
from hepllm.schema import FEATURES

_ROUNDING = 1e-9
"""An N-subjettiness below this is 0: all particles lie on the axes."""


def compute_features(particles: Particles, config: JetsConfig) -> Columns:
    """Clusters events and computes every feature of the registry.

    Args:
        particles: N validated events.
        config: how jets are made.

    Returns:
        One array of shape (N,) a feature, in registry order; NaN where a value does not exist.
    """
    return features_of_jets(particles, cluster(particles, config), config)


def features_of_jets(particles: Particles, jets: Jets, config: JetsConfig) -> Columns:
    """Computes every feature of the registry from jets that are clustered already."""
    leading = [_missing_above(config.n_jets, index, jets) for index in range(3)]
    substructure = _substructure(particles, jets, config)
    columns = {
        **_kinematics("jet1", leading[0]),
        **_kinematics("jet2", leading[1]),
        **_kinematics("jet3", leading[2]),
        **substructure,
        "n_particles": particles.counts.astype(np.float64),
        "n_jets": jets.counts.astype(np.float64),
        **leading_jet_columns(leading),
        "ht": _scalar_sum(jets),
    }
    columns |= mass_ordered_columns(columns)
    return {name: columns[name] for name in FEATURES}


def _missing_above(n_jets: int, index: int, jets: Jets) -> Momenta:
    """A leading jet; none at all at a place that the configuration leaves out."""
    momenta = jets.leading(index)
    if index < n_jets:
        return momenta
    nothing = np.full_like(momenta.px, np.nan)
    return Momenta(nothing, nothing, nothing, nothing)


def _kinematics(jet: str, momenta: Momenta) -> Columns:
    return {
        f"{jet}_pt": momenta.pt,
        f"{jet}_eta": momenta.eta,
        f"{jet}_phi": momenta.phi,
        f"{jet}_energy": momenta.energy,
        f"{jet}_mass": momenta.mass,
    }


def _substructure(particles: Particles, jets: Jets, config: JetsConfig) -> Columns:
    """What the constituents of the two leading jets say, in one N-subjettiness call for both."""
    constituents = [jets.constituents(index) for index in range(2)]
    both = np.concatenate([of_jet.momenta.stack() for of_jet in constituents], axis=1)
    counts = np.concatenate([of_jet.counts for of_jet in constituents])
    of_jets = np.full((len(counts), 4), np.nan)
    of_jets[:, :3] = n_subjettiness(Momenta(*both), counts, config.radius)
    if config.soft_drop is not None:
        of_jets[:, 3] = soft_drop_mass(Momenta(*both), counts, config.radius, config.soft_drop)
    n_first = len(constituents[0].counts)
    columns: dict[str, Floats] = {}
    for index, of_jet in enumerate(constituents):
        present = jets.counts > index
        rows = np.full((len(particles), 6), np.nan)
        rows[present, :4] = of_jets[:n_first] if index == 0 else of_jets[n_first:]
        rows[present, 4] = of_jet.counts
        rows[present, 5] = _largest(particles.pt[of_jet.particle], of_jet.counts)
        columns |= _substructure_columns(f"jet{index + 1}", rows)
    return columns


def _substructure_columns(jet: str, rows: Floats) -> Columns:
    tau1, tau2, tau3, softdrop_mass, n_particles, pt_lead = np.ascontiguousarray(rows.T)
    return {
        f"{jet}_n_particles": n_particles,
        f"{jet}_pt_lead": pt_lead,
        f"{jet}_tau1": tau1,
        f"{jet}_tau2": tau2,
        f"{jet}_tau3": tau3,
        f"{jet}_tau21": ratio(tau2, tau1, _ROUNDING),
        f"{jet}_tau32": ratio(tau3, tau2, _ROUNDING),
        f"{jet}_softdrop_mass": softdrop_mass,
    }


def _largest(values: Floats, counts: Ints) -> Floats:
    """The largest of each run of ``counts`` values; no run is empty."""
    if not len(counts):
        return np.empty(0)
    largest: Floats = np.maximum.reduceat(values, starts_of(counts))
    return largest


def leading_jet_columns(leading: Sequence[Momenta]) -> Columns:
    """Masses and distances of the three leading jets, NaN where one of those meant is missing."""
    first, second, third = leading
    delta_eta = first.eta - second.eta
    delta_phi = _angle_between(first.phi, second.phi)
    return {
        "m_jj": (first + second).mass,
        "m_jjj": (first + second + third).mass,
        "delta_eta": delta_eta,
        "delta_phi": delta_phi,
        "delta_r": np.hypot(delta_eta, delta_phi),
    }


def _scalar_sum(jets: Jets) -> Floats:
    event = np.repeat(np.arange(len(jets.counts)), jets.counts)
    return np.bincount(event, jets.momenta.pt, len(jets.counts)).astype(np.float64)


def mass_ordered_columns(columns: Columns) -> Columns:
    """The two leading jets ordered by mass, as CATHODE has them (arXiv:2109.00546)."""
    first_is_light = columns["jet1_mass"] <= columns["jet2_mass"]
    light = np.where(first_is_light, columns["jet1_mass"], columns["jet2_mass"])
    heavy = np.where(first_is_light, columns["jet2_mass"], columns["jet1_mass"])
    paired = ~np.isnan(columns["jet1_mass"] + columns["jet2_mass"])
    tau21_light = np.where(first_is_light, columns["jet1_tau21"], columns["jet2_tau21"])
    tau21_heavy = np.where(first_is_light, columns["jet2_tau21"], columns["jet1_tau21"])
    return {
        "jet_mass_light": np.where(paired, light, np.nan),
        "jet_mass_delta": np.where(paired, heavy - light, np.nan),
        "tau21_light": np.where(paired, tau21_light, np.nan),
        "tau21_heavy": np.where(paired, tau21_heavy, np.nan),
    }


def ratio(numerator: Floats, denominator: Floats, rounding: float = 0.0) -> Floats:
    """The quotient, NaN where the denominator is missing or 0 up to rounding."""
    defined = denominator > rounding
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=defined)


def _angle_between(first: Floats, second: Floats) -> Floats:
    """The absolute difference of two azimuths, in [0, pi]."""
    difference = np.abs(first - second) % (2 * np.pi)
    return np.minimum(difference, 2 * np.pi - difference)
