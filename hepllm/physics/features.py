"""Computes the features of the registry from particles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hepllm.arrays import Columns, Floats
from hepllm.config import JetsConfig
from hepllm.physics.events import Momenta, Particles, starts_of
from hepllm.physics.jets import Jets, cluster, n_subjettiness, soft_drop_mass
from hepllm.schema import EXTENDED_BETAS, EXTENDED_FEATURES, EXTENDED_MAX_N, dataset_features

_EXTENDED_BETAS = tuple(EXTENDED_BETAS.values())

_ROUNDING = 1e-9
"""An N-subjettiness below this value counts as 0: all particles lie on the axes."""


def compute_features(
    particles: Particles, config: JetsConfig, *, extended: bool = False
) -> Columns:
    """Clusters events and computes every feature of a dataset.

    Returns:
        One array of shape (N,) per feature of ``dataset_features(extended)``; NaN where a value
        does not exist.
    """
    jets = cluster(particles, config)
    return features_of_jets(particles, jets, config, extended=extended)


def features_of_jets(
    particles: Particles, jets: Jets, config: JetsConfig, *, extended: bool = False
) -> Columns:
    """As ``compute_features``, from jets that are already clustered."""
    n_events = len(particles)
    missing = Momenta(*np.full((4, n_events), np.nan))
    leading = [jets.leading(rank) if rank < config.n_jets else missing for rank in range(3)]
    event_of_jet = np.repeat(np.arange(n_events), jets.counts)
    columns = {
        f"jet{rank + 1}_{quantity}": getattr(momenta, quantity)
        for rank, momenta in enumerate(leading)
        for quantity in ("pt", "eta", "phi", "energy", "mass")
    }
    columns |= {
        **_substructure(particles, jets, config, extended),
        "n_particles": particles.counts.astype(np.float64),
        "n_jets": jets.counts.astype(np.float64),
        **leading_jet_columns(leading),
        "ht": np.bincount(event_of_jet, jets.momenta.pt, n_events).astype(np.float64),
    }
    columns |= mass_ordered_columns(columns)
    return {name: columns[name] for name in dataset_features(extended)}


def _substructure(particles: Particles, jets: Jets, config: JetsConfig, extended: bool) -> Columns:
    """Substructure of the two leading jets, with one N-subjettiness call for both."""
    constituents = [jets.constituents(index) for index in range(2)]
    both = np.concatenate([of_jet.momenta.stack() for of_jet in constituents], axis=1)
    counts = np.concatenate([of_jet.counts for of_jet in constituents])
    n_max, betas = (EXTENDED_MAX_N, _EXTENDED_BETAS) if extended else (3, (1.0,))
    taus = n_subjettiness(Momenta(*both), counts, config.radius, n_max, betas)
    of_jets = np.full((len(counts), 4), np.nan)
    of_jets[:, :3] = taus[:, betas.index(1.0), :3]
    if config.soft_drop is not None:
        of_jets[:, 3] = soft_drop_mass(Momenta(*both), counts, config.radius, config.soft_drop)
    parts = np.split(of_jets, [len(constituents[0].counts)])
    columns: dict[str, Floats] = {}
    for index, (of_jet, values) in enumerate(zip(constituents, parts, strict=True)):
        present = jets.counts > index
        rows = np.full((len(particles), 6), np.nan)
        rows[present, :4] = values
        rows[present, 4] = of_jet.counts
        pt = particles.pt[of_jet.particle]
        rows[present, 5] = np.maximum.reduceat(pt, starts_of(of_jet.counts))
        columns |= _substructure_columns(f"jet{index + 1}", rows)
    if extended:
        columns |= _extended_columns(jets, taus)
    return columns


def _extended_columns(jets: Jets, taus: Floats) -> Columns:
    """N-subjettiness of the two leading jets ordered by mass.

    Args:
        jets: jets of N events.
        taus: (M, B, n_max) of the M jets, first those that lead an event.
    """
    per_jet = len(EXTENDED_FEATURES) // 2
    of_events = np.full((2, per_jet, len(jets.counts)), np.nan)
    n_leading = np.count_nonzero(jets.counts > 0)
    for index, part in enumerate(np.split(taus.reshape(len(taus), per_jet), [n_leading])):
        of_events[index][:, jets.counts > index] = part.T
    mass = np.stack([jets.leading(index).mass for index in range(2)])
    ordered = np.concatenate(_by_mass(mass, of_events))
    return dict(zip(EXTENDED_FEATURES, ordered, strict=True))


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


def leading_jet_columns(leading: Sequence[Momenta]) -> Columns:
    """Masses and distances of the three leading jets; NaN where one of the jets is missing."""
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


def mass_ordered_columns(columns: Columns) -> Columns:
    """Features of the two leading jets ordered by mass, as in CATHODE (arXiv:2109.00546)."""
    mass = np.stack([columns["jet1_mass"], columns["jet2_mass"]])
    tau21 = np.stack([columns["jet1_tau21"], columns["jet2_tau21"]])
    light, heavy = _by_mass(mass, mass)
    tau21_light, tau21_heavy = _by_mass(mass, tau21)
    return {
        "jet_mass_light": light,
        "jet_mass_delta": heavy - light,
        "tau21_light": tau21_light,
        "tau21_heavy": tau21_heavy,
    }


def _by_mass(mass: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The values of the lighter and of the heavier jet; NaN where one of the masses is missing.

    Args:
        mass: masses of the two leading jets, shape (2, N).
        values: shape (2, ..., N).
    """
    first_is_light = mass[0] <= mass[1]
    light, heavy = np.where(first_is_light, values, values[::-1])
    missing = np.isnan(mass).any(axis=0)
    return np.where(missing, np.nan, light), np.where(missing, np.nan, heavy)


def ratio(numerator: Floats, denominator: Floats, rounding: float = 0.0) -> Floats:
    """The quotient; NaN where the denominator is missing, or 0 up to rounding."""
    defined = denominator > rounding
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=defined)


def _angle_between(first: Floats, second: Floats) -> Floats:
    """The absolute difference of two azimuths, in [0, pi]."""
    difference = np.abs(first - second) % (2 * np.pi)
    return np.minimum(difference, 2 * np.pi - difference)
