"""Whether the global p-value of a scan over the masses of X and Y holds, and what a scan finds.

python tools/studies/mass_plane.py null BACKGROUND SIGNAL             # p-values of null boxes
python tools/studies/mass_plane.py found BACKGROUND SIGNAL HELD       # boxes with signal

The scores are those of a boosting that gets the masses of a hypothesis, and their differences to
the jet masses, beside the features: quick enough for hundreds of boxes. It is trained on SIGNAL and
on the first 40,000 events of BACKGROUND; boxes are drawn from the rest, and signals from
HELD. Datasets are made by 'hepllm simulate' and 'hepllm preprocess', SIGNAL and HELD with --grid.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, kstest
from sklearn.ensemble import HistGradientBoostingClassifier

from hepllm.config.evaluation import SearchConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.signal_truth import signal_truth
from hepllm.hypotheses.hypothesis import Hypothesis, parse_hypothesis
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.schema import feature_names
from hepllm.search.box import BoxEvents
from hepllm.search.mass_plane import PlaneSpectra, plane_points, select_in_plane
from hepllm.search.plane_toys import PlaneResult, scan_plane

LOG = logging.getLogger("mass_plane")

Floats = NDArray[np.float64]

_COPIES = 2
"""Hypotheses under which each background event is shown in training."""

_TRAINED = 40_000
"""Background events that the boosting is trained on."""

_LEVELS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


@dataclass(frozen=True, eq=False)
class Sample:
    """N events: ``features`` (N, F), ``m_jj``, masses of the ``light`` and ``heavy`` jet in GeV."""

    features: Floats
    m_jj: Floats
    light: Floats
    heavy: Floats

    def take(self, events: NDArray[np.generic]) -> Sample:
        """Some of the events, by a mask or by positions."""
        return Sample(
            self.features[events], self.m_jj[events], self.light[events], self.heavy[events]
        )

    def joined(self, other: Sample) -> Sample:
        """These events, and others after them."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sample(*(np.concatenate(pair) for pair in pairs))

    def box(self) -> BoxEvents:
        """The events as a search sees them."""
        return BoxEvents(np.zeros(len(self.m_jj)), self.m_jj, self.light, self.heavy)


@dataclass(frozen=True, eq=False)
class Parameterised:
    """A boosting that gets the masses of a hypothesis as inputs."""

    booster: HistGradientBoostingClassifier

    @classmethod
    def fit(cls, signal: Sample, masses: Floats, background: Sample, seed: int) -> Parameterised:
        """Trains on signal under its own masses (N, 2), and background under drawn ones."""
        random = np.random.default_rng([seed, 61])
        rows = np.tile(np.arange(len(background.m_jj)), _COPIES)
        drawn = masses[random.integers(len(masses), size=len(rows))]
        inputs = np.concatenate([_inputs(signal, masses), _inputs(background.take(rows), drawn)])
        label = np.repeat([1, 0], [len(masses), len(rows)])
        weight = np.repeat([1.0, len(masses) / len(rows)], [len(masses), len(rows)])
        booster = HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.1, min_samples_leaf=50, random_state=seed
        )
        return cls(booster.fit(inputs, label, sample_weight=weight))

    def score(self, sample: Sample, hypothesis: Hypothesis) -> Floats:
        """Scores N events under a hypothesis, shape (N,)."""
        masses = np.broadcast_to(hypothesis.masses, (len(sample.m_jj), 2))
        return np.asarray(self.booster.decision_function(_inputs(sample, masses)))


def _inputs(sample: Sample, masses: Floats) -> Floats:
    heavy, light = masses.T
    with np.errstate(divide="ignore"):
        differences = np.log(sample.heavy / heavy), np.log(sample.light / light)
    return np.column_stack([sample.features, masses, *differences])


def _load(folder: Path) -> tuple[Sample, Floats, Floats]:
    """Loads a dataset: the events, their true masses of X and Y (N, 2), and that of Z' (N,)."""
    dataset = read_dataset(folder)
    names = tuple(dict.fromkeys((*feature_names("search"), "m_jj", "jet_mass_light",
                                 "jet_mass_delta")))  # fmt: skip
    table = dataset.load(names)
    light = table.column("jet_mass_light")
    used = [table.names.index(name) for name in feature_names("search")]
    sample = Sample(
        table.features[:, used], table.column("m_jj"), light, light + table.column("jet_mass_delta")
    )
    truth = signal_truth(dataset, table)
    if not truth.signals:
        return sample, np.empty((0, 2)), np.empty(0)
    masses = np.array([one.masses for one in truth.signals])[truth.place]
    return sample, masses, dataset.true_masses(table)[:, 0]


@dataclass(frozen=True, eq=False)
class Setting:
    """All that the boxes of a study share."""

    config: SearchConfig
    model: Parameterised
    points: Sequence[Hypothesis]
    pool: Sample
    seed: int


def _prepare(background: Path, signal: Path, masses: int, toys: int, seed: int) -> Setting:
    events, _, _ = _load(background)
    train, stated, _ = _load(signal)
    model = Parameterised.fit(train, stated, events.take(np.arange(_TRAINED)), seed)
    plane = {"masses": masses, "toys": toys, "max_toys": toys}
    config = SearchConfig.model_validate({"plane": plane})
    truth = signal_truth(read_dataset(signal), read_dataset(signal).load(("m_jj",)))
    points = plane_points(config.plane, TrainedRange.of(truth.signals))
    pool = events.take(np.arange(_TRAINED, len(events.m_jj)))
    pool = pool.take((pool.m_jj >= config.m_jj_min) & (pool.m_jj < config.m_jj_max))
    LOG.info("%d points, %d events to draw from", len(points), len(pool.m_jj))
    return Setting(config, model, points, pool, seed)


def _options(command: click.Command) -> click.Command:
    for option in (
        click.option("--boxes", default=200, show_default=True, help="Boxes."),
        click.option(
            "--events",
            default=20_000,
            show_default=True,
            help="Events of a box, in the m_jj range.",
        ),
        click.option("--masses", default=10, show_default=True, help="Masses of X and of Y."),
        click.option("--toys", default=400, show_default=True, help="Pseudo-experiments."),
        click.option("--seed", default=1, show_default=True),
    ):
        command = option(command)
    return command


PATH = click.Path(exists=True, path_type=Path)


@click.group()
def main() -> None:
    """Whether the p-value of a scan over the masses of X and Y holds, and what a scan finds."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("hepllm").setLevel(logging.WARNING)


@main.command()
@click.argument("background", type=PATH)
@click.argument("signal", type=PATH)
@_options
def null(
    background: Path, signal: Path, *, boxes: int, events: int, masses: int, toys: int, seed: int
) -> None:
    """Scans boxes without signal, and counts small p-values."""
    setting = _prepare(background, signal, masses, toys, seed)
    scores = {one: setting.model.score(setting.pool, one) for one in setting.points}
    overall, by_point, trials = [], [], []
    random = np.random.default_rng([seed, 62])
    for number in range(boxes):
        drawn = random.choice(len(setting.pool.m_jj), events, replace=False)
        box = setting.pool.take(drawn).box()
        spectra = _select(setting, box, {one: score[drawn] for one, score in scores.items()})
        result = scan_plane(spectra, setting.config, 1000 * seed + number)
        overall.append(result.overall.value)
        by_point += [one.p_value.value for one in result.points]
        trials.append(result.n_trials)
        if number % 20 == 19:
            LOG.info("%d boxes", number + 1)
    click.echo(f"{boxes} boxes of {events} events, {len(setting.points)} points, {toys} toys each; "
               f"independent points: median {np.median(trials):.1f}")  # fmt: skip
    click.echo("| p <= | global: boxes, share [68 %] | one point alone: share |")
    click.echo("|---|---|---|")
    for level in _LEVELS:
        count = int((np.array(overall) <= level).sum())
        low, high = _interval(count, boxes)
        share = (np.array(by_point) <= level).mean()
        click.echo(
            f"| {level:g} | {count}, {count / boxes:.3f} [{low:.3f}, {high:.3f}] | {share:.3f} |"
        )
    test = kstest(overall, "uniform")
    click.echo(f"\nKolmogorov-Smirnov distance to a flat distribution {test.statistic:.3f}, "
               f"p = {test.pvalue:.2f}")  # fmt: skip


@main.command()
@click.argument("background", type=PATH)
@click.argument("signal", type=PATH)
@click.argument("held", type=PATH)
@click.option("--inject", default=40, show_default=True, help="Signal events of a box.")
@_options
def found(
    background: Path,
    signal: Path,
    held: Path,
    *,
    inject: int,
    boxes: int,
    events: int,
    masses: int,
    toys: int,
    seed: int,
) -> None:
    """Scans boxes with signals of HELD, and the same boxes under the true masses alone.

    BOXES boxes are shared out among the signals of HELD.
    """
    setting = _prepare(background, signal, masses, toys, seed)
    simulated, stated, z_mass = _load(held)
    truths = np.unique(np.column_stack([stated, z_mass]), axis=0)
    click.echo(f"{inject} signal in {events} events, {len(setting.points)} points, {toys} toys")
    click.echo("| m_Z', m_X, m_Y [GeV] | boxes | p < 0.01 by the scan | p < 0.01 under the truth | "
               "median local sigma: scan, truth | median best m_X, m_Y |")  # fmt: skip
    click.echo("|---|---|---|---|---|---|")
    total = np.zeros(3, dtype=int)
    for place, (heavy, light, mass) in enumerate(truths):
        mine = simulated.take((stated == (heavy, light)).all(axis=1) & (z_mass == mass))
        n_boxes = max(1, boxes // len(truths))
        results = [
            _scan_both(setting, mine, (heavy, light), (inject, events), 100 * place + one)
            for one in range(n_boxes)
        ]
        scanned, alone = zip(*results, strict=True)
        hits = [sum(one.overall.value < 0.01 for one in many) for many in (scanned, alone)]
        total += [n_boxes, *hits]
        sigma = [np.median([one.points[one.best].statistic for one in many])
                 for many in (scanned, alone)]  # fmt: skip
        sigma = [np.sqrt(2 * one) for one in sigma]
        best = np.median([one.spectra.hypotheses[one.best].masses for one in scanned], axis=0)
        click.echo(
            f"| {mass:.0f}, {heavy:.0f}, {light:.0f} | {n_boxes} | {hits[0]} | {hits[1]} | "
            f"{sigma[0]:.1f}, {sigma[1]:.1f} | {best[0]:.0f}, {best[1]:.0f} |"
        )
    click.echo(f"| all | {total[0]} | {total[1]} | {total[2]} | | |")


def _scan_both(
    setting: Setting, of: Sample, truth: tuple[float, float], sizes: tuple[int, int], number: int
) -> tuple[PlaneResult, PlaneResult]:
    """Scans one box over all points, and over the true masses alone."""
    inject, events = sizes
    random = np.random.default_rng([setting.seed, 63, number])
    signal = of.take(random.choice(len(of.m_jj), inject, replace=False))
    rest = setting.pool.take(random.choice(len(setting.pool.m_jj), events - inject, replace=False))
    sample = rest.joined(signal)
    exact = parse_hypothesis(f"X of {truth[0]:g} GeV and Y of {truth[1]:g} GeV")
    found = []
    for points in (setting.points, [exact]):
        scores = {one: setting.model.score(sample, one) for one in points}
        spectra = _select(replace(setting, points=points), sample.box(), scores)
        found.append(scan_plane(spectra, setting.config, number))
    return found[0], found[1]


def _select(setting: Setting, box: BoxEvents, scores: dict[Hypothesis, Floats]) -> PlaneSpectra:
    return select_in_plane(box, setting.points, scores.__getitem__, setting.config)


def _interval(count: int, total: int) -> tuple[float, float]:
    """Clopper and Pearson's 68 % interval of a share."""
    low = 0.0 if count == 0 else float(beta.ppf(0.16, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(0.84, count + 1, total - count))
    return low, high


if __name__ == "__main__":
    main()
