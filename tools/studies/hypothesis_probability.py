"""Whether the probability of the likeliest hypothesis that `hepllm label` tells is one.

Truths are drawn before anything is looked at: `hepllm simulate --grid 40
--set simulate.grid.random_points=160` draws pairs of masses, and `score` scores events of each, and
background, under all pairs that `label.hypotheses.masses=12` averages over. `table` draws a pool
of each truth, half of it signal, labels it, and compares the probability of the likeliest pair with
how often that pair is the nearest one to the truth (in ratios of masses). Both are done for true
labels and for those that `iterated` finds, which are wrong in part.

python tools/studies/hypothesis_probability.py score SIGNALS BACKGROUND OUTPUT --run RUN
python tools/studies/hypothesis_probability.py table OUTPUT

The second half of the rows has log-probabilities divided by a temperature, which is fitted to the
pools of the other half of the truths (maximum likelihood of the nearest pair).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import t as student

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import HypothesesConfig, LabelConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.signal_truth import signal_truth
from hepllm.files import write_aside
from hepllm.labelling.averaged import HypothesisAverage
from hepllm.labelling.peers import cut, iterated, zero_shot
from hepllm.labelling.predictions import Context, Contexts, Predictions
from hepllm.learning.inputs import model_inputs
from hepllm.logs import configure_logging, progress_bar
from hepllm.runs.averaged import averaged_run
from hepllm.runs.folder import Run, open_run
from hepllm.schema import BACKGROUND, SIGNAL

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
BINS = (0.5, 0.8, 0.95, 0.99)
BLOCK = 100
"""Events of a file of scores: what a stop loses."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Events under all hypotheses.

    Attributes:
        scores: (G, M) log-odds.
        truth: (M,) place of each event's signal in ``masses``; -1 for background.
        masses: (S, 2) true masses in GeV, the heavier first.
        points: (G, 2) masses of the hypotheses.
    """

    scores: Floats
    truth: Ints
    masses: Floats
    points: Floats


def draw_events(
    folders: tuple[Path, Path], run: Run, n_each: int, n_background: int, n_truths: int | None
) -> tuple[EventTable, Ints, Floats]:
    """Events that the run has not seen: of each signal, and background; their truth; the masses."""
    names, used = run.config.train.feature_names(), run.used_events()
    dataset = read_dataset(folders[0])
    tables = []
    for folder, label in zip(folders, (SIGNAL, BACKGROUND), strict=True):
        table = read_dataset(folder).load(names)
        wanted = (table.label == label) & ~np.isin(table.event_digest, used)
        tables.append(table.take(np.flatnonzero(wanted)))
    signal, background = tables
    known = signal_truth(dataset, signal)
    places = range(len(known.signals))[:n_truths]
    rows = np.concatenate([np.flatnonzero(known.place == one)[:n_each] for one in places])
    drawn = np.random.default_rng(3).permutation(len(background))[:n_background]
    truth = np.concatenate([known.place[rows], np.full(len(drawn), -1)])
    masses = np.array([sorted(known.signals[one].masses, reverse=True) for one in places])
    return concatenate([signal.take(rows), background.take(drawn)]), truth, masses


@click.group()
def main() -> None:
    """Calibration of the probabilities of hypotheses."""
    configure_logging(-1)


@main.command()
@click.argument("signals", type=FOLDER)
@click.argument("background", type=FOLDER)
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--run", "folder", type=FOLDER, required=True)
@click.option("--events", default=40, show_default=True, help="of each signal, at most")
@click.option("--background-events", default=1600, show_default=True)
@click.option("--truths", type=int, default=None, help="signals, the first of the dataset [all]")
@click.option("--masses", default=12, show_default=True, help="of X and of Y")
def score(
    *,
    signals: Path,
    background: Path,
    output: Path,
    folder: Path,
    events: int,
    background_events: int,
    truths: int | None,
    masses: int,
) -> None:
    """Scores events under all hypotheses; goes on where it ended."""
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    run = open_run(folder)
    table, truth, true_masses = draw_events(
        (signals, background), run, events, background_events, truths
    )
    made, names = run.load_classifier(), run.config.train.feature_names()
    order = np.random.default_rng(4).permutation(len(table))  # blocks have signal and background
    config = HypothesesConfig(masses=masses)
    averages = [
        averaged_run(run, made, model_inputs(table.take(rows), names), config)
        for rows in np.split(order, range(BLOCK, len(order), BLOCK))
    ]
    what = {
        "block": BLOCK,
        "truth": truth[order].tolist(),
        "masses": true_masses.tolist(),
        "points": [sorted(one.masses, reverse=True) for one in averages[0].points],
    }
    (output / "events.json").write_text(json.dumps(what), encoding="utf-8")
    with progress_bar(len(averages), "score", f"{BLOCK} events") as bar:
        for number, average in enumerate(averages):
            path = output / f"scores-{number:03d}.npy"
            if not path.exists():
                with write_aside(path) as aside, aside.open("wb") as stream:
                    np.save(stream, average.scores, allow_pickle=False)
            bar.update(1)


def read_scored(folder: Path) -> Scored:
    """Reads the events that are scored so far."""
    what = json.loads((folder / "events.json").read_text(encoding="utf-8"))
    truth, blocks = np.array(what["truth"]), sorted(folder.glob("scores-*.npy"))
    rows = np.split(np.arange(len(truth)), range(what["block"], len(truth), what["block"]))
    done = np.concatenate([rows[int(one.stem.split("-")[1])] for one in blocks])
    scores = np.concatenate([np.load(one, allow_pickle=False) for one in blocks], axis=1)
    return Scored(scores, truth[done], np.array(what["masses"]), np.array(what["points"]))


@dataclass(frozen=True, eq=False)
class Pools:
    """What labelled pools say of hypotheses.

    Attributes:
        truth: (P,) number of the true signal of each pool.
        nearest: (P,) the hypothesis that is nearest to it.
        is_near: (P, G) whether both masses are within a step of the hypotheses from the true ones.
        log_weights: (P, G) log-probabilities of the hypotheses.
        wrong: share of the labels that is wrong.
    """

    truth: Ints
    nearest: Ints
    is_near: Bools
    log_weights: Floats
    wrong: float

    def outcomes(self, temperature: Floats) -> tuple[Floats, Floats, Floats]:
        """The probability of the likeliest hypothesis (P,), whether it is the nearest, and near."""
        told = log_softmax(self.log_weights / temperature[:, np.newaxis], axis=1)
        best = told.argmax(axis=1)
        is_near = np.take_along_axis(self.is_near, best[:, np.newaxis], axis=1)[:, 0]
        return (
            np.exp(told.max(axis=1)),
            (best == self.nearest).astype(np.float64),
            is_near.astype(np.float64),
        )

    def temperatures(self) -> Floats:
        """For each pool, the temperature of the truths of the other parity, shape (P,)."""
        odd = self.truth % 2 == 1
        return np.where(odd, self._temperature(~odd), self._temperature(odd))

    def _temperature(self, pools: Bools) -> float:
        """The temperature for which the nearest hypotheses of some pools are most probable."""
        weights, nearest = self.log_weights[pools], self.nearest[pools]

        def loss(log_temperature: float) -> float:
            told = log_softmax(weights / np.exp(log_temperature), axis=1)
            return -float(told[np.arange(len(told)), nearest].mean())

        return float(np.exp(minimize_scalar(loss, bounds=(-3, 6), method="bounded").x))


def draw_pools(scored: Scored, size: int, per_truth: int, wrong_share: float, by: str) -> Pools:
    """Draws pools of each truth with enough events, half signal, and labels them.

    Args:
        scored: events under all hypotheses.
        size: events of a pool.
        per_truth: pools of a truth; they share some events.
        wrong_share: what is assumed of the labels.
        by: ``truth``, or ``iterated`` for labels that the model finds.
    """
    distance = np.log(scored.masses)[:, np.newaxis] - np.log(scored.points)
    nearest = np.square(distance).sum(axis=2).argmin(axis=1)
    step = np.diff(np.log(np.unique(scored.points[:, 0]))).max()
    is_near = (np.abs(distance) <= step).all(axis=2)
    background = np.flatnonzero(scored.truth < 0)
    labels = np.arange(size) % 2
    truths, weights, wrong = [], [], []
    for number in range(len(scored.masses)):
        signal = np.flatnonzero(scored.truth == number)
        if len(signal) < size // 2:
            continue
        for pool in range(per_truth):
            random = np.random.default_rng([5, number, pool, size])
            rows = np.empty(size, dtype=np.int64)
            rows[labels == 1] = random.permutation(signal)[: size // 2]
            rows[labels == 0] = random.permutation(background)[: size // 2]
            rows, true = rows[(order := random.permutation(size))], labels[order]
            scores = scored.scores[:, rows]
            model = HypothesisAverage(partial(np.asarray, scores), wrong_share, ())
            shown = true if by == "truth" else iterated_labels(model, size, pool)
            context = Context(tuple(range(size)), tuple(shown.tolist()))
            truths.append(number)
            weights.append(model.log_weights(context))
            wrong.append(float(np.mean(shown != true)))
    places = np.array(truths, dtype=np.int64)
    return Pools(places, nearest[places], is_near[places], np.array(weights), float(np.mean(wrong)))


def iterated_labels(model: HypothesisAverage, size: int, seed: int) -> Ints:
    """The labels that `hepllm label --method iterated` finds, with its settings."""
    config = LabelConfig()
    contexts = Contexts.draw(np.arange(size), config.blocks, config.context, seed)
    predictions = Predictions(model, 10**9)
    odds = iterated(
        predictions, contexts, zero_shot(predictions, size), config.rounds, config.prior
    )
    return np.asarray(cut(odds, config.prior), dtype=np.int64)


def share_over(truth: Ints, values: Floats) -> tuple[float, float]:
    """The mean, and half its 95 % interval: the truths are the independent units (Student)."""
    n_truths = len(np.unique(truth))
    mean = float(values.mean())
    if n_truths < 2:
        return mean, np.nan
    off = np.bincount(truth, values - mean)
    error = np.sqrt(n_truths / (n_truths - 1) * np.square(off).sum()) / len(values)
    return mean, float(student.ppf(0.975, n_truths - 1) * error)


def rows_of(pools: Pools, temperature: Floats, begin: str) -> list[str]:
    """Rows of the table: all pools, and those in each bin of the probability."""
    told, right, near = pools.outcomes(temperature)
    place = np.digitize(told, BINS)
    chosen = {"all": np.ones(len(told), dtype=bool)}
    edges = [0.0, *BINS, 1.0]
    chosen |= {
        f"{edges[one]:g} to {edges[one + 1]:g}": place == one for one in range(len(BINS) + 1)
    }
    lines = []
    for name, rows in chosen.items():
        if rows.any():
            share, half = share_over(pools.truth[rows], right[rows])
            lines.append(
                f"| {begin} | {temperature.mean():.2f} | {name} | {rows.sum()} | "
                f"{len(np.unique(pools.truth[rows]))} | {told[rows].mean():.3f} | "
                f"{share:.3f} ± {half:.3f} | {near[rows].mean():.3f} |"
            )
    return lines


@main.command()
@click.argument("output", type=FOLDER)
@click.option("--size", "sizes", type=int, multiple=True, default=(4, 8, 16, 32), show_default=True)
@click.option("--pools", default=5, show_default=True, help="of each truth")
@click.option("--labels", multiple=True, default=("truth", "iterated"), show_default=True)
@click.option("--wrong-share", default=0.1, show_default=True)
def table(
    *,
    output: Path,
    sizes: tuple[int, ...],
    pools: int,
    labels: tuple[str, ...],
    wrong_share: float,
) -> None:
    """Prints the probability of the likeliest pair beside how often it is the nearest one."""
    scored = read_scored(output)
    click.echo(
        "| labels | events | temperature | told | pools | truths | mean told | right | near |"
    )
    click.echo("|---|---|---|---|---|---|---|---|---|")
    for by in labels:
        for size in sizes:
            found = draw_pools(scored, size, pools, wrong_share, by)
            begin = f"{by}, {found.wrong:.1%} wrong | {size}"
            for temperature in (np.ones(len(found.truth)), found.temperatures()):
                click.echo("\n".join(rows_of(found, temperature, begin)))


if __name__ == "__main__":
    main()
