"""Sculpting of the m_jj spectrum: of feature sets, and of trainings that avoid it.

python tools/studies/sculpting.py hypotheses BACKGROUND TEST SIGNAL TEST_SIGNAL
python tools/studies/sculpting.py curve BACKGROUND TEST SIGNAL TEST_SIGNAL --classifier boosting
python tools/studies/sculpting.py picture boosting.md mlp.md --output docs/decorrelation.png

BACKGROUND and TEST are datasets of background events, SIGNAL and TEST_SIGNAL of signal events; the
tables of docs/results/sculpting.md name those that they were made from. `picture` reads what
`curve` has printed, a file for each classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.hypothesis import fit_given
from hepllm.baselines.mlp import fit_network
from hepllm.baselines.scorer import Scorer, TrainingSample
from hepllm.config import SearchConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.planing import planing_factors
from hepllm.data.signal_truth import SignalTruth, signal_truth
from hepllm.evaluation.sculpting import (
    BackgroundMasses,
    MassBins,
    measure_sculpting,
    passes_at,
)
from hepllm.evaluation.sculpting_records import ClassifierSculpting
from hepllm.hypotheses.hypothesis import parse_hypothesis
from hepllm.hypotheses.phrases import EXACT, phrase
from hepllm.pictures.decorrelation import TradeOff, plot_trade_offs
from hepllm.runs.training_samples import under_hypotheses
from hepllm.schema import SIGNAL, feature_names
from hepllm.search.spectra import bin_edges

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONFIG = SearchConfig()
EDGES = bin_edges(CONFIG.m_jj_min, CONFIG.m_jj_max, CONFIG.bin_width)
BINS = MassBins(EDGES, CONFIG.narrowest, CONFIG.widest)
CONFIDENCE = 0.95
FIT: dict[str, Callable[[TrainingSample], Scorer]] = {
    "boosting": fit_boosting,
    "mlp": fit_network,
}


def measured(m_jj: Floats, score: Floats, seed: int) -> ClassifierSculpting:
    """The sculpting of scores of background events."""
    inside = (m_jj >= EDGES[0]) & (m_jj < EDGES[-1])
    events = BackgroundMasses(m_jj[inside], np.ones(int(inside.sum())), BINS)
    record, _ = measure_sculpting(
        events, {"a": score[inside]}, mass="m_jj", confidence=CONFIDENCE, seed=seed
    )
    return record.classifiers["a"]


@click.group()
def main() -> None:
    """Measures sculpting."""


@dataclass(frozen=True, eq=False)
class Events:
    """Tables of background and signal, to train and to test on."""

    background: EventTable
    signal: EventTable
    test_background: EventTable
    test_signal: EventTable

    def drawn(self, n_signal: int, n_background: int, seed: int) -> tuple[EventTable, Ints]:
        """Draws training events for a seed, signal first, of which the places stand beside."""
        random = np.random.default_rng([seed, 61])
        places = [
            random.permutation(len(table))[:number]
            for table, number in ((self.signal, n_signal), (self.background, n_background))
        ]
        table = concatenate([self.signal.take(places[0]), self.background.take(places[1])])
        return table, places[0]

    def sample(self, n_signal: int, n_background: int, seed: int) -> tuple[TrainingSample, Floats]:
        """The drawn events as a sample; their m_jj stands beside."""
        table, _ = self.drawn(n_signal, n_background, seed)
        names = tuple(name for name in table.names if name != "m_jj")
        names = table.names if "jet1_pt" in names else names
        chosen = [table.names.index(name) for name in names]
        sample = TrainingSample(table.features[:, chosen], names, table.label, seed=seed)
        return sample, table.column("m_jj")


def _load(folders: Sequence[Path], features: str) -> Events:
    names = tuple(dict.fromkeys((*feature_names(features), "m_jj")))  # type: ignore[arg-type]
    background, test, signal, test_signal = (read_dataset(folder).load(names) for folder in folders)
    if folders[2] == folders[3]:  # one dataset of signal: its test split is for tests
        signal, test_signal = (
            signal.take((signal.split == "test") == is_test) for is_test in (False, True)
        )
    if np.isin(test.event_digest, background.event_digest).any():
        raise click.UsageError("BACKGROUND and TEST share events")
    return Events(background, signal.take(signal.label == SIGNAL), test, test_signal)


@dataclass(frozen=True)
class Training:
    """A way to train: its name in the table, and what it changes of the sample.

    Attributes:
        planing: power of the planing factors; 0 for none, 1 for equal spectra of both classes.
        disco: strength of the distance correlation in the loss.
    """

    name: str
    planing: float = 0.0
    disco: float = 0.0

    def applied(self, sample: TrainingSample, m_jj: Floats) -> TrainingSample:
        """The sample with weights and settings."""
        if self.planing:
            weight = planing_factors(m_jj, sample.label, np.ones(len(m_jj)))
            return replace(sample, weight=weight**self.planing)
        return replace(sample, disco=self.disco, m_jj=m_jj)


PLANED = Training("planing", planing=1)


def _trainings(
    classifier: str, strengths: Sequence[float], powers: Sequence[float]
) -> Iterator[Training]:
    yield Training("none")
    yield from (
        PLANED if power == 1 else Training(f"planing ^ {power:g}", planing=power)
        for power in powers
    )
    if classifier == "mlp":
        yield from (Training(f"DisCo {strength:g}", disco=strength) for strength in strengths)


@main.command()
@click.argument("folders", nargs=4, type=click.Path(exists=True, path_type=Path))
@click.option("--features", default="search", show_default=True, help="Feature sets, by commas.")
@click.option("--classifier", type=click.Choice(list(FIT)), default="boosting", show_default=True)
@click.option("--strengths", default="1,10,100", show_default=True, help="Of DisCo, for the MLP.")
@click.option("--planing", default="1", show_default=True, help="Powers of planing factors.")
@click.option("--only", help="Only these trainings, by commas: none,planing.")
@click.option("--signal-events", default=9000, show_default=True)
@click.option("--background-events", default=18_000, show_default=True)
@click.option("--seeds", default="1,2,3", show_default=True)
def curve(folders: tuple[Path, ...], features: str, classifier: str, **options: Any) -> None:
    """Prints SIC and sculpting for each way to train, over seeds."""
    click.echo(
        "| features | training | SIC(eps_S = 0.5) | SIC(eps_B = 0.01) | SIC(eps_B = 0.001) | "
        "JS, eps_B = 0.1 | power | JS, 0.01 | power | excess factor | rank correlation |\n|"
        + "---|"
        * 11
    )
    seeds = [int(seed) for seed in options["seeds"].split(",")]
    strengths, powers = (
        [float(one) for one in options[name].split(",")] for name in ("strengths", "planing")
    )
    sizes = options["signal_events"], options["background_events"]
    for chosen in features.split(","):
        events = _load(folders, chosen)
        for training in _trainings(classifier, strengths, powers):
            if options["only"] and training.name not in options["only"].split(","):
                continue
            rows = [_row(events, classifier, training, sizes, seed) for seed in seeds]
            cells = [shown(over_seeds(list(values))) for values in zip(*rows, strict=True)]
            click.echo(f"| {chosen} | {training.name} | {' | '.join(cells)} |")


@main.command()
@click.argument("tables", nargs=-1, type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def picture(tables: Sequence[Path], output: Path) -> None:
    """Draws SIC against the power of m_jj, a curve for each classifier and way to train."""
    curves: dict[str, list[TradeOff]] = {}
    for file in tables:
        without: dict[str, TradeOff] = {}
        for features, training, *cells in _rows_of(file):
            way, _, strength = training.partition(" ")
            strength = strength.removeprefix("^ ") or ("" if way == "none" else "1")
            point = TradeOff(strength, _read(cells[_POWER]), _read(cells[_SIC]))
            if way == "none":  # where the curves of all ways begin
                without[features] = point
                continue
            curves.setdefault(f"{file.stem}, {features}: {way}", [without[features]]).append(point)
    plot_trade_offs(
        {label: sorted(points, key=_strength) for label, points in curves.items()},
        output,
        xlabel=r"power of $m_{jj}$ in the efficiency of a cut at $\epsilon_B$ = 0.01",
        ylabel=r"SIC at $\epsilon_S$ = 0.5",
    )


_SIC, _POWER = 0, 6
"""Places in a row of `curve`, behind its names."""


def _rows_of(table: Path) -> Iterator[list[str]]:
    for line in table.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if "±" in line:
            yield cells


def _read(cell: str) -> tuple[float, float]:
    value, _, half = cell.partition(" ± ")
    return float(value), float(half)


def _strength(point: TradeOff) -> float:
    return float(point.strength or 0)


@main.command()
@click.argument("folders", nargs=4, type=click.Path(exists=True, path_type=Path))
@click.option("--features", default="search", show_default=True)
@click.option("--signal-events", default=9000, show_default=True)
@click.option("--background-events", default=9000, show_default=True)
@click.option("--test-events", default=40_000, show_default=True, help="Of the background.")
@click.option("--seeds", default="1,2,3", show_default=True)
def hypotheses(folders: tuple[Path, ...], features: str, **options: Any) -> None:
    """Prints the sculpting of a boosting that is given the hypothesis, for each hypothesis.

    The signals of TEST_SIGNAL are the hypotheses; the last row is the mean over them.
    """
    click.echo(
        "| training | m_X, m_Y | SIC(eps_B = 0.01) | SIC(eps_B = 0.001) | JS, eps_B = 0.1 | "
        "power | JS, 0.01 | power | excess factor | rank correlation |\n|" + "---|" * 10
    )
    seeds = [int(seed) for seed in options["seeds"].split(",")]
    sizes = options["signal_events"], options["background_events"]
    events = _load(folders, features)
    fewer = events.test_background.take(np.arange(options["test_events"]))
    events = replace(events, test_background=fewer)
    truths = [
        signal_truth(read_dataset(folder), table)
        for folder, table in zip(folders[2:], (events.signal, events.test_signal), strict=True)
    ]
    for training in (Training("none"), PLANED):
        rows: dict[str, list[list[Measured]]] = {}
        for seed in seeds:
            scorer, names = _fit_given(events, truths[0], training, sizes, seed)
            for name, found in _under_each(events, truths[1], scorer, names, seed):
                rows.setdefault(name, []).append(found)
        rows["mean"] = means_over(list(rows.values()))
        for name, found in rows.items():
            cells = [shown(over_seeds(list(values))) for values in zip(*found, strict=True)]
            click.echo(f"| {training.name} | {name} | {' | '.join(cells)} |")


def means_over(rows: Sequence[Sequence[Sequence[Measured]]]) -> list[list[Measured]]:
    """Means over hypotheses, for each training, of rows (hypotheses, trainings, numbers)."""
    return [
        [_mean(column) for column in zip(*of_training, strict=True)]
        for of_training in zip(*rows, strict=True)
    ]


def _mean(values: Sequence[Measured]) -> Measured:
    numbers, halves, digits = zip(*values, strict=True)
    return float(np.mean(numbers)), float(np.mean(halves)), digits[0]


def _fit_given(
    events: Events, truth: SignalTruth, training: Training, sizes: tuple[int, int], seed: int
) -> tuple[Scorer, tuple[str, ...]]:
    """Trains a boosting with stated and measured masses, and their differences."""
    sample, m_jj = events.sample(*sizes, seed)
    table, chosen = events.drawn(*sizes, seed)
    place = np.full(len(table), -1)
    place[: len(chosen)] = truth.place[chosen]
    sample = training.applied(sample, m_jj)
    shown = under_hypotheses(sample, table, SignalTruth(truth.signals, place), open_share=0.2)
    return fit_given(fit_boosting, shown, differences=True), sample.names


def _under_each(
    events: Events, truth: SignalTruth, scorer: Scorer, names: tuple[str, ...], seed: int
) -> Iterator[tuple[str, list[Measured]]]:
    """Results under the hypothesis of each signal, by its masses."""
    columns = [events.test_background.names.index(name) for name in names]
    for place, signal in enumerate(truth.signals):
        stated = parse_hypothesis(
            phrase(signal, np.random.default_rng([seed, 62]), vagueness=EXACT)
        )
        tables = events.test_background, events.test_signal.take(truth.place == place)
        background, of_signal = (
            scorer.score(table.features[:, columns], np.full(len(table), stated, dtype=object))
            for table in tables
        )
        yield (
            "{:.0f}, {:.0f}".format(*stated.masses),
            numbers_of(events.test_background.column("m_jj"), background, of_signal, seed)[1:],
        )


Measured = tuple[float, float, int]
"""A number, half of its interval for the test events, and its digits."""


def _row(
    events: Events, classifier: str, training: Training, sizes: tuple[int, int], seed: int
) -> list[Measured]:
    sample, m_jj = events.sample(*sizes, seed)
    scorer = FIT[classifier](training.applied(sample, m_jj))
    columns = [events.test_background.names.index(name) for name in sample.names]
    background, signal = (
        scorer.score(table.features[:, columns])
        for table in (events.test_background, events.test_signal)
    )
    return numbers_of(events.test_background.column("m_jj"), background, signal, seed)


def numbers_of(m_jj: Floats, background: Floats, signal: Floats, seed: int) -> list[Measured]:
    """Everything that the tables show of the scores of background and signal events."""
    found = measured(m_jj, background, seed)
    loose, tight = found.cuts["0.1"], found.cuts["0.01"]
    return [
        _sic_at_eps_s(signal, background, 0.5),
        _sic_at_eps_b(signal, background, 1e-2),
        _sic_at_eps_b(signal, background, 1e-3),
        _half(loose.js_without_noise, 3),
        _half(loose.power, 2),
        _half(tight.js_without_noise, 3),
        _half(tight.power, 2),
        (np.nan, np.nan, 2)
        if tight.excess is None or tight.excess.interval is None
        else (
            tight.excess.factor,
            (tight.excess.interval[1] - tight.excess.interval[0]) / 2,
            2,
        ),
        _half(found.rank_correlation, 3),
    ]


def _half(found: Any, digits: int) -> Measured:
    if found.value is None or found.interval is None:
        return np.nan, np.nan, digits
    return found.value, (found.interval[1] - found.interval[0]) / 2, digits


def _sic_at_eps_s(signal: Floats, background: Floats, eps_s: float) -> Measured:
    n_passing = int(np.count_nonzero(background >= np.quantile(signal, 1 - eps_s)))
    sic = eps_s / np.sqrt(max(n_passing, 1) / len(background))
    return float(sic), float(1.96 * sic / (2 * np.sqrt(max(n_passing, 1)))), 1


def _sic_at_eps_b(signal: Floats, background: Floats, eps_b: float) -> Measured:
    passes = passes_at(background, np.ones(len(background)), eps_b)
    eps_s = float(np.mean(signal > background[~passes].max()))
    error = np.sqrt(eps_s * (1 - eps_s) / len(signal) + (eps_s / 2) ** 2 / max(passes.sum(), 1))
    return eps_s / np.sqrt(eps_b), float(1.96 * error / np.sqrt(eps_b)), 1


def over_seeds(values: list[Measured]) -> Measured:
    """The mean over trainings, with a 95 % interval for other trainings and other test events."""
    numbers, halves = (np.array(part) for part in list(zip(*values, strict=True))[:2])
    digits, n_seeds = values[0][2], len(numbers)
    spread = 0.0
    if n_seeds > 1:
        spread = float(t.ppf(0.975, n_seeds - 1)) * numbers.std(ddof=1) / np.sqrt(n_seeds)
    half = float(np.hypot(halves.mean(), spread))
    return float(numbers.mean()), half, digits


def shown(found: Measured) -> str:
    """A number with half of its interval, as in the tables."""
    value, half, digits = found
    return f"{value:.{digits}f} ± {half:.{digits}f}"


if __name__ == "__main__":
    main()
