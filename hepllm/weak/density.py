"""A background template from the sidebands: their density, interpolated in m_jj into the region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.weak.flow import ConditionalFlow, FlowSettings, fit_flow
from hepllm.weak.flow_features import FlowFeatures, MarkModel, fit_features, fit_marks
from hepllm.weak.following import Following, find_following
from hepllm.weak.spectrum import (
    RegionSpectrum,
    Window,
    check_sidebands,
    in_region,
    interpolate_spectrum,
)


@dataclass(frozen=True, eq=False)
class MassDensity:
    """The density p(x | m_jj) of features; made by ``fit_density``.

    Attributes:
        following: which features are learnt, and which follow from them.
        features: transformation of the learnt features.
        marks: which values are absent, given m_jj.
        flow: density of the transformed features, given m_jj and marks.
        centre: m_jj in GeV where the flow's condition is 0.
        scale: width in GeV of a unit of the condition.
    """

    following: Following
    features: FlowFeatures
    marks: MarkModel
    flow: ConditionalFlow
    centre: float
    scale: float

    def sample(self, m_jj: Floats, seed: int) -> Floats:
        """Draws one event for each m_jj, shape (N,) in GeV; returns features (N, F)."""
        scaled = (m_jj - self.centre) / self.scale
        marks = self.marks.draw(scaled, np.random.default_rng([seed, 4]))
        drawn = self.flow.sample(np.column_stack([scaled, marks]), seed)
        return self.following.complete(self.features.inverse(drawn, marks))


@dataclass(frozen=True, eq=False)
class SidebandDensity:
    """The background of a region as its sidebands predict it; made by ``fit_sidebands``.

    Attributes:
        spectrum: m_jj inside the region.
        density: features, given m_jj.
    """

    spectrum: RegionSpectrum
    density: MassDensity

    def sample(self, count: int, seed: int) -> tuple[Floats, Floats]:
        """Draws background events in the region.

        Returns:
            Features (count, F), NaN where absent, and m_jj (count,) in GeV.
        """
        m_jj = self.spectrum.draw(count, np.random.default_rng([seed, 3]))
        return self.density.sample(m_jj, seed), m_jj


def fit_density(
    features: Floats,
    m_jj: Floats,
    seed: int,
    settings: FlowSettings | None = None,
    names: Sequence[str] | None = None,
) -> MassDensity:
    """Learns p(x | m_jj) of events by maximum likelihood.

    Args:
        features: (N, F), NaN where absent.
        m_jj: (N,) in GeV.
        seed: seed of all random numbers; equal seeds give equal densities.
        settings: sizes and training of the flow.
        names: names of the F features. Those that follow from others by their definitions are then
            not learnt but computed; None learns all.

    Raises:
        InputError: for infinite features, features that do not vary, or without zuko.
        RunError: if the training diverges.
    """
    nameless = [""] * features.shape[1]  # from which nothing follows
    following = find_following(names or nameless, features)
    features = following.coordinates(features)
    transformation = fit_features(features)
    centre, scale = float(m_jj.mean()), float(m_jj.std())
    scaled = (m_jj - centre) / scale
    found = transformation.marks(features)
    values = transformation.forward(features, np.random.default_rng([seed, 1]))
    flow = fit_flow(values, np.column_stack([scaled, found]), seed, settings)
    return MassDensity(following, transformation, fit_marks(found, scaled), flow, centre, scale)


def fit_sidebands(
    features: Floats,
    m_jj: Floats,
    region: Window,
    seed: int,
    settings: FlowSettings | None = None,
    *,
    names: Sequence[str] | None = None,
) -> SidebandDensity:
    """Learns spectrum and density of the events outside a region (CATHODE, arXiv:2109.00546).

    Args:
        features: (N, F), NaN where absent. Rows inside the region are not looked at.
        m_jj: (N,) in GeV.
        region: the signal region; everything else is sideband.
        seed: seed of all random numbers; equal seeds give equal densities.
        settings: sizes and training of the flow.
        names: names of the F features, as for ``fit_density``.

    Raises:
        InputError: for shapes that do not fit, infinite features, masses that are no positive
            numbers, fewer than 100 events on either side of the region, or without zuko.
        RunError: if the training diverges.
    """
    if features.ndim != 2 or m_jj.shape != features.shape[:1]:
        raise InputError(f"features of shape {features.shape} do not fit m_jj of {m_jj.shape}")
    check_sidebands(m_jj, region)
    outside = ~in_region(m_jj, region)
    return SidebandDensity(
        spectrum=interpolate_spectrum(m_jj, region),
        density=fit_density(features[outside], m_jj[outside], seed, settings, names),
    )


def interpolate(
    features: Floats,
    m_jj: Floats,
    region: Window,
    count: int,
    seed: int,
    *,
    settings: FlowSettings | None = None,
    names: Sequence[str] | None = None,
) -> Floats:
    """Draws the features of background events in a region from the density of its sidebands.

    More events than the region has (``count`` a few times as large) cost little and take the
    template's own fluctuations out of the classifier.

    Args:
        features: (N, F), NaN where absent. Rows inside the region are not looked at.
        m_jj: (N,) in GeV.
        region: the signal region; everything else is sideband.
        count: events to draw.
        seed: seed of all random numbers.
        settings: sizes and training of the flow.
        names: names of the F features, as for ``fit_density``.

    Returns:
        (count, F) features, NaN where absent.

    Raises:
        InputError: without events to draw, and as ``fit_sidebands``.
        RunError: if the training diverges.
    """
    if count < 1:
        raise InputError(f"a template needs at least one event, not {count}")
    density = fit_sidebands(features, m_jj, region, seed, settings, names=names)
    return density.sample(count, seed)[0]
