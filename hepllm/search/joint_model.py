"""The background of rejected and selected events in one model, so that both fits are profiled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.search.peakfit import PeakModel, fit_peaks
from hepllm.search.poisson import BatchFit, fit, orthonormal
from hepllm.search.smooth import SPREAD, SmoothBackground


@dataclass(frozen=True, eq=False)
class JointModel:
    """A log-linear background of all spectra that its parameters are fitted to, end to end.

    For a template these are the rejected and the selected events; a dijet function is fitted to the
    selected events alone.

    Attributes:
        basis: (N, P) orthonormal columns.
        offset: (N,) logarithm of the spectrum that exp(basis . p) multiplies.
        used: (2 B,) bins of rejected and selected spectrum, end to end, that are the N bins.
        precision: (P, P) of a Gaussian constraint on the parameters around 0, for fits of a peak in
            few events: how much the logarithm of the factor varies over the bins. Without it a
            narrow factor is free to take the place of a peak, or to leave nothing under it. 50
            events determine the factor several times better. None for a dijet function.
    """

    basis: Floats
    offset: Floats
    used: Bools
    precision: Floats | None = None

    @classmethod
    def of(cls, background: SmoothBackground, rejected: BatchFit, n_selected: int) -> JointModel:
        """Joins the fit of the rejected events of one box and a fit with ``n_selected`` columns."""
        return cls.sized(background, int(rejected.n_parameters[0]), n_selected, rejected.used[0])

    @classmethod
    def sized(
        cls,
        background: SmoothBackground,
        n_rejected: int,
        n_selected: int,
        used: Bools | None = None,
    ) -> JointModel:
        """Joins fits with these numbers of parameters.

        Args:
            background: model of the background.
            n_rejected: parameters of the fit of the rejected events.
            n_selected: parameters of the fit of the selected events.
            used: (B,) bins of the rejected events that count, as their fit leaves out those around
                a peak; None for all.
        """
        widths = background.log_width
        shape = background.shape[:, : n_selected if background.method == "dijet" else n_rejected]
        if background.method == "dijet":
            return cls(orthonormal(shape), widths, np.repeat([False, True], len(widths)))
        factor = background.factor[:, :n_selected]
        basis = np.block([[shape, np.zeros_like(factor)], [shape, factor]])
        everywhere = np.ones(len(widths), dtype=bool)
        both = np.append(everywhere if used is None else used, everywhere)
        columns = orthonormal(basis[both])
        # The first column of the factor is its mean, which is free.
        varying = np.linalg.lstsq(basis[both], columns, rcond=None)[0][shape.shape[1] + 1 :]
        precision = varying.T @ varying / (len(widths) * SPREAD**2)
        return cls(columns, np.tile(widths, 2)[both], both, precision)

    @property
    def has_rejected(self) -> bool:
        """Whether rejected events are fitted as well."""
        return bool(self.used[: len(self.used) // 2].any())

    def joined(self, rejected: Floats, selected: Floats) -> Floats:
        """Puts spectra of rejected and of selected events, (T, B) each, end to end: (T, N)."""
        return np.asarray(np.concatenate([rejected, selected], axis=1)[:, self.used])

    def shapes(self, share: Floats) -> Floats:
        """Shares of a peak, (M, B), in all bins, (M, N); it is in the selected events only."""
        return self.joined(np.zeros_like(share), share)

    def fit_peak(self, counts: Floats, shape: Floats) -> tuple[Floats, Floats]:
        """Fits a peak of ``shape`` (N,) to T spectra, (T, N).

        Returns:
            Its events, and the significance: the root of q0, which is 0 without an excess (Cowan,
            Cranmer, Gross and Vitells, arXiv:1007.1727, equations 12 and 52).
        """
        without = fit(counts, self.basis, self.offset)
        found = fit_peaks(PeakModel(shape[None], self.basis, self.offset), counts, None)
        return found.size, np.sqrt(np.maximum(without.deviance - found.deviance, 0.0))
