"""The preprocessing that an analysis usually starts with, as a yardstick for the package's own.

pandas reads blocks of rows; a Python loop makes ``PseudoJet`` objects event by event, clusters them
with fastjet's classic interface and computes the features of the package with it. It shares no
code with ``hepllm``, so that it checks the features as well.
"""

from __future__ import annotations

import math
from pathlib import Path

import fastjet
import numpy as np
import pandas as pd
from numpy.typing import NDArray

RADIUS = 1.0
PT_MIN = 20.0

_ANTI_KT = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
_WTA_KT = fastjet.JetDefinition(fastjet.kt_algorithm, 1000.0, fastjet.WTA_pt_scheme)

Features = dict[str, float]


def features_of_file(path: Path, n_events: int, block: int = 1000) -> pd.DataFrame:
    """Computes the features of the first events of an LHCO file, one row an event."""
    rows: list[Features] = []
    for start in range(0, n_events, block):
        frame = pd.read_hdf(path, key="df", start=start, stop=min(start + block, n_events))
        for _, event in frame.iterrows():
            rows.append(features_of_event(event.to_numpy()[:2100].reshape(700, 3)))
    return pd.DataFrame(rows)


def features_of_event(slots: NDArray[np.float64]) -> Features:
    """Clusters one event of zero-padded (pT, eta, phi) slots."""
    particles = []
    for pt, eta, phi in slots:
        if pt > 0:
            px, py = pt * math.cos(phi), pt * math.sin(phi)
            pz, energy = pt * math.sinh(eta), pt * math.cosh(eta)
            particles.append(fastjet.PseudoJet(px, py, pz, energy))
    sequence = fastjet.ClusterSequence(particles, _ANTI_KT)
    jets = list(fastjet.sorted_by_pt(sequence.inclusive_jets(PT_MIN)))
    features: Features = {"n_particles": len(particles), "n_jets": len(jets)}
    features["ht"] = sum(jet.pt() for jet in jets)
    for i, jet in enumerate(jets[:3], start=1):
        features |= _kinematics(f"jet{i}", jet)
        if i < 3:
            features |= _substructure(f"jet{i}", jet)
    if len(jets) > 1:
        features |= _pair(jets, features)
    if len(jets) > 2:
        features["m_jjj"] = (jets[0] + jets[1] + jets[2]).m()
    return features


def _kinematics(name: str, jet: fastjet.PseudoJet) -> Features:
    return {
        f"{name}_pt": jet.pt(),
        f"{name}_eta": jet.eta(),
        f"{name}_phi": jet.phi_std(),
        f"{name}_mass": max(jet.m(), 0.0),
        f"{name}_energy": jet.e(),
    }


def _substructure(name: str, jet: fastjet.PseudoJet) -> Features:
    constituents = list(jet.constituents())
    pt = np.array([particle.pt() for particle in constituents])
    rapidity = np.array([particle.rap() for particle in constituents])
    phi = np.array([particle.phi() for particle in constituents])
    exclusive = fastjet.ClusterSequence(constituents, _WTA_KT)
    tau = {}
    for n in range(1, min(3, len(constituents)) + 1):
        axes = exclusive.exclusive_jets(n)
        distances = []
        for axis in axes:
            angle = np.abs(phi - axis.phi())
            angle = np.minimum(angle, 2 * np.pi - angle)
            distances.append(np.hypot(rapidity - axis.rap(), angle))
        tau[n] = float((pt * np.min(distances, axis=0)).sum() / (pt.sum() * RADIUS))
    features = {f"{name}_tau{n}": value for n, value in tau.items()}
    features[f"{name}_tau21"] = _ratio(tau.get(2), tau.get(1))
    features[f"{name}_tau32"] = _ratio(tau.get(3), tau.get(2))
    features[f"{name}_n_particles"] = len(constituents)
    features[f"{name}_pt_lead"] = pt.max()
    return features


def _ratio(numerator: float | None, denominator: float | None) -> float:
    if numerator is None or denominator is None or denominator < 1e-9:
        return math.nan
    return numerator / denominator


def _pair(jets: list[fastjet.PseudoJet], features: Features) -> Features:
    first, second = jets[0], jets[1]
    delta_eta, delta_phi = first.eta() - second.eta(), abs(first.delta_phi_to(second))
    light, heavy = sorted(("jet1", "jet2"), key=lambda name: features[f"{name}_mass"])
    return {
        "m_jj": (first + second).m(),
        "delta_eta": delta_eta,
        "delta_phi": delta_phi,
        "delta_r": math.hypot(delta_eta, delta_phi),
        "jet_mass_light": features[f"{light}_mass"],
        "jet_mass_delta": features[f"{heavy}_mass"] - features[f"{light}_mass"],
        "tau21_light": features[f"{light}_tau21"],
        "tau21_heavy": features[f"{heavy}_tau21"],
    }
