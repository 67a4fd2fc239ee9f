"""anti-kT jets and N-subjettiness; the only module that imports fastjet."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import awkward as ak
import fastjet
import fastjet._swig
import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import JetsConfig, SoftDropConfig
from hepllm.physics.events import Momenta, Particles, positions_in_runs, starts_of

# Keeps the banner out of machine-readable standard output.
fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)

_WHOLE_JET = 1000.0
"""Radius that merges all particles of a jet into one."""

_ROUNDING = 1e-12
"""Constituents that are nearer to one another have the same direction."""

_WTA_KT = fastjet.JetDefinition(fastjet.kt_algorithm, _WHOLE_JET, fastjet.WTA_pt_scheme)


@dataclass(frozen=True)
class Constituents:
    """Particles of M jets, stored flat, jet after jet.

    Attributes:
        particle: positions in the flat arrays of ``Particles``.
        counts: number of constituents per jet, shape (M,), never 0.
        momenta: four-momenta of the constituents.
    """

    particle: Ints
    counts: Ints
    momenta: Momenta


@dataclass(frozen=True)
class Jets:
    """Jets of N events in falling pT, stored flat: the jets of event 0, then those of event 1, ...

    Attributes:
        momenta: four-momenta of the J jets.
        counts: number of jets per event, shape (N,).
        inputs: momenta of the clustered particles.
        indices: positions of constituents in ``inputs``.
        starts: position in ``indices`` of each jet's first constituent, shape (J,).
        n_constituents: number of constituents per jet, shape (J,).
    """

    momenta: Momenta
    counts: Ints
    inputs: Momenta
    indices: Ints
    starts: Ints
    n_constituents: Ints

    def leading(self, rank: int) -> Momenta:
        """The jet at this rank in falling pT, shape (N,); NaN where an event has too few jets."""
        present, jets = self._at(rank)
        components = np.full((4, len(self.counts)), np.nan)
        components[:, present] = self.momenta.take(jets).stack()
        return Momenta(*components)

    def constituents(self, rank: int) -> Constituents:
        """Constituents of the jet at this rank of the M events that have it, in event order."""
        _, jets = self._at(rank)
        counts = self.n_constituents[jets]
        particle = self.indices[np.repeat(self.starts[jets], counts) + positions_in_runs(counts)]
        return Constituents(particle, counts, self.inputs.take(particle))

    def _at(self, rank: int) -> tuple[Bools, Ints]:
        """The mask of events that have a jet at this rank, and the positions of these jets."""
        present = self.counts > rank
        return present, (starts_of(self.counts) + rank)[present]


def cluster(particles: Particles, config: JetsConfig) -> Jets:
    """Clusters particles with anti-kT (Cacciari, Salam, Soyez, arXiv:0802.1189), E scheme.

    Values must be finite: fastjet drops other particles silently.
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
    # Indices instead of constituents(): copies no particles of jets that are not used.
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
    counts: Ints,
    radius: float,
    n_max: int = 3,
    betas: Sequence[float] = (1.0,),
) -> Floats:
    """N-subjettiness for N = 1 to n_max (Thaler and Van Tilburg, arXiv:1011.2268, equation 2.2).

    The axes are the exclusive kt jets with the winner-take-all scheme and the measure is normalised
    with R0 = ``radius``, as fastjet-contrib's ``WTA_KT_Axes`` and ``NormalizedMeasure``; tests
    compare both. The axes depend neither on beta nor, but for one more, on N, so that one
    clustering and one distance for each axis serve all.

    Args:
        momenta: constituents of M jets, jet after jet.
        counts: number of constituents per jet, shape (M,).
        radius: R0.
        n_max: largest N.
        betas: exponents of the distance, B of them.

    Returns:
        Shape (M, B, n_max); NaN for tau_N of a jet with fewer than N constituents.
    """
    taus = np.full((len(counts), len(betas), n_max), np.nan)
    filled = counts > 0
    if filled.any():
        taus[filled] = _taus_of_jets(momenta, counts[filled], radius, n_max, betas)
    return taus


def _taus_of_jets(
    momenta: Momenta, counts: Ints, radius: float, n_max: int, betas: Sequence[float]
) -> Floats:
    """As ``n_subjettiness``, for jets with at least one constituent."""
    starts, pt, eta, phi = starts_of(counts), momenta.pt, momenta.eta, momenta.phi
    total = np.add.reduceat(pt, starts)
    taus = np.empty((len(counts), len(betas), n_max))
    nearest = np.full(len(pt), np.inf)
    for n, (axis_eta, axis_phi) in enumerate(_winner_axes(momenta, counts, n_max)):
        angle = np.abs(phi - np.repeat(axis_phi, counts))
        angle = np.minimum(angle, 2 * np.pi - angle)
        squared = (eta - np.repeat(axis_eta, counts)) ** 2 + angle**2
        # The winner of each recombination gives the axis its direction, so a constituent lies on
        # it; rounding of 1e-16 would be 1e-8 to the power of beta = 0.5.
        on_axis = np.maximum(np.minimum.reduceat(squared, starts), _ROUNDING**2)
        squared[squared <= np.repeat(on_axis, counts)] = 0.0
        np.minimum(nearest, squared, out=nearest)
        distance = np.sqrt(nearest)
        for b, beta in enumerate(betas):
            taus[:, b, n] = np.add.reduceat(pt * distance**beta, starts) / (total * radius**beta)
    taus[np.broadcast_to(np.arange(n_max) >= counts[:, None, None], taus.shape)] = np.nan
    return taus


def _winner_axes(momenta: Momenta, counts: Ints, n_max: int) -> Iterator[tuple[Floats, Floats]]:
    """Directions (eta, phi), shape (M,) each, of the axis that each N adds to those of N - 1.

    Undoing a recombination leaves the axis of the winner and adds that of the loser, which is the
    difference between the sums of the directions. Without meaning for N above the count.
    """
    sequence = fastjet.ClusterSequence(_to_awkward(momenta, counts), _WTA_KT)
    before = np.zeros((3, len(counts)))
    for n in range(1, n_max + 1):
        axes = _exclusive(sequence, n)
        pt = axes.pt
        directions = np.stack([axes.eta, axes.px / pt, axes.py / pt])
        sums = np.add.reduceat(directions, starts_of(np.minimum(counts, n)), axis=1)
        eta, x, y = sums - before
        yield eta, np.arctan2(y, x)
        before = sums


def _exclusive(sequence: fastjet.ClusterSequence, n: int) -> Momenta:
    """The up to n exclusive jets of each event, flat: those of event 0, those of event 1, ..."""
    # The wrapper warns about kt too, because it compares a definition with an algorithm.
    how_to_format = warnings.formatwarning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sequence.exclusive_jets_up_to(n_jets=n).layout
    warnings.formatwarning = how_to_format
    return Momenta(*(found.content[name].data for name in _COMPONENTS))


def soft_drop_mass(momenta: Momenta, counts: Ints, radius: float, config: SoftDropConfig) -> Floats:
    """Jet masses after soft drop (Larkoski et al., arXiv:1402.2657), with scalar z.

    Reclusters each jet with Cambridge/Aachen and drops the softer of two branches until
    min(pt1, pt2) / (pt1 + pt2) > z_cut (dR / radius)^beta.

    Args:
        momenta: constituents of M jets, jet after jet.
        counts: number of constituents per jet, shape (M,).
        radius: R0 of the condition.
        config: z_cut and beta.

    Returns:
        Shape (M,), GeV; 0 where one particle is left, NaN for a jet without constituents.
    """
    masses = np.full(len(counts), np.nan)
    filled = counts > 0
    if filled.any():
        definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, _WHOLE_JET)
        sequence = fastjet.ClusterSequence(_to_awkward(momenta, counts[filled]), definition)
        groomed = sequence.exclusive_jets_softdrop_grooming(
            njets=1, beta=config.beta, symmetry_cut=config.z_cut, R0=radius
        )
        masses[filled] = np.maximum(ak.to_numpy(groomed.msoftdrop), 0.0)
    return masses


_COMPONENTS = ("px", "py", "pz", "E")


def _to_awkward(momenta: Momenta, counts: Ints) -> ak.Array:
    """Packed native float64 records, which the wrapper reads without a copy."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    contents = [ak.contents.NumpyArray(component) for component in momenta.stack()]
    record = ak.contents.RecordArray(contents, _COMPONENTS, parameters={"__record__": "Momentum4D"})
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))
