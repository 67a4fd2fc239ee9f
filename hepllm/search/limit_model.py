"""What limits assume: the shape of a peak with its errors, and the background under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from hepllm.arrays import Bools, Floats
from hepllm.search.box import SearchResult
from hepllm.search.cls import PeakTest
from hepllm.search.joint_model import JointModel
from hepllm.search.measurements import SignalEfficiency
from hepllm.search.peak_shape import PeakShape
from hepllm.search.peakfit import PeakModel
from hepllm.search.poisson import fit
from hepllm.search.smooth import SmoothBackground
from hepllm.search.spectra import BoxSpectra

_WINDOW = 2.5
"""Half width of the window that must not decide about the selection, in widths of the peak."""

_JETS_SPREAD = 0.002
"""Change of the peak's location with the masses of the jets, over the mass of the resonance."""

_N_SHIFTS, _N_WIDENINGS = 5, 3


def peak_of(jets: tuple[float, float]) -> PeakShape:
    """The shape of a signal with jets of these masses in GeV."""
    return PeakShape.shipped().with_jets(light=min(jets), heavy=max(jets))


def near_bins(edges: Floats, mass: float, peak: PeakShape) -> Bools:
    """The bins, shape (B,), that must not decide which selection is used at a mass in GeV."""
    half = _WINDOW * peak.resolution(mass) * mass
    return np.asarray((edges[1:] > mass - half) & (edges[:-1] < mass + half))


def shape_variations(peak: PeakShape, edges: Floats, mass: float) -> tuple[Floats, Floats]:
    """The signal in each bin, and equally probable variations of it by the errors of the response.

    Args:
        peak: shape of the signal.
        edges: (B + 1,) in GeV.
        mass: mass of the resonance in GeV.

    Returns:
        Shares that sum to 1, shape (B,), their mean over the variations; and these, shape (V, B).
    """
    errors = [*peak.mass_error(mass).values()]
    location = float(np.hypot(np.linalg.norm(errors) / mass, _JETS_SPREAD))
    shifts, widenings = (
        norm.ppf((np.arange(number) + 0.5) / number) for number in (_N_SHIFTS, _N_WIDENINGS)
    )
    # The quantiles in the middle of their bins have a smaller spread than the distribution.
    shifts, widenings = (one / one.std() for one in (shifts, widenings))
    shapes = np.array(
        [
            peak.shares(
                edges,
                mass * float(np.exp(location * shift)),
                widening=float(np.exp(peak.model.scale_uncertainty * widening)),
            )
            for shift in shifts
            for widening in widenings
        ]
    )
    shapes /= shapes.sum(axis=1, keepdims=True)
    return np.asarray(shapes.mean(axis=0)), shapes


@dataclass(frozen=True, eq=False)
class FittedSelections:
    """Spectra of a box, and the size of the background fits.

    Attributes:
        spectra: spectra of the box.
        background: model of the background.
        n_rejected: parameters of the fit of the rejected events.
        n_selected: parameters of the fit of each selection.
        used: (B,) bins that the fit of the rejected events uses; None for all.
    """

    spectra: BoxSpectra
    background: SmoothBackground
    n_rejected: int
    n_selected: Sequence[int]
    used: Bools | None = None

    @classmethod
    def of(cls, result: SearchResult) -> FittedSelections:
        """Takes them from the result of a search."""
        sizes = [one.n_parameters for one in result.selections]
        rejected = result.rejected
        n_rejected, used = int(rejected.n_parameters[0]), rejected.used[0]
        return cls(result.spectra, result.background, n_rejected, sizes, used)

    def test(
        self, place: int, variations: Floats, factors: Floats, other: Floats | None = None
    ) -> PeakTest:
        """Prepares the test for a peak in one selection.

        With the background ``template``, the rejected events are fitted at the same time, with a
        peak of any size of their own: the uncertainty of the template counts, and signal that
        fails the cut does not become background.

        Args:
            place: position of the selection.
            variations: (V, B) possible shapes of the signal.
            factors: (J,) possible efficiencies over the best estimate.
            other: (B,) share of an excess elsewhere in each bin, whose size is fitted as well;
                None without one.
        """
        joint = self._joint(place)
        peaks = np.array([variations.mean(axis=0), *([] if other is None else [other])])
        shapes = joint.shapes(peaks)
        if joint.has_rejected:
            shapes = np.concatenate([shapes, joint.joined(peaks, np.zeros_like(peaks))])
        counts = joint.joined(self.spectra.rejected[None], self.spectra.selected[place][None])[0]
        model = PeakModel(shapes, joint.basis, joint.offset, joint.precision)
        return PeakTest(counts, model, joint.shapes(variations), factors)

    def _joint(self, place: int) -> JointModel:
        return JointModel.sized(self.background, self.n_rejected, self.n_selected[place], self.used)

    def outside(self, near: Bools) -> Bools:
        """The bins of a test that are not among some bins, shape (B,), of a spectrum."""
        return np.asarray(~np.tile(near, 2)[self._joint(0).used])

    def choose(
        self, variations: Floats, near: Bools, efficiencies: Sequence[SignalEfficiency]
    ) -> int:
        """The selection with the smallest expected limit on the signal in the box.

        Args:
            variations: (V, B) possible shapes of the signal.
            near: (B,) bins that do not decide about it.
            efficiencies: efficiency of each selection for the signal.
        """
        expected = [
            expected_outside(self.test(place, variations, np.ones(1)), self.outside(near))
            for place in range(len(self.n_selected))
        ]
        shares = np.array([one.value for one in efficiencies])
        in_box = np.divide(expected, shares, out=np.full(len(shares), np.inf), where=shares > 0)
        return int(np.argmin(np.where(np.isfinite(in_box), in_box, np.inf)))


def expected_outside(test: PeakTest, used: Bools) -> float:
    """Expected limit on the events selected, from the data of some bins, shape (N,), alone.

    Returns:
        The limit; NaN where these data do not determine the background.
    """
    model = test.model
    fitted = fit(test.counts[None], model.basis, model.offset, used[None])
    if not fitted.converged[0]:
        return float("nan")
    return test.expected_limit(np.minimum(fitted.expected[0], 1e9))
