"""anti-kT jets and N-subjettiness; the only module that imports fastjet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import awkward as ak
import fastjet
import fastjet._swig
import numpy as np
from numpy.typing import NDArray

from hepllm.config import JetsConfig
from hepllm.physics.events import Momenta, Particles, starts_of

# The banner would stand in the way of machine-readable standard output.
fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)

# N-subjettiness finds its own axes among the particles of a sequence; the wrapper clusters them
# before that without need, so let it be done as quickly as it can.
_CHEAPEST = fastjet.JetDefinition(fastjet.cambridge_algorithm, 0.01)


class Axes(StrEnum):
    """Axes that fastjet-contrib knows; it accepts a wrong name silently and gives nonsense."""

    WTA_KT = "WTA_KT_Axes"


class Measure(StrEnum):
    """Normalised as in Thaler and Van Tilburg, arXiv:1011.2268, equation 2.2."""

    NORMALIZED = "NormalizedMeasure"


@dataclass(frozen=True)
class Constituents:
    """Particles of M jets, stored flat, jet after jet.

    Attributes:
        particle: positions in the flat arrays of ``Particles``.
        counts: number of constituents of each jet, shape (M,), none of them 0.
        momenta: their four-momenta.
    """

    particle: NDArray[np.int64]
    counts: NDArray[np.int64]
    momenta: Momenta


@dataclass(frozen=True)
class Jets:
    """Jets of N events in falling pT, stored flat: the jets of event 0, then those of event 1, ...

    Attributes:
        momenta: of the J jets.
        counts: number of jets of each event, shape (N,).
        inputs: momenta of the particles that were clustered.
        indices: positions of constituents in ``inputs``.
        starts: where in ``indices`` each jet's constituents begin, shape (J,).
        n_constituents: and how many they are, shape (J,).
    """

    momenta: Momenta
    counts: NDArray[np.int64]
    inputs: Momenta
    indices: NDArray[np.int64]
    starts: NDArray[np.int64]
    n_constituents: NDArray[np.int64]

    def leading(self, rank: int) -> Momenta:
        """The jet at this place in falling pT, shape (N,), NaN where there are too few."""
        present, jets = self._at(rank)
        components = np.full((4, len(self.counts)), np.nan)
        components[:, present] = self.momenta.take(jets).stack()
        return Momenta(*components)

    def constituents(self, rank: int) -> Constituents:
        """Constituents of the jet at this place, of the M events that have one, in event order."""
        _, jets = self._at(rank)
        counts = self.n_constituents[jets]
        particle = self.indices[_runs(self.starts[jets], counts)]
        return Constituents(particle, counts, self.inputs.take(particle))

    def _at(self, rank: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """The mask of events that have a jet at this place, and these jets' positions."""
        present = self.counts > rank
        return present, (starts_of(self.counts) + rank)[present]


def cluster(particles: Particles, config: JetsConfig) -> Jets:
    """Clusters particles with anti-kT (Cacciari, Salam, Soyez, arXiv:0802.1189), E scheme.

    Args:
        particles: N events; values must be finite, fastjet drops others without a word.
        config: radius, the jets' minimum pT and, if given, their maximum pseudorapidity.
    """
    inputs = particles.momenta()
    if len(particles.pt) == 0:
        nothing = np.empty(0, dtype=np.int64)
        return Jets(inputs, particles.counts, inputs, nothing, nothing, nothing)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, config.radius)
    sequence = fastjet.ClusterSequence(_to_awkward(inputs, particles.counts), definition)
    found = sequence.inclusive_jets(config.pt_min).layout
    momenta = Momenta(*(found.content[name].data for name in _COMPONENTS))
    event = np.repeat(np.arange(len(particles)), np.diff(found.offsets.data))
    order = np.lexsort((-momenta.pt, event))
    if config.eta_max is not None:
        order = order[np.abs(momenta.eta[order]) <= config.eta_max]
    # Indices instead of constituents(): no copy of particles of jets that nobody looks at.
    lists = sequence.constituent_index(config.pt_min).layout.content
    bounds = lists.offsets.data
    n_constituents = np.diff(bounds)
    first_particle = np.repeat(starts_of(particles.counts)[event], n_constituents)
    return Jets(
        momenta=momenta.take(order),
        counts=np.bincount(event[order], minlength=len(particles)),
        inputs=inputs,
        indices=lists.content.data[: bounds[-1]] + first_particle,
        starts=bounds[:-1][order],
        n_constituents=n_constituents[order],
    )


def n_subjettiness(
    momenta: Momenta,
    counts: NDArray[np.int64],
    radius: float,
    axes: Axes = Axes.WTA_KT,
    measure: Measure = Measure.NORMALIZED,
) -> NDArray[np.float64]:
    """tau1, tau2, tau3 with beta = 1 (Thaler and Van Tilburg, arXiv:1011.2268).

    Args:
        momenta: constituents of M jets, jet after jet.
        counts: number of constituents of each jet, shape (M,).
        radius: R0 of the normalisation.
        axes: how the axes are found.
        measure: how particles are assigned to them.

    Returns:
        Shape (M, 3); NaN for tau_N of a jet with fewer than N constituents.
    """
    taus = np.full((len(counts), 3), np.nan)
    filled = counts > 0
    if filled.any():
        sequence = fastjet.ClusterSequence(_to_awkward(momenta, counts[filled]), _CHEAPEST)
        found = sequence.njettiness(
            measure_definition=Measure(measure).value,
            axes_definition=Axes(axes).value,
            njets=[1, 2, 3],
            beta=1,
            R0=radius,
        )
        taus[filled] = ak.to_numpy(found).reshape(-1, 3)
    taus[counts[:, np.newaxis] < np.array([1, 2, 3])] = np.nan
    return taus


_COMPONENTS = ("px", "py", "pz", "E")


def _to_awkward(momenta: Momenta, counts: NDArray[np.int64]) -> ak.Array:
    """Packed native float64 records, which the wrapper reads as they lie in memory."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    contents = [ak.contents.NumpyArray(component) for component in momenta.stack()]
    record = ak.contents.RecordArray(contents, _COMPONENTS, parameters={"__record__": "Momentum4D"})
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _runs(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The positions start, start + 1, ... of each run, one run after another."""
    return np.repeat(starts - starts_of(counts), counts) + np.arange(counts.sum())
