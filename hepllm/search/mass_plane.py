"""The points of a scan over the masses of X and Y, and the spectra of what they select."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array, vstack

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config.evaluation import MassPlaneConfig, SearchConfig
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import Hypothesis, parse_hypothesis
from hepllm.hypotheses.phrases import describe
from hepllm.hypotheses.signal import Product, Signal
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import check_scores, usable_cuts
from hepllm.search.spectra import ScoreCut, bin_edges

Score = Callable[[Hypothesis], Floats]
"""Scores the N events of a box under a hypothesis, shape (N,); NaN outside of the m_jj range."""


def in_mass_range(m_jj: Floats, config: SearchConfig) -> Bools:
    """The events, shape (N,), that a search looks at, by their mass in GeV."""
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    return np.asarray((m_jj >= edges[0]) & (m_jj < edges[-1]))


def plane_points(config: MassPlaneConfig, trained: TrainedRange | None) -> list[Hypothesis]:
    """The hypotheses of a scan: all pairs of masses, in rising order of the heavier one.

    Args:
        config: settings of the scan.
        trained: range of the training, which no point leaves; None where it is not known.

    Raises:
        InputError: if the range of masses is neither set nor known, or no pair is in it.
    """
    low = config.m_min or (None if trained is None else trained.lighter_min)
    high = config.m_max or (None if trained is None else trained.heavier_max)
    if low is None or high is None:
        raise InputError(
            "the masses that the model was trained on are not known; set "
            "evaluation.search.plane.m_min and m_max"
        )
    masses = np.unique(np.round(np.geomspace(low, high, config.masses))).tolist()
    points = _points(masses, masses, config, trained)
    if not points:
        raise InputError(
            f"no pair of masses from {low:g} to {high:g} GeV is in the range of the training; set "
            "evaluation.search.plane.m_min and m_max"
        )
    return points


def refined_points(
    points: Sequence[Hypothesis],
    best: Hypothesis,
    config: MassPlaneConfig,
    trained: TrainedRange | None,
) -> list[Hypothesis]:
    """The hypotheses around a point of a scan, as far as its neighbours, that the scan left out.

    Args:
        points: points of the scan.
        best: one of them.
        config: settings of the scan; ``fit.refine`` masses are put between two neighbours.
        trained: range of the training, which no point leaves; None where it is not known.
    """
    known = np.unique([one.masses for one in points])
    heavier, lighter = (_around(known, mass, config.fit.refine) for mass in best.masses)
    old = {one.masses for one in points}
    return [one for one in _points(heavier, lighter, config, trained) if one.masses not in old]


def _around(known: Floats, mass: float, n_between: int) -> list[float]:
    place = int(np.searchsorted(known, mass))
    ends = known[max(place - 1, 0) : place + 2]
    parts = [np.geomspace(*pair, n_between + 2) for pair in pairwise(ends)]
    return [float(one) for one in np.unique(np.round(np.concatenate([ends, *parts])))]


def _points(
    heavier: Sequence[float],
    lighter: Sequence[float],
    config: MassPlaneConfig,
    trained: TrainedRange | None,
) -> list[Hypothesis]:
    """The hypotheses of all pairs of masses that a training covers."""
    signals = [
        Signal((Product(heavy, config.decay_x), Product(light, config.decay_y)))
        for heavy in heavier
        for light in lighter
        if light <= heavy and (trained is None or _inside(trained, heavy, light))
    ]
    return [parse_hypothesis(describe(signal)) for signal in signals]


def _inside(trained: TrainedRange, heavy: float, light: float) -> bool:
    # Whole GeV may lie just outside.
    return (
        trained.heavier_min - 1 <= heavy <= trained.heavier_max + 1
        and trained.lighter_min - 1 <= light <= trained.lighter_max + 1
    )


@dataclass(frozen=True, eq=False)
class PlaneSpectra:
    """Spectra of the events that K points select with S selections each.

    Attributes:
        hypotheses: K hypotheses.
        edges: (B + 1,) in GeV.
        cuts: S cuts of each point, the loosest first.
        rejected: (K, B) events that fail the loosest cut of a point.
        selected: (K, S, B) events that pass.
        passing: (K S, E) which of E events pass; these are the events that pass anywhere.
        n_events: events of the box.
        n_in_range: events in the m_jj range.
    """

    hypotheses: Sequence[Hypothesis]
    edges: Floats
    cuts: Sequence[Sequence[ScoreCut]]
    rejected: Floats
    selected: Floats
    passing: csr_array
    n_events: int
    n_in_range: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of points, of selections and of bins."""
        n_points, n_selections, n_bins = self.selected.shape
        return n_points, n_selections, n_bins


def select_in_plane(
    events: BoxEvents,
    hypotheses: Sequence[Hypothesis],
    score: Score,
    config: SearchConfig,
    done: Callable[[], object] = lambda: None,
) -> PlaneSpectra:
    """Scores a box under each hypothesis, and keeps the spectra of what passes its tightest cuts.

    The cuts of a point keep the shares that ``config.efficiencies`` fixes, of which it uses the
    tightest that keep enough events.

    Args:
        events: events of the box; their scores are not used.
        hypotheses: K hypotheses.
        score: scores the box under one of them.
        config: rules of the search.
        done: called after each hypothesis.

    Raises:
        InputError: if a score is not finite, or too few events are in the m_jj range.
    """
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    in_range = in_mass_range(events.m_jj, config)
    m_jj = events.m_jj[in_range]
    cuts, passing = [], []
    for hypothesis in hypotheses:
        scores = score(hypothesis)
        check_scores(np.where(in_range, scores, 0.0))
        inside = scores[in_range]
        mine = usable_cuts(inside, config)[-config.plane.selections :]
        cuts.append(mine)
        passing.append(_rows([np.flatnonzero(inside > cut.threshold) for cut in mine], len(inside)))
        done()
    n_selections = min(map(len, cuts))
    cuts = [mine[-n_selections:] for mine in cuts]
    all_passing = vstack([rows[-n_selections:] for rows in passing], format="csr")
    anywhere = np.flatnonzero(all_passing.sum(axis=0))
    selected = np.array(
        [np.histogram(m_jj[rows.indices], edges)[0] for rows in all_passing], dtype=np.float64
    ).reshape(len(cuts), n_selections, len(edges) - 1)
    return PlaneSpectra(
        hypotheses=hypotheses,
        edges=edges,
        cuts=cuts,
        rejected=np.histogram(m_jj, edges)[0] - selected[:, 0],
        selected=selected,
        passing=csr_array(all_passing[:, anywhere]),
        n_events=len(events.m_jj),
        n_in_range=len(m_jj),
    )


def _rows(members: Sequence[Ints], n_columns: int) -> csr_array:
    """A matrix with ones in the given columns of each row."""
    starts = np.concatenate([[0], np.cumsum([len(one) for one in members])])
    columns = np.concatenate(members)
    return csr_array((np.ones(len(columns)), columns, starts), shape=(len(members), n_columns))
