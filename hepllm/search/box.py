"""A box as a search sees it, and what the search found in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.search.jet_masses import JetMass, JetPairs
from hepllm.search.peak_tests import LocalPeak, PeakScan, SpuriousSignal
from hepllm.search.poisson import BatchFit
from hepllm.search.records import EXCESS_P, ShapeDistance
from hepllm.search.region import MassRegion
from hepllm.search.resonance import BackgroundFit, Resonance
from hepllm.search.scan import Bump
from hepllm.search.smooth import SmoothBackground
from hepllm.search.spectra import BoxSpectra, ScoreCut
from hepllm.search.toys import PValue, ToyResult


@dataclass(frozen=True, eq=False)
class BoxEvents:
    """The N events of a box as the search sees them, without labels.

    Attributes:
        score: (N,), larger for more signal-like events.
        m_jj: (N,) mass that is searched, in GeV; NaN for events without it.
        jet_mass_light: (N,) in GeV, of the lighter of the two leading jets; NaN where not known.
        jet_mass_heavy: (N,) in GeV, of the heavier one; NaN where not known.
        groomed: masses of both jets after soft drop, from which jet masses are then measured;
            None where they are not known.
    """

    score: Floats
    m_jj: Floats
    jet_mass_light: Floats
    jet_mass_heavy: Floats
    groomed: JetPairs | None = None

    def take(self, events: Bools) -> BoxEvents:
        """Returns the events of a mask, shape (N,)."""
        light, heavy = self.jet_mass_light[events], self.jet_mass_heavy[events]
        groomed = None if self.groomed is None else self.groomed.take(np.flatnonzero(events))
        return BoxEvents(self.score[events], self.m_jj[events], light, heavy, groomed)

    @property
    def jets(self) -> JetPairs:
        """Jet masses that are measured: after soft drop where they are known."""
        if self.groomed is not None:
            return self.groomed
        return JetPairs(self.jet_mass_light, self.jet_mass_heavy)


@dataclass(frozen=True, eq=False)
class SelectionResult:
    """Results for one selection.

    ``_outside`` means without three widths around the resonance, so that a signal does not count;
    None where too few bins or events are left.

    Attributes:
        bump: window with the least probable excess.
        p_value: global p-value for this selection alone.
        goodness: p-value of the background fit.
        background: the fit by iminuit, with errors.
        basis: (B, P) columns of the background fit.
        offset: (B,) logarithm of the spectrum that exp(basis . p) multiplies.
        shape: spectrum after the cut compared with that before.
        local: the most significant peak, with the parameters of all fits profiled.
        spurious: signal that the misfit of the background makes.
        scan: local significance of a peak by its mass.
        n_peak: events of a peak at the mass of the resonance, and their standard deviation.
    """

    cut: ScoreCut
    bump: Bump
    p_value: PValue
    goodness: PValue
    goodness_outside: PValue | None
    n_parameters: int
    background: BackgroundFit
    basis: Floats
    offset: Floats
    shape: ShapeDistance | None
    shape_outside: ShapeDistance | None
    local: LocalPeak
    spurious: SpuriousSignal
    scan: PeakScan
    n_peak: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Results of a search.

    Attributes:
        n_in_range: events in the m_jj range.
        selections: from the loosest to the tightest.
        best: index of the selection with the most significant bump.
        rejected: fit of the rejected events.
        background: model of the background that was fitted.
        resonance: fit to the spectrum of the best selection.
        jet_masses: masses of the ``light`` and the ``heavy`` jet near the resonance.
        tied: requested cuts that keep less than their share because of equal scores, including
            those that the search does not use.
        mass: name of the mass that was searched.
        is_groomed: whether jet masses are those after soft drop.
        region: masses of the excesses that count; None for the whole range.
    """

    n_events: int
    n_in_range: int
    spectra: BoxSpectra
    selections: list[SelectionResult]
    best: int
    toys: ToyResult
    rejected: BatchFit
    background: SmoothBackground
    resonance: Resonance
    jet_masses: dict[str, JetMass]
    tied: list[ScoreCut]
    mass: str = "m_jj"
    is_groomed: bool = False
    region: MassRegion | None = None

    @property
    def chosen(self) -> SelectionResult:
        """The selection with the most significant bump."""
        return self.selections[self.best]

    @property
    def is_excess(self) -> bool:
        """Whether the data differ enough from background to state numbers for a signal."""
        return self.toys.overall.value < EXCESS_P
