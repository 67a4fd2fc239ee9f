"""What extended N-subjettiness brings to a boosting, for dedicated and for general classifiers.

python tools/studies/extended.py --background DATASET --test-background DATASET \
    --grid DATASET --points DATASET --signal DATASET        # the tables of docs/results/extended.md

All datasets are made with preprocess.extended=true. Three trainings, each with several seeds, which
choose the training background and the events of early stopping too:

one signal      on one half of the events of --signal, tested on the other
each point      on one half of the events of a signal of --points, tested on the other; the mean
grid            on all events of --grid, tested on the same halves of --points; the mean

With --real, the trainings of one signal are also tested on labelled events of another origin.

Intervals of 95 % come from replicas of all test events, paired between feature sets, and from the
scatter of the trainings. The second table says what cuts on each score do to the background's m_jj;
its intervals are of the events, for one of the trainings, the one of the median rank correlation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from case_means import Floats, Mean, Scored, measure
from scipy.stats import spearmanr

from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.scorer import Scorer, TrainingSample
from hepllm.config import SearchConfig
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.evaluation.records import Estimate
from hepllm.evaluation.sculpting import BackgroundMasses, MassBins, measure_sculpting
from hepllm.evaluation.sculpting_records import ClassifierSculpting
from hepllm.logs import configure_logging
from hepllm.schema import BACKGROUND, CATHODE_FEATURES, EXTENDED_FEATURES, SIGNAL, feature_names
from hepllm.search.spectra import bin_edges

LOG = logging.getLogger("hepllm.extended")
PATH = click.Path(path_type=Path, exists=True, file_okay=False)

FEATURE_SETS: Mapping[str, tuple[str, ...]] = {
    "cathode": feature_names("cathode"),
    "search": feature_names("search"),
    "masses + tau": (*CATHODE_FEATURES[:2], *EXTENDED_FEATURES),
    "extended": feature_names("extended"),
}
"""``masses + tau`` is the set "Extended 3" of Finke et al., arXiv:2309.13111."""

NAMES = feature_names("extended")


@dataclass(frozen=True, eq=False)
class Case:
    """One training and what it is tested on.

    Attributes:
        signal: signal events of the training.
        tested: other signal events, one table a signal.
        background: background of the test; None for that of the study.
    """

    signal: EventTable
    tested: tuple[EventTable, ...]
    background: EventTable | None = None


def halves_by_point(dataset: Dataset) -> Iterator[tuple[EventTable, EventTable]]:
    """The events of each simulated signal of a dataset, those of even and of odd rows."""
    table = dataset.load(NAMES)
    for points in (source.signal_points or () for source in dataset.manifest.sources):
        for point in points:
            place = table.event_id - point.first
            mine = (place >= 0) & (place < point.events)
            yield table.take(mine & (place % 2 == 0)), table.take(mine & (place % 2 == 1))


def train(signal: EventTable, background: EventTable, features: Sequence[str], seed: int) -> Scorer:
    """Fits a boosting to all of the signal and background."""
    columns = [NAMES.index(name) for name in features]
    sample = TrainingSample(
        features=np.concatenate([table.features[:, columns] for table in (signal, background)]),
        names=tuple(features),
        label=np.repeat([SIGNAL, BACKGROUND], [len(signal), len(background)]),
        seed=seed,
    )
    return fit_boosting(sample)


@dataclass(frozen=True, eq=False)
class Study:
    """Events of the background, and how often to train.

    Attributes:
        background: events of which each training takes some.
        tested: background of the tests.
        n_training: background events of a training.
        seeds: number of trainings.
        seed: first seed.
    """

    background: EventTable
    tested: EventTable
    n_training: int
    seeds: int
    seed: int

    def score(self, cases: Sequence[Case], features: Sequence[str]) -> list[list[Scored]]:
        """Scores of each training with other seeds, for each test of each case."""
        columns = [NAMES.index(name) for name in features]
        found = []
        for seed in range(self.seed, self.seed + self.seeds):
            random = np.random.default_rng([seed, 1])
            chosen = random.permutation(len(self.background))[: self.n_training]
            background, scored = self.background.take(chosen), []
            for case in cases:
                scorer = train(case.signal, background, features, seed)
                tested = self.tested if case.background is None else case.background
                of_background = scorer.score(tested.features[:, columns])
                scored += [
                    Scored(scorer.score(signal.features[:, columns]), of_background)
                    for signal in case.tested
                ]
            found.append(scored)
            LOG.info("training %d of %d on %d features", len(found), self.seeds, len(features))
        return found


@click.command()
@click.option("--background", type=PATH, required=True, help="Background of the trainings.")
@click.option("--test-background", type=PATH, required=True, help="Background of the tests.")
@click.option("--grid", type=PATH, required=True, help="Signals of many masses, for training.")
@click.option("--points", type=PATH, required=True, help="Other signals of known masses.")
@click.option("--signal", type=PATH, required=True, help="Events of one signal.")
@click.option("--real", type=PATH, help="Labelled events, tested with the trainings of --signal.")
@click.option("--training-events", default=60_000, show_default=True, help="Background of each.")
@click.option("--seeds", default=5, show_default=True, help="Trainings of each kind.")
@click.option("--replicas", default=300, show_default=True, help="Bootstrap replicas.")
@click.option("--seed", default=1, show_default=True)
@click.option("--only", multiple=True, help="Kind of training; repeatable; else all three.")
@click.option("--features", multiple=True, type=click.Choice(list(FEATURE_SETS)))
def main(grid: Path, points: Path, signal: Path, only: tuple[str, ...], **options: Any) -> None:
    """Compares feature sets of a boosting."""
    configure_logging(0)
    study = Study(
        background=read_dataset(options["background"]).load(NAMES),
        tested=read_dataset(options["test_background"]).load(NAMES),
        n_training=options["training_events"],
        seeds=options["seeds"],
        seed=options["seed"],
    )
    of_points = list(halves_by_point(read_dataset(points)))
    (one,) = halves_by_point(read_dataset(signal))
    cases = {
        "one signal": [Case(one[0], (one[1],))],
        "each point": [Case(first, (second,)) for first, second in of_points],
        "grid": [Case(read_dataset(grid).load(NAMES), tuple(odd for _, odd in of_points))],
    }
    if options["real"] is not None:
        real = read_dataset(options["real"]).load(NAMES)
        classes = [real.take(real.label == label) for label in (SIGNAL, BACKGROUND)]
        cases["one signal, real events"] = [Case(one[0], (classes[0],), classes[1])]
    of_power, of_masses = [_head(COLUMNS)], [_head(SCULPTING)]
    for name in only or cases:
        scored = {
            label: study.score(cases[name], FEATURE_SETS[label])
            for label in options["features"] or FEATURE_SETS
        }
        of_power += _rows(name, scored, options["replicas"], study.seed)
        if len(cases[name]) == 1 and cases[name][0].background is None:
            masses = read_dataset(options["test_background"]).load(["m_jj"]).column("m_jj")
            of_masses += _sculpting_rows(name, scored, masses, study.seed)
    click.echo("\n".join([*of_power, "", *of_masses]))


COLUMNS = (
    "training",
    "features",
    "AUC",
    "SIC at eps_S = 0.5",
    "over `search`",
    "N_b passing",
    "SIC at eps_B = 1e-3",
    "over `search`",
)


SCULPTING = (
    "training",
    "features",
    "rank correlation with m_jj",
    "power of m_jj at eps_B = 0.01",
    "JS distance",
    "random below",
    "largest excess",
    "random below",
)

Trainings = Sequence[Sequence[Scored]]
"""For each training, the scores of each test."""


def _head(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |\n|" + "---|" * len(columns)


def _rows(name: str, scored: Mapping[str, Trainings], replicas: int, seed: int) -> list[str]:
    _, measured = measure(scored, replicas, seed)
    means = {
        label: [Mean.of(one, seed) for one in found.values()] for label, found in measured.items()
    }
    of_search, rows = means["search"], []
    for label, (tight, half, area) in means.items():
        cells = [
            name,
            f"`{label}`",
            cell(area, 4),
            cell(half, 2),
            cell(half.over(of_search[1]), 2) if label != "search" else "",
            f"{passing(scored[label]):.0f}",
            cell(tight, 2),
            cell(tight.over(of_search[0]), 2) if label != "search" else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _sculpting_rows(
    name: str, scored: Mapping[str, Trainings], m_jj: Floats, seed: int
) -> list[str]:
    config = SearchConfig()
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    inside = (m_jj >= edges[0]) & (m_jj < edges[-1])
    bins = MassBins(edges, config.narrowest, config.widest)
    background = BackgroundMasses(m_jj[inside], np.ones(np.count_nonzero(inside)), bins)
    scores = {
        label: _of_median_correlation([one[0].background[inside] for one in trainings], background)
        for label, trainings in scored.items()
    }
    record, _ = measure_sculpting(background, scores, mass="m_jj", confidence=0.95, seed=seed)
    return [
        f"| {name} | `{label}` | {' | '.join(_sculpting_cells(found))} |"
        for label, found in record.classifiers.items()
    ]


def _sculpting_cells(found: ClassifierSculpting) -> list[str]:
    correlation, cut = _estimate(found.rank_correlation), found.cuts.get("0.01")
    if cut is None:
        return [correlation, found.undefined["0.01"], "", "", "", ""]
    excess = cut.excess
    return [
        correlation,
        _estimate(cut.power),
        f"{cut.js:.3f}",
        f"{cut.js_random_high:.3f}",
        "" if excess is None else f"{excess.factor:.2f} (p = {excess.p:.3f})",
        "" if excess is None else f"{excess.random_high:.2f}",
    ]


def _of_median_correlation(scores: Sequence[Floats], background: BackgroundMasses) -> Floats:
    found = [spearmanr(score, background.m_jj).statistic for score in scores]
    return scores[int(np.argsort(found)[len(found) // 2])]


def _estimate(found: Estimate) -> str:
    if found.value is None or found.interval is None:
        return "undefined"
    return f"{found.value:.2f} [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"


def passing(trainings: Trainings) -> float:
    """The median background that passes at eps_S = 0.5, over trainings and signals."""
    return float(
        np.median(
            [
                np.count_nonzero(one.background >= np.quantile(one.signal, 0.5))
                for cases in trainings
                for one in cases
            ]
        )
    )


def cell(mean: Mean, digits: int) -> str:
    """A mean with its interval."""
    if np.isnan(mean.value):
        return "undefined"
    low, high = mean.interval
    return f"{mean.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
