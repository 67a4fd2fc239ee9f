"""What a fit of masses and fraction to unlabelled data finds, beside weak supervision without one.

python tools/studies/paws.py prepare --background B1 --background B2 --signal GRID \
    --held H1 --held H2 --output scores.npz
python tools/studies/paws.py inject scores.npz results.jsonl     # the fit, at four S/B
python tools/studies/paws.py plain scores.npz results.jsonl      # the same boxes without hypothesis
python tools/studies/paws.py null scores.npz                     # p-values without signal
python tools/studies/paws.py tell results.jsonl picture.png      # tables and picture

The ratios are those of a boosting that gets the stated masses and their differences to jet masses,
trained on GRID and on the first 40,000 background events. All other background is divided anew in
each injection: 30,000 events to measure with, the rest in equal halves, data and template. Signal
comes from the points of H1 and H2, of which no training knows: 800 events of each to inject, 700
to measure with. Datasets are made by 'hepllm simulate' and 'hepllm preprocess --set
preprocess.extended=true', signals with --grid.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import joblib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kstest
from sklearn.ensemble import HistGradientBoostingClassifier

from hepllm.baselines.boosting import Boosting, fit_boosting
from hepllm.baselines.hypothesis import GivenHypothesis, fit_given
from hepllm.baselines.scorer import TrainingSample
from hepllm.config.evaluation import MassPlaneConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.signal_truth import SignalTruth, signal_truth
from hepllm.evaluation.calibration import Calibration, fit_calibration
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.evaluation.scores import ScoredEvents
from hepllm.hypotheses.hypothesis import Hypothesis, parse_hypothesis
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.learning.presentation import assign_own
from hepllm.logs import configure_logging
from hepllm.pictures.style import COLOURS, line_style, save_figure
from hepllm.runs.questions import fill
from hepllm.runs.training_samples import under_hypotheses
from hepllm.schema import feature_names
from hepllm.search.mass_plane import plane_points, refined_points
from hepllm.weak.mixture import EDGES, RatioCounts, count_ratios
from hepllm.weak.mixture_fit import fit_points, fitted_mixture
from hepllm.weak.mixture_toys import Truth, divide_again, reach_of_intervals

LOG = logging.getLogger("hepllm.paws")

Floats = NDArray[np.float64]

TRAINED, CALIBRATED, MEASURED = 40_000, 10_000, 30_000
"""Background events of training, of calibration, and to measure with."""

INJECTED, TESTED = 800, 700
LEVELS = (0.01, 0.003, 0.001, 0.0005)
EPS_B = 0.001
M_JJ_MIN = 2600.0


def _fit_quick(sample: TrainingSample) -> Boosting:
    """A boosting of 100 trees: ten times as quick as that of a report."""
    sample.check()
    trees = HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.2, max_leaf_nodes=31, min_samples_leaf=50,
        l2_regularization=1.0, random_state=sample.seed,
    )  # fmt: skip
    columns = np.arange(sample.features.shape[1])
    return Boosting(trees.fit(sample.features, sample.label, sample_weight=sample.weight), columns)


def _load(folders: Sequence[str], names: Sequence[str]) -> EventTable:
    return concatenate([read_dataset(Path(one)).load((*names, "m_jj")) for one in folders])


def _no_truth(truth: SignalTruth, n_background: int) -> SignalTruth:
    return SignalTruth(truth.signals, np.concatenate([truth.place, np.full(n_background, -1)]))


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier that is told the hypothesis, with its calibration."""

    model: GivenHypothesis
    calibration: Calibration

    def __call__(self, features: Floats, hypothesis: Hypothesis) -> Floats:
        """Logarithms of the ratios of (N, F) events, (N,)."""
        scores = self.model.score(features, fill(hypothesis, len(features)))
        return self.calibration.logits(scores)


def _train(
    table: EventTable, truth: SignalTruth, events: EventTable, names: tuple[str, ...], seed: int
) -> Judge:
    n_names = len(names)
    is_validation = table.split == "val"
    train = concatenate([table.take(~is_validation), events.take(np.arange(TRAINED))])
    sample = TrainingSample(train.features[:, :n_names], names, train.label, seed=seed)
    shown = under_hypotheses(sample, train, _no_truth(truth.take(~is_validation), TRAINED), 0.0)
    model = fit_given(_fit_quick, shown, differences=True)
    LOG.info("trained on %d events", len(train))
    checked = events.take(np.arange(TRAINED, TRAINED + CALIBRATED))
    both = concatenate([table.take(is_validation), checked])
    asked = assign_own(both, _no_truth(truth.take(is_validation), CALIBRATED), seed)
    scores = model.score(both.features[:, :n_names], asked)
    found = fit_calibration(ScoredEvents(scores, both.label, np.ones(len(both))), "platt", 0.5)
    LOG.info("calibration: slope %.3f", found.slope)
    return Judge(model, found)


@click.group()
def main() -> None:
    """Weak supervision with a hypothesis, measured."""
    configure_logging(0)


@main.command()
@click.option("--background", multiple=True, required=True)
@click.option("--signal", required=True)
@click.option("--held", multiple=True, required=True)
@click.option("--features", default="extended", show_default=True)
@click.option("--masses", default=12, show_default=True)
@click.option("--most", default=150_000, show_default=True, help="Background events to divide.")
@click.option("--seed", default=1, show_default=True)
@click.option("--output", required=True, type=click.Path(path_type=Path))
def prepare(  # noqa: PLR0917
    background: Sequence[str],
    signal: str,
    held: Sequence[str],
    features: str,
    masses: int,
    most: int,
    seed: int,
    output: Path,
) -> None:
    """Trains the boosting, and scores all events under all points, unless that has been done."""
    names = feature_names(features)
    n_names = len(names)
    events = _load(background, names)
    grid = read_dataset(Path(signal))
    table = grid.load((*names, "m_jj"))
    truth = signal_truth(grid, table)
    judge = _train(table, truth, events, names, seed)
    points = plane_points(MassPlaneConfig(masses=masses), TrainedRange.of(truth.signals))
    joblib.dump((judge, points, TrainedRange.of(truth.signals)), output.with_suffix(".joblib"))
    if output.exists():
        return
    rest = events.take(np.arange(TRAINED + CALIBRATED, len(events)))
    rest = rest.take(rest.column("m_jj") >= M_JJ_MIN).take(slice(0, most))
    kept, places, own, signals = [], [], [], []
    for folder in held:
        dataset = read_dataset(Path(folder))
        new = dataset.load((*names, "m_jj"))
        new_truth = signal_truth(dataset, new)
        of_z = dataset.true_masses(new)[:, 0]
        for place, one in enumerate(new_truth.signals):
            mine = new_truth.place == place
            mine &= new.column("m_jj") >= M_JJ_MIN
            rows = np.flatnonzero(mine)[: INJECTED + TESTED]
            signals.append((*one.masses, of_z[rows[0]]))
            kept.append(new.take(rows))
            places.append(np.full(len(rows), len(signals) - 1))
    signal_events = concatenate(kept)
    place = np.concatenate(places)
    both_features = np.concatenate([rest.features, signal_events.features])[:, :n_names]
    ratio = np.empty((len(points), len(both_features)), dtype=np.float32)
    for number, point in enumerate(points):
        ratio[number] = judge(both_features, point)
        if number % 10 == 0:
            LOG.info("scored under %d of %d points", number + 1, len(points))
    for number, (heavy, light, _) in enumerate(signals):
        hypothesis = parse_hypothesis(f"X of {heavy:g} GeV, Y of {light:g} GeV")
        test = signal_events.features[place == number][INJECTED:, :n_names]
        measured = rest.features[:MEASURED, :n_names]
        both_scores = (judge(one, hypothesis) for one in (measured, test))
        own.append(_sic(*both_scores))
    np.savez(
        output,
        masses=np.array([one.masses for one in points]),
        ratio=ratio,
        n_background=len(rest),
        m_jj=np.concatenate([rest.column("m_jj"), signal_events.column("m_jj")]),
        features=both_features.astype(np.float32),
        place=place,
        signals=np.array(signals),
        own=np.array(own),
    )
    for one, sic in zip(signals, own, strict=True):
        LOG.info("%s: SIC under its own masses %.1f", one, sic)


def _sic(background: Floats, signal: Floats) -> float:
    """Improvement at eps_B = 0.1 %."""
    cut = np.quantile(background, 1 - EPS_B)
    return float((signal > cut).mean() / np.sqrt(max((background > cut).mean(), 1e-9)))


@dataclass(frozen=True, eq=False)
class Pool:
    """All scored events: background first, then 1,500 of each signal."""

    masses: Floats
    ratio: NDArray[np.float32]
    n_background: int
    m_jj: Floats
    features: NDArray[np.float32]
    place: NDArray[np.int64]
    signals: Floats
    own: Floats

    @classmethod
    def read(cls, file: Path) -> Pool:
        """Reads what ``prepare`` wrote."""
        with np.load(file) as kept:
            names = ("masses", "ratio", "m_jj", "features", "place", "signals", "own")
            arrays = {name: kept[name] for name in names}
            return cls(n_background=int(kept["n_background"]), **arrays)


@dataclass(frozen=True, eq=False)
class Injection:
    """One box: positions of data, template and test events in the pool, and the truth."""

    number: int
    level: float
    signal: int
    data: NDArray[np.int64]
    template: NDArray[np.int64]
    background: NDArray[np.int64]
    test: NDArray[np.int64]
    n_signal: int

    @property
    def fraction(self) -> float:
        """True fraction of signal among the data."""
        return self.n_signal / len(self.data)


def _injections(pool: Pool, n_boxes: int, seed: int) -> Iterator[Injection]:
    random = np.random.default_rng([seed, 91])
    for number in range(n_boxes):
        for level in LEVELS:
            signal = int(random.integers(len(pool.signals)))
            order = random.permutation(pool.n_background)
            background, rest = order[:MEASURED], order[MEASURED:]
            half = len(rest) // 2
            mine = np.flatnonzero(pool.place == signal) + pool.n_background
            n_signal = int(random.poisson(level * half))
            chosen = random.permutation(mine[:INJECTED])[:n_signal]
            yield Injection(
                number, level, signal,
                np.concatenate([rest[:half], chosen]), rest[half:], background, mine[INJECTED:],
                len(chosen),
            )  # fmt: skip


def _counted(pool: Pool, events: NDArray[np.int64]) -> RatioCounts:
    return count_ratios(pool.masses, (row[events].astype(np.float64) for row in pool.ratio))


def _refined(
    pool: Pool, judge: Judge, events: NDArray[np.int64], finer: Sequence[Hypothesis], best: int
) -> RatioCounts:
    """Counts under further points, for which only events that matter beside them are scored."""
    distance = np.abs(np.log(pool.masses / pool.masses[best])).max(axis=1)
    near = pool.ratio[distance <= 1.3 * np.sort(distance[distance > 0])[0]][:, events]
    near = near - np.log(np.exp(near.astype(np.float64)).mean(axis=1, keepdims=True))
    matter = (near > np.log(EDGES[0]) - 1).any(axis=0)
    features = pool.features[events[matter]].astype(np.float64)

    def scored(hypothesis: Hypothesis) -> Floats:
        ratio = pool.ratio[best][events].astype(np.float64)
        ratio[matter] = judge(features, hypothesis)
        return ratio

    return count_ratios(np.array([one.masses for one in finer]), map(scored, finer))


@main.command()
@click.argument("scores", type=click.Path(path_type=Path))
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--first", default=0, show_default=True, help="First box of this call.")
@click.option("--boxes", default=10, show_default=True, help="Boxes of all calls.")
@click.option("--toys", default=100, show_default=True)
@click.option("--refine", default=1, show_default=True, help="Masses between two of the scan.")
@click.option("--seed", default=1, show_default=True)
def inject(  # noqa: PLR0917
    scores: Path, results: Path, first: int, boxes: int, toys: int, refine: int, seed: int
) -> None:
    """Fits masses and fraction to boxes with signal."""
    pool = Pool.read(scores)
    judge, scanned, trained = joblib.load(scores.with_suffix(".joblib"))
    for box in _injections(pool, boxes, seed):
        if box.number < first:
            continue
        events = np.concatenate([box.data, box.template])
        is_data = np.arange(len(events)) < len(box.data)
        counts = _counted(pool, events)
        points = fit_points(counts, is_data)
        null = divide_again(counts, is_data, points.statistic, (toys, toys), seed)
        coarse = points.best
        if refine:
            config = MassPlaneConfig(fit={"refine": refine})
            finer = refined_points(scanned, scanned[coarse], config, trained)
            counts = counts.joined(_refined(pool, judge, events, finer, coarse))
            points = fit_points(counts, is_data)
        truth = Truth(points.best, float(points.fraction[points.best]))
        reach = reach_of_intervals(counts, is_data, truth, toys, seed)
        found = fitted_mixture(points, reach)
        row = pool.ratio[coarse]
        distance = np.abs(np.log(pool.masses / pool.signals[box.signal, :2])).max(axis=1)
        near = int(np.argmin(distance))
        _append(
            results,
            method="fit",
            number=box.number,
            level=box.level,
            truth=pool.signals[box.signal].tolist(),
            n_signal=box.n_signal,
            n_data=len(box.data),
            fraction=truth.fraction,
            true_fraction=box.fraction,
            masses=[found.heavy.value, found.light.value],
            best=points.masses[points.best].tolist(),
            sic=_sic(row[box.background], row[box.test]),
            own=float(pool.own[box.signal]),
            statistic=float(points.statistic.max()),
            scanned=float(points.statistic[coarse]),
            at_truth=float(points.statistic[near]),
            p=null.p_value.value,
            heavy=found.heavy.intervals,
            light=found.light.intervals,
            of_fraction=found.fraction.intervals,
            reach=[reach.fraction, reach.heavy, reach.light],
        )


def _append(file: Path, **fields: object) -> None:
    LOG.info("%s", {key: value for key, value in fields.items() if key != "reach"})
    with file.open("a") as lines:
        lines.write(json.dumps(fields) + "\n")


@main.command()
@click.argument("scores", type=click.Path(path_type=Path))
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--first", default=0, show_default=True, help="First box of this call.")
@click.option("--boxes", default=10, show_default=True, help="Boxes of all calls.")
@click.option("--level", "levels", multiple=True, type=float, default=LEVELS, help="S/B.")
@click.option("--method", "methods", multiple=True, default=("idealised", "sidebands"))
@click.option("--seed", default=1, show_default=True)
def plain(  # noqa: PLR0917
    scores: Path,
    results: Path,
    first: int,
    boxes: int,
    levels: Sequence[float],
    methods: Sequence[str],
    seed: int,
) -> None:
    """Trains data against template, and window against sidebands, in the same boxes."""
    pool = Pool.read(scores)
    names = tuple(map(str, range(pool.features.shape[1])))
    for box in _injections(pool, boxes, seed):
        if box.number < first or box.level not in levels:
            continue
        distance = np.abs(np.log(pool.m_jj[box.data] / pool.signals[box.signal, 2]))
        window, sides = box.data[distance < 0.1], box.data[(distance >= 0.1) & (distance < 0.3)]
        for method, mixed, other in (
            ("idealised", box.data, box.template),
            ("sidebands", window, sides),
        ):
            if method not in methods:
                continue
            rows = np.concatenate([mixed, other])
            label = np.repeat([1, 0], [len(mixed), len(other)])
            weight = np.where(label == 1, 1.0, len(mixed) / len(other))
            sample = TrainingSample(pool.features[rows], names, label, weight, seed)
            model = fit_boosting(replace(sample, features=sample.features.astype(np.float64)))
            sic = _sic(*(model.score(pool.features[one]) for one in (box.background, box.test)))
            inside = np.isin(window, box.data[-box.n_signal :]) if box.n_signal else window < 0
            _append(
                results, method=method, number=box.number, level=box.level, sic=sic,
                n_trees=int(model.classifier.n_iter_), n_window=len(window),
                n_signal_window=int(inside.sum()),
            )  # fmt: skip


@main.command("null")
@click.argument("scores", type=click.Path(path_type=Path))
@click.option("--boxes", default=100, show_default=True)
@click.option("--toys", default=99, show_default=True)
@click.option("--side-boxes", default=30, show_default=True)
@click.option("--seed", default=1, show_default=True)
def null_boxes(scores: Path, boxes: int, toys: int, side_boxes: int, seed: int) -> None:
    """Measures p-values without signal: background against background, and against sidebands."""
    pool = Pool.read(scores)
    random = np.random.default_rng([seed, 92])
    for kind, n_boxes in (("template", boxes), ("sidebands", side_boxes)):
        found = []
        for number in range(n_boxes):
            chosen = random.choice(pool.n_background, pool.n_background // 2, replace=False)
            if kind == "template":
                is_data = np.arange(len(chosen)) % 2 == 0
            else:
                inside = np.abs(np.log(pool.m_jj[chosen] / 3500)) < 0.1
                is_data = inside
            counts = _counted(pool, chosen)
            points = fit_points(counts, is_data)
            p = divide_again(counts, is_data, points.statistic, (toys, toys), seed + number).p_value
            found.append(p.value)
            LOG.info("%s %d: p = %.3g", kind, number, p.value)
        values = np.array(found)
        for level in (0.5, 0.2, 0.1, 0.05):
            n_below = int((values <= level).sum())
            low, high = clopper_pearson(n_below, n_boxes, 0.68)
            click.echo(f"{kind} p <= {level}: {n_below} of {n_boxes} [{low:.3f}, {high:.3f}]")
        click.echo(f"{kind} KS {kstest(values, 'uniform')}")


METHODS = {
    "fit": "masses and fraction fitted",
    "own": "true masses (supervised)",
    "idealised": "data against background, no hypothesis",
    "sidebands": "m_jj window against sidebands",
}


@main.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
def tell(results: Path, picture: Path) -> None:
    """Prints the tables of all results, and draws the picture."""
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    fits = [one for one in rows if one["method"] == "fit"]
    rows += [one | {"method": "own", "sic": one["own"]} for one in fits]
    click.echo("| S/B | " + " | ".join(METHODS.values()) + " |")
    for level in LEVELS:
        cells = []
        for method in METHODS:
            found = [one["sic"] for one in rows if (one["method"], one["level"]) == (method, level)]
            cells.append(_band(found))
        click.echo(f"| {level:.2%} | " + " | ".join(cells) + " |")
    for level in LEVELS:
        chosen = [one for one in fits if one["level"] == level]
        if chosen:
            _tell_fits(level, chosen)
    _draw(rows, fits, picture)


def _band(values: Sequence[float]) -> str:
    if not values:
        return "-"
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    return f"{middle:.1f} [{low:.1f}, {high:.1f}] ({len(values)})"


def _tell_fits(level: float, fits: Sequence[dict[str, Any]]) -> None:
    n_close, covered, pulls = 0, np.zeros((3, 2), dtype=int), []
    for one in fits:
        heavy, light, _ = one["truth"]
        truths = one["true_fraction"], heavy, light
        ranges = one["of_fraction"], one["heavy"], one["light"]
        for row, (truth, both) in enumerate(zip(truths, ranges, strict=True)):
            covered[row] += [low <= truth <= high for low, high in both]
        shifts = np.abs(np.log(np.array(one["masses"]) / (heavy, light)))
        n_close += bool((shifts < 0.15).all())
        low, high = one["of_fraction"][0]
        pulls.append((one["fraction"] - one["true_fraction"]) / ((high - low) / 2))
    ps = sorted(one["p"] for one in fits)
    click.echo(
        f"{level:.2%}: {len(fits)} fits, {np.median([o['n_signal'] for o in fits]):.0f} signal "
        f"events, both masses within 15 %: {n_close}; covered at 68, 95 %: fraction "
        f"{covered[0].tolist()}, "
        f"heavy {covered[1].tolist()}, light {covered[2].tolist()}; fraction over truth "
        f"{_band([o['fraction'] / max(o['true_fraction'], 1e-9) for o in fits])}; pull mean "
        f"{np.mean(pulls):.2f} rms {np.std(pulls):.2f}; p < 0.05: {sum(p < 0.05 for p in ps)}, "
        f"least {sum(p == ps[0] for p in ps)} at {ps[0]:.3f}; 2 ln L "
        f"{_band([o['statistic'] for o in fits])}"
    )


def _draw(rows: Sequence[dict[str, Any]], fits: Sequence[dict[str, Any]], picture: Path) -> None:
    figure = Figure(figsize=(13.5, 4.8), dpi=150, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for number, (method, name) in enumerate(METHODS.items()):
        bands = []
        for level in LEVELS:
            found = [one["sic"] for one in rows if (one["method"], one["level"]) == (method, level)]
            bands.append(np.quantile(found, [0.16, 0.5, 0.84]) if found else np.full(3, np.nan))
        low, centre, high = np.array(bands).T
        if np.isnan(centre).all():
            continue
        share = 100 * np.array(LEVELS) * 1.05**number  # error bars beside each other
        left.errorbar(
            share,
            centre,
            [centre - low, high - centre],
            fmt="o",
            linestyle=line_style(number),
            color=COLOURS[number],
            label=name,
        )
    left.set(xscale="log", xlabel="S / B [%]", ylim=(0, None))
    left.set_ylabel("improvement at eps_B = 0.1 %")
    left.legend(fontsize=9, loc="center left")
    for number, level in enumerate(LEVELS):
        chosen = [one for one in fits if one["level"] == level]
        true = [100 * one["true_fraction"] for one in chosen]
        value = np.array([100 * one["fraction"] for one in chosen])
        ends = 100 * np.array([one["of_fraction"][0] for one in chosen]).reshape(-1, 2).T
        errors = np.abs(ends - value)
        style = {"fmt": "o", "color": COLOURS[number], "label": f"S/B {level:.2%}"}
        middle.errorbar(true, value, errors, **style)
        ratio = np.array([np.array(one["masses"]) / one["truth"][:2] for one in chosen])
        right.plot(*ratio.reshape(-1, 2).T, "o", color=COLOURS[number], label=f"S/B {level:.2%}")
    ends = np.array([0.02, 2.0])
    middle.plot(ends, ends, color="grey", zorder=0)
    middle.set(xscale="log", yscale="log", xlabel="true fraction [%]", ylabel="fitted [%], 68 %")
    right.axhline(1, color="grey", zorder=0)
    right.axvline(1, color="grey", zorder=0)
    right.set(
        xscale="log", yscale="log", xlabel="fitted over true heavier mass", ylabel="of lighter mass"
    )
    middle.legend(fontsize=9)
    right.legend(fontsize=9)
    save_figure(figure, picture)


if __name__ == "__main__":
    main()
