"""Whether the global p-value of a scan over the masses of X and Y holds, and what a scan finds.

python tools/studies/mass_plane.py null BACKGROUND SIGNAL             # p-values of null boxes
python tools/studies/mass_plane.py found BACKGROUND SIGNAL HELD --output FILE.jsonl   # with signal

The scores are those of a boosting that gets the masses of a hypothesis, and their differences to
the jet masses, beside the features: quick enough for hundreds of boxes. It is trained on SIGNAL and
on the first 40,000 events of BACKGROUND; boxes are drawn from the rest, and signals from
HELD. Datasets are made by 'hepllm simulate' and 'hepllm preprocess', SIGNAL and HELD with --grid.
'found' compares a scan, a search under the true masses, and a search without a hypothesis by a
boosting that was trained on the same events. Counted pseudo-experiments decide what is found;
medians use weighted ones where few exceed the data, as the reports of 'hepllm search' do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest, norm
from sklearn.ensemble import HistGradientBoostingClassifier
from weak_search import Line, Lines

from hepllm.config.evaluation import SearchConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.signal_truth import signal_truth
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.hypotheses.hypothesis import Hypothesis, parse_hypothesis
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.schema import feature_names
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import fit_box
from hepllm.search.mass_plane import plane_points, select_in_plane
from hepllm.search.plane_toys import scan_plane
from hepllm.search.scan import Bump

LOG = logging.getLogger("mass_plane")

Floats = NDArray[np.float64]

_COPIES = 2
"""Hypotheses under which each background event is shown in training."""

_TRAINED = 40_000
"""Background events that the boosting is trained on."""

_LEVELS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)

_FRACTIONS = (0.001, 0.002, 0.003, 0.005, 0.01)

LEVEL = 0.01
"""Global p-value below which a signal counts as found."""

WAYS = {"scan": "scan", "truth": "true hypothesis", "none": "no hypothesis"}


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
        return cls(_booster(seed).fit(inputs, label, sample_weight=weight))

    def score(self, sample: Sample, hypothesis: Hypothesis) -> Floats:
        """Scores N events under a hypothesis, shape (N,)."""
        masses = np.broadcast_to(hypothesis.masses, (len(sample.m_jj), 2))
        return np.asarray(self.booster.decision_function(_inputs(sample, masses)))


def _booster(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.1, min_samples_leaf=50, random_state=seed
    )


def _inputs(sample: Sample, masses: Floats) -> Floats:
    heavy, light = masses.T
    with np.errstate(divide="ignore"):
        differences = np.log(sample.heavy / heavy), np.log(sample.light / light)
    return np.column_stack([sample.features, masses, *differences])


def load(folder: Path) -> tuple[Sample, Floats, Floats]:
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
    """All that the boxes of a study share.

    Attributes:
        config: rules of the search.
        model: scores events under a hypothesis.
        plain: scores events without one; trained on the same events.
        points: hypotheses of the scan.
        pool: background of the boxes.
        seed: seed of everything.
    """

    config: SearchConfig
    model: Parameterised
    plain: HistGradientBoostingClassifier
    points: Sequence[Hypothesis]
    pool: Sample
    seed: int

    def score(self, sample: Sample, hypothesis: Hypothesis | None) -> Floats:
        """Scores N events, shape (N,)."""
        if hypothesis is None:
            return np.asarray(self.plain.decision_function(sample.features))
        return self.model.score(sample, hypothesis)


def prepare(
    background: Path, signal: Path, *, masses: int, toys: int, seed: int, more: Path | None = None
) -> Setting:
    """Trains the boostings, and gathers the background of the boxes in the m_jj range."""
    events, _, _ = load(background)
    train, stated, _ = load(signal)
    known = events.take(np.arange(_TRAINED))
    model = Parameterised.fit(train, stated, known, seed)
    plain = _booster(seed).fit(
        np.concatenate([train.features, known.features]),
        np.repeat([1, 0], [len(train.m_jj), _TRAINED]),
        sample_weight=np.repeat([1.0, len(train.m_jj) / _TRAINED], [len(train.m_jj), _TRAINED]),
    )
    plane = {"masses": masses, "toys": toys, "max_toys": toys}
    config = SearchConfig.model_validate({"plane": plane, "toys": toys, "max_toys": toys})
    truth = signal_truth(read_dataset(signal), read_dataset(signal).load(("m_jj",)))
    points = plane_points(config.plane, TrainedRange.of(truth.signals))
    pool = events.take(np.arange(_TRAINED, len(events.m_jj)))
    if more is not None:
        pool = pool.joined(load(more)[0])
    pool = pool.take((pool.m_jj >= config.m_jj_min) & (pool.m_jj < config.m_jj_max))
    LOG.info("%d points, %d events to draw from", len(points), len(pool.m_jj))
    return Setting(config, model, plain, points, pool, seed)


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
    setting = prepare(background, signal, masses=masses, toys=toys, seed=seed)
    scores = {one: setting.model.score(setting.pool, one) for one in setting.points}
    overall, by_point, trials = [], [], []
    random = np.random.default_rng([seed, 62])
    for number in range(boxes):
        drawn = random.choice(len(setting.pool.m_jj), events, replace=False)
        box = setting.pool.take(drawn).box()
        mine = {one: score[drawn] for one, score in scores.items()}
        spectra = select_in_plane(box, setting.points, mine.__getitem__, setting.config)
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
        low, high = clopper_pearson(count, boxes, 0.68)
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
@click.option("--more", type=PATH, help="More background to draw boxes from.")
@click.option(
    "--fraction", "fractions", type=float, multiple=True, default=_FRACTIONS, show_default=True,
    help="Signal fraction of a box.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A .jsonl file.")
@_options
def found(
    background: Path,
    signal: Path,
    held: Path,
    *,
    more: Path | None,
    fractions: Sequence[float],
    output: Path,
    boxes: int,
    events: int,
    masses: int,
    toys: int,
    seed: int,
) -> None:
    """Searches boxes with signals of HELD in three ways, and prints how often each finds them.

    BOXES boxes of each fraction are shared out among the signals of HELD. Boxes that OUTPUT has
    are not searched again.
    """
    setting = prepare(background, signal, masses=masses, toys=toys, seed=seed, more=more)
    simulated, stated, z_mass = load(held)
    truths = np.unique(np.column_stack([z_mass, stated]), axis=0)
    in_range = (simulated.m_jj >= setting.config.m_jj_min) & (
        simulated.m_jj < setting.config.m_jj_max
    )
    scores = PoolScores(setting, {})
    wanted = [
        {"events": events, "masses": masses, "toys": toys, "seed": seed, "fraction": fraction,
         "signal": list(truth), "box": box}
        for truth in truths.tolist()
        for fraction in fractions
        for box in range(max(1, boxes // len(truths)))
    ]  # fmt: skip
    lines = Lines(output, ("events", "masses", "toys", "seed", "fraction", "signal", "box"))
    for truth, group in groupby(lines.missing(wanted), lambda line: line["signal"]):
        is_mine = in_range & (np.column_stack([z_mass, stated]) == truth).all(axis=1)
        scores = scores.of_signal(simulated.take(is_mine), truth)
        for line in group:
            lines.add({**line, **_search_in_three_ways(scores, line)})
    _print_table(lines.read())


@dataclass(frozen=True, eq=False)
class PoolScores:
    """Scores of what boxes are made of, background first, by hypothesis; None has none.

    Scores of the background are kept from one signal to the next.
    """

    setting: Setting
    of_pool: dict[Hypothesis | None, Floats]
    events: Sample | None = None
    of_events: dict[Hypothesis | None, Floats] | None = None
    truth: Hypothesis | None = None

    def of_signal(self, signal: Sample, truth: Sequence[float]) -> PoolScores:
        """With the events of a signal, given its masses of Z', X and Y in GeV."""
        setting, pool = self.setting, self.setting.pool
        exact = parse_hypothesis(f"X of {truth[1]:g} GeV and Y of {truth[2]:g} GeV")
        for one in (*setting.points, None):
            if one not in self.of_pool:
                self.of_pool[one] = setting.score(pool, one)
        known = {**self.of_pool, exact: setting.score(pool, exact)}
        scores = {
            one: np.concatenate([score, setting.score(signal, one)]) for one, score in known.items()
        }
        return replace(self, events=pool.joined(signal), of_events=scores, truth=exact)


def _search_in_three_ways(scores: PoolScores, line: Line) -> Line:
    """Scans a box, and searches it under the true hypothesis and without one."""
    setting, events, by = scores.setting, scores.events, scores.of_events
    if events is None or by is None or scores.truth is None:
        raise ValueError("no signal")
    n_pool, n_all = len(setting.pool.m_jj), len(events.m_jj)
    inject = round(line["fraction"] * line["events"])
    key = [setting.seed, 63, *map(round, line["signal"]), inject, line["box"]]
    random = np.random.default_rng(key)
    drawn = np.concatenate([
        random.choice(n_pool, line["events"] - inject, replace=False),
        n_pool + random.choice(n_all - n_pool, inject, replace=False),
    ])  # fmt: skip
    sample, seed = events.take(drawn), int(random.integers(1 << 30))
    made: Line = {"n_signal": inject}
    for way, points in (("scan", setting.points), ("truth", [scores.truth])):
        spectra = select_in_plane(sample.box(), points, lambda one: by[one][drawn], setting.config)
        result = scan_plane(spectra, setting.config, seed)
        rare = result.extrapolation
        made[way] = {
            "p": result.overall.value,
            "p_weighted": None if rare is None else rare.p_value,
            "statistic": result.points[result.best].statistic,
            "best": result.spectra.hypotheses[result.best].masses,
            "m_jj": _centre(result.points[result.best].bump, spectra.edges),
        }
    box = replace(sample.box(), score=by[None][drawn])
    fitted = fit_box(box, setting.config, seed)
    toys = fitted.toys
    made["none"] = {
        "p": toys.overall.value,
        "p_weighted": None if toys.rare is None else toys.rare.value,
        "statistic": float(fitted.data.statistic[0].max()),
        "m_jj": _centre(fitted.bump, fitted.spectra.edges),
    }
    return made


def _centre(bump: Bump, edges: Floats) -> float:
    return float(np.sqrt(edges[bump.start] * edges[bump.start + bump.width]))


def _print_table(lines: Sequence[Line]) -> None:
    """Prints how often each way finds the signals: of each fraction, and of each signal."""
    shares = " | ".join(f"{title}: p < {LEVEL:g}, share [68 %]" for title in WAYS.values())
    click.echo(f"| signal | boxes | {shares} | median sigma: {', '.join(WAYS.values())} |")
    click.echo("|---|---|---|---|---|---|")
    for fraction, group in _grouped(lines, lambda line: line["fraction"]):
        shown = [_share([_is_found(one, way) for one in group]) for way in WAYS]
        sigma = ", ".join(_sigma(group, way) for way in WAYS)
        click.echo(f"| {fraction:.2%} | {len(group)} | {' | '.join(shown)} | {sigma} |")
    fractions = sorted({line["fraction"] for line in lines})
    columns = " | ".join(f"{one:.2%}" for one in fractions)
    click.echo(f"\n| m_Z', m_X, m_Y [GeV] | {columns} | best m_X, m_Y where found |")
    click.echo("|---|" + "---|" * len(fractions) + "---|")
    for signal, group in _grouped(lines, lambda line: tuple(line["signal"])):
        cells = []
        for _, boxes in _grouped(group, lambda line: line["fraction"]):
            hits = [sum(_is_found(one, way) for one in boxes) for way in WAYS]
            cells.append(f"{', '.join(map(str, hits))} of {len(boxes)}")
        best = [one["scan"]["best"] for one in group if _is_found(one, "scan")]
        median = [f"{one:.0f}" for one in np.median(best, axis=0)] if best else ["-"]
        masses = ", ".join(f"{one:.0f}" for one in signal)
        click.echo(f"| {masses} | {' | '.join(cells)} | {', '.join(median)} |")


def _grouped(lines: Sequence[Line], key: Callable[[Line], Any]) -> list[tuple[Any, list[Line]]]:
    return [(value, list(group)) for value, group in groupby(sorted(lines, key=key), key)]


def _is_found(line: Line, way: str) -> bool:
    return bool(line[way]["p"] < LEVEL)


def _sigma(lines: Sequence[Line], way: str) -> str:
    """Median significance; "> x" if it is beyond all pseudo-experiments and their extrapolation."""
    ends = [(one[way]["p_weighted"] or one[way]["p"], one[way]["p_weighted"]) for one in lines]
    floor = min(one[way]["p"] for one in lines)
    known = sorted(0.0 if weighted is None and p <= floor else p for p, weighted in ends)
    median = known[len(known) // 2]
    return f"{norm.isf(min(median, 0.5)):.1f}" if median else f"> {norm.isf(floor):.1f}"


def _share(hits: Sequence[bool]) -> str:
    low, high = clopper_pearson(sum(hits), len(hits), 0.68)
    return f"{np.mean(hits):.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
