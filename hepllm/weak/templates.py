"""Templates of the background in a signal region, which data are classified against.

A classifier of two samples that differ in their fraction of signal orders events as one of signal
against background does (Metodiev, Nachman, Thaler, arXiv:1708.02949). Each template is a way to
get the sample with less signal:

``sidebands``   data of both sidebands, each with half of the weight (CWoLa, arXiv:1902.02634)
``density``     drawn from the density of the features, interpolated from the sidebands (CATHODE,
                arXiv:2109.00546)
``simulation``  simulated events of the signal region
``reweighted``  the same, with weights that make simulation agree with data in the sidebands
                (SALAD, arXiv:2001.05001)
``ideal``       true background of the signal region, which no search has: a reference
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.baselines.boosting import Boosting, fit_boosting
from hepllm.baselines.scorer import TrainingSample
from hepllm.config.weak import BackgroundTemplate
from hepllm.errors import InputError
from hepllm.weak.regions import Region

_MASS = "m_jj"


@dataclass(frozen=True, eq=False)
class Sample:
    """N events without labels.

    Attributes:
        features: (N, F), NaN where missing.
        m_jj: (N,) in GeV.
        weight: (N,), not negative; None for equal ones.
    """

    features: Floats
    m_jj: Floats
    weight: Floats | None = None

    def __len__(self) -> int:
        return len(self.m_jj)

    def take(self, events: Bools) -> Sample:
        """The events of a mask, shape (N,)."""
        weight = None if self.weight is None else self.weight[events]
        return Sample(self.features[events], self.m_jj[events], weight)


@dataclass(frozen=True, eq=False)
class Template:
    """Background-like events.

    Attributes:
        features: (T, F).
        weight: (T,), sums to T.
        rows: (T,) positions of these events in the sample that they were taken from: the data
            for ``sidebands``, else the other dataset; None where they were drawn.
    """

    features: Floats
    weight: Floats
    rows: Ints | None = None

    @classmethod
    def of(
        cls, features: Floats, weight: Floats | None = None, rows: Ints | None = None
    ) -> Template:
        """A template with its weights normalised; None for equal ones."""
        if weight is None:
            weight = np.ones(len(features))
        return cls(features, weight * (len(weight) / weight.sum()), rows)


@dataclass(frozen=True)
class TemplateMaker:
    """How the template of a search is made.

    Attributes:
        kind: where the background comes from.
        names: names of the F features.
        oversampling: drawn events for each event of the signal region, for ``density``.
    """

    kind: BackgroundTemplate
    names: tuple[str, ...]
    oversampling: int = 4

    def make(self, data: Sample, region: Region, background: Sample | None, seed: int) -> Template:
        """Makes the template of a signal region.

        Args:
            data: N events of the box; events that the classifiers are to score are not among them.
            region: the signal region.
            background: events of the other dataset, for those templates that need one.
            seed: seed of draws and of the classifier that reweights.

        Raises:
            InputError: if the other dataset is missing, or has too few events, or zuko is not
                installed, which ``density`` needs.
        """
        if self.kind == "sidebands":
            return _sidebands(data, region)
        if self.kind == "density":
            count = self.oversampling * int(region.signal(data.m_jj).sum())
            return _density(data, region, count, seed, self.names)
        if background is None:
            raise InputError(f"the template {self.kind} needs a dataset of background")
        is_inside = region.signal(background.m_jj)
        inside, rows = background.take(is_inside), np.flatnonzero(is_inside)
        weight = inside.weight
        if self.kind == "reweighted":
            ratio = _ratios(data, background, region, self.names, seed)
            weight = np.exp(ratio.score(_with_mass(inside))) * (1 if weight is None else weight)
        return Template.of(inside.features, weight, rows)


def _density(
    data: Sample, region: Region, count: int, seed: int, names: tuple[str, ...]
) -> Template:
    from hepllm.weak.density import interpolate  # noqa: PLC0415 (imports torch)

    outside = data.take(~region.signal(data.m_jj))
    drawn = interpolate(outside.features, outside.m_jj, region, count, seed, names=names)
    return Template.of(drawn)


def _sidebands(data: Sample, region: Region) -> Template:
    """Both sidebands with half of the weight each, so that what is linear in m_jj cancels."""
    parts = [np.flatnonzero(part(data.m_jj)) for part in (region.lower, region.upper)]
    rows = np.concatenate(parts)
    weight = np.concatenate([np.full(len(one), 1 / len(one)) for one in parts])
    return Template.of(data.features[rows], weight, rows)


def _ratios(
    data: Sample, background: Sample, region: Region, names: tuple[str, ...], seed: int
) -> Boosting:
    """Trains data against simulation in the sidebands; exp(score) is the ratio of densities.

    m_jj is an input, so that the ratio is interpolated to the signal region (SALAD,
    arXiv:2001.05001, equation 3).
    """
    parts = [one.take(region.sidebands(one.m_jj)) for one in (data, background)]
    n_data, n_simulated = (len(one) for one in parts)
    weight = np.ones(n_simulated) if parts[1].weight is None else parts[1].weight
    sample = TrainingSample(
        features=np.concatenate([_with_mass(one) for one in parts]),
        names=(*names, _MASS),
        label=np.repeat([1, 0], [n_data, n_simulated]),
        weight=np.concatenate([np.ones(n_data), weight * (n_data / max(weight.sum(), 1e-300))]),
        seed=seed,
    )
    return fit_boosting(sample)


def _with_mass(sample: Sample) -> Floats:
    return np.column_stack([sample.features, sample.m_jj])


def training_sample(
    data: Sample, region: Region, template: Template, names: tuple[str, ...], seed: int
) -> TrainingSample:
    """Data of the signal region, as class 1, against a template of equal weight, as class 0."""
    inside = data.features[region.signal(data.m_jj)]
    n_data, n_template = len(inside), len(template.weight)
    return TrainingSample(
        features=np.concatenate([inside, template.features]),
        names=names,
        label=np.repeat([1, 0], [n_data, n_template]),
        weight=np.concatenate([np.ones(n_data), template.weight * (n_data / n_template)]),
        seed=seed,
    )
