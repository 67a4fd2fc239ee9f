"""The leading jets with their hardest constituents, from the lists of a dataset to one array."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.schema import LEADING_JETS

PARTICLE_COLUMNS: Mapping[str, pa.DataType] = {
    "particles_pt": pa.float32(),
    "particles_eta": pa.float32(),
    "particles_phi": pa.float32(),
    "particles_jet": pa.int8(),
}
"""Optional lists: the hardest constituents of the leading jets, and the number of their jet."""

JET_COLUMNS = tuple(
    f"jet{jet}_{name}"
    for jet in range(1, LEADING_JETS + 1)
    for name in ("pt", "eta", "phi", "mass")
)
"""Features that an array of jets needs besides the lists."""


def leading_jets(
    lists: Mapping[str, pa.Array], features: Mapping[str, Floats], per_jet: int
) -> NDArray[np.float32]:
    """Puts the leading jets of N events and their hardest constituents into one array.

    Args:
        lists: the columns ``PARTICLE_COLUMNS``, each jet's constituents in falling pT, jet after
            jet, as ``hepllm preprocess`` writes them.
        features: the columns ``JET_COLUMNS``, shape (N,); NaN where there is no jet.
        per_jet: K, the most constituents of a jet that are kept.

    Returns:
        Shape (N, 2, 1 + K, 4): of each of the two jets that lead in pT the jet itself, then its K
        hardest constituents; each with pT in GeV, eta, phi and mass in GeV. Constituents are
        massless. All four are NaN after the last constituent, and for a jet that is missing.
    """
    jets = np.stack([features[name] for name in JET_COLUMNS], axis=1)
    n_events = len(jets)
    found = np.full((n_events, LEADING_JETS, 1 + per_jet, 4), np.nan, dtype=np.float32)
    found[:, :, 0] = jets.reshape(n_events, LEADING_JETS, 4)
    jet = _flat(lists["particles_jet"]).astype(np.int64) - 1
    lengths = pc.fill_null(pc.list_value_length(lists["particles_jet"]), 0).to_numpy(
        zero_copy_only=False
    )
    event = np.repeat(np.arange(n_events), lengths)
    kinematics = np.stack([_flat(lists[name]) for name in tuple(PARTICLE_COLUMNS)[:3]], axis=1)
    leads = jet < LEADING_JETS
    event, jet, kinematics = event[leads], jet[leads], kinematics[leads]
    owner = event * LEADING_JETS + jet  # does not fall, since lists go jet after jet
    counts = np.bincount(owner, minlength=n_events * LEADING_JETS)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = rank < per_jet
    place = (event[kept], jet[kept], 1 + rank[kept])
    found[(*place, slice(0, 3))] = kinematics[kept]
    found[(*place, 3)] = 0.0
    return found


def _flat(lists: pa.Array) -> NDArray[np.float32]:
    """The values of all lists in order; a null is an empty list."""
    values: NDArray[np.float32] = lists.flatten().to_numpy(zero_copy_only=False)
    return values
