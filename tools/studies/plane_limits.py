"""Limits of a scan over the masses of X and Y beside strong signals: coverage, expected limits.

python tools/studies/plane_limits.py boxes BACKGROUND SIGNAL HELD --output FILE.jsonl
python tools/studies/plane_limits.py table FILE.jsonl...

Datasets and scores are those of mass_plane.py. Each box has a signal of HELD under its own masses;
which signal, and the mean number of its events, are drawn from the seed: none in a fifth of the
boxes, 2 to 200 elsewhere. The limit on the events selected covers if it is at least the mean number
of signal events that the cut keeps; the expected limit is compared with that of the same spectra
without their signal events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from mass_plane import PATH, PoolScores, load, prepare
from weak_search import Line, Lines

from hepllm.arrays import Bools, Floats
from hepllm.errors import RunError
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.search.hunt import prepare_background, under_hypothesis
from hepllm.search.limit_model import FittedSelections, peak_of, shape_variations
from hepllm.search.mass_plane import select_in_plane
from hepllm.search.spectra import BoxSpectra, bin_edges

NONE, LEAST, MOST = 0.2, 2.0, 200.0

CLASSES = ((0.0, 0.0), (0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0))
"""Shares of signal among the events selected: above the first, up to the second."""


@click.group()
def main() -> None:
    """Coverage of the limits of a scan, and expected limits beside strong signals."""


@main.command()
@click.argument("background", type=PATH)
@click.argument("signal", type=PATH)
@click.argument("held", type=PATH)
@click.option("--more", type=PATH, help="More background to draw boxes from.")
@click.option("--number", default=200, show_default=True, help="Boxes.")
@click.option("--events", default=15_000, show_default=True, help="Of a box, in the m_jj range.")
@click.option("--toys", default=200, show_default=True, help="For each hypothesis of a limit.")
@click.option("--seed", default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A .jsonl file.")
def boxes(
    background: Path,
    signal: Path,
    held: Path,
    *,
    more: Path | None,
    number: int,
    events: int,
    toys: int,
    seed: int,
    output: Path,
) -> None:
    """Computes the limits of boxes; those that OUTPUT has are not made again."""
    setting = prepare(background, signal, masses=2, toys=toys, seed=seed, more=more)
    setting = replace(setting, points=())
    simulated, stated, z_mass = load(held)
    truths = np.unique(np.column_stack([z_mass, stated]), axis=0)
    wanted: list[Line] = []
    for box in range(number):
        random = np.random.default_rng([seed, 64, box])
        truth = truths[random.integers(len(truths))].tolist()
        size = float(np.exp(random.uniform(np.log(LEAST), np.log(MOST))))
        mean = 0.0 if random.random() < NONE else size
        wanted.append({"events": events, "toys": toys, "seed": seed, "box": box,
                       "signal": truth, "mean": mean})  # fmt: skip
    lines = Lines(output, ("events", "toys", "seed", "box"))
    known: dict[tuple[float, ...], PoolScores] = {}
    for line in lines.missing(wanted):
        truth = tuple(line["signal"])
        if truth not in known:
            mine = (np.column_stack([z_mass, stated]) == truth).all(axis=1)
            known[truth] = PoolScores(setting, {}).of_signal(simulated.take(mine), truth)
        lines.add({**line, **limits_of_box(known[truth], line)})


def limits_of_box(scores: PoolScores, line: Line) -> Line:
    """Draws a box, and computes its limits at the true masses with and without its signal."""
    if scores.events is None or scores.of_events is None or scores.truth is None:
        raise ValueError("no signal")
    setting, score = scores.setting, scores.of_events[scores.truth]
    random = np.random.default_rng([line["seed"], 65, line["box"]])
    n_pool, n_all = len(setting.pool.m_jj), len(score)
    n_signal = int(random.poisson(line["mean"]))
    drawn = np.concatenate([
        random.choice(n_pool, line["events"], replace=False),
        n_pool + random.choice(n_all - n_pool, n_signal, replace=False),
    ])  # fmt: skip
    sample, config = scores.events.take(drawn), setting.config
    spectra = select_in_plane(sample.box(), [scores.truth], lambda _: score[drawn], config)
    threshold = spectra.cuts[0][-1].threshold
    of_signal, _ = _spectra(scores.events.m_jj[n_pool:], score[n_pool:] > threshold, spectra.edges)
    added = slice(line["events"], None)
    in_box, not_selected = _spectra(
        sample.m_jj[added], score[drawn][added] > threshold, spectra.edges
    )
    total = spectra.rejected[0], spectra.selected[0, -1]
    found = _limits(*total, scores, line)
    alone = _limits(total[0] - not_selected, total[1] - in_box, scores, line)
    return {
        "n_selected": float(total[1].sum()),
        "n_signal_selected": float(in_box.sum()),
        "true_selected": line["mean"] * float(of_signal.sum()) / (n_all - n_pool),
        "observed": None if found is None else found[0],
        "expected": None if found is None else found[1],
        "expected_without_signal": None if alone is None else alone[1],
    }


def _spectra(m_jj: Floats, passes: Bools, edges: Floats) -> tuple[Floats, Floats]:
    """Spectra of the events that pass a cut, and of those that do not."""
    selected, rejected = (np.histogram(m_jj[one], edges)[0] for one in (passes, ~passes))
    return selected.astype(np.float64), rejected.astype(np.float64)


def _limits(
    rejected: Floats, selected: Floats, scores: PoolScores, line: Line
) -> tuple[float, float] | None:
    """Observed and median expected limit on the events selected, as a scan computes them."""
    config = scores.setting.config
    mass, *jets = line["signal"]
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    background = prepare_background(edges, under_hypothesis(config))
    of_rejected = background.fit_rejected(rejected[None])
    of_selected = background.fit_selected(selected[None], of_rejected)
    selections = FittedSelections(
        BoxSpectra(edges, rejected, selected[None]),
        background,
        int(of_rejected.n_parameters[0]),
        [int(of_selected.n_parameters[0])],
        of_rejected.used[0],
    )
    _, variations = shape_variations(peak_of((jets[0], jets[1])), edges, mass)
    test = selections.test(0, variations, np.ones(1))
    random = np.random.default_rng([line["seed"], 66, line["box"]])
    try:
        values, _ = test.limits(random, line["toys"])
    except RunError:
        return None
    return values.observed, values.expected[2]


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
def table(files: Sequence[Path]) -> None:
    """Prints coverage and expected limits by the share of signal among the events selected."""
    for file in files:
        lines = Lines(file).read()
        click.echo(f"{file.name}: {len(lines)} boxes")
        click.echo("| signal among the selected | boxes | covers, share [95 %] | expected limit | "
                   "over that without signal: median [5-95 %] | off by more than 2 |")  # fmt: skip
        click.echo("|---|---|---|---|---|---|")
        for low, high in CLASSES:
            group = [one for one in lines if _is_in(one, low, high)]
            if group:
                click.echo(f"| {_name(low, high)} | {_row(group)} |")
        click.echo(f"| all | {_row(lines)} |")


def _is_in(line: Line, low: float, high: float) -> bool:
    share = line["n_signal_selected"] / line["n_selected"]
    return share == 0 if high == 0 else low < share <= high


def _name(low: float, high: float) -> str:
    return "none" if high == 0 else f"{low:.0%} to {high:.0%}"


def _row(group: Sequence[Line]) -> str:
    covers = [one["observed"] is None or one["observed"] >= one["true_selected"] for one in group]
    low, high = clopper_pearson(sum(covers), len(covers))
    known = [one for one in group if one["expected"] and one["expected_without_signal"]]
    expected = np.median([one["expected"] for one in known])
    ratio = np.array([one["expected"] / one["expected_without_signal"] for one in known])
    least, middle, most = np.quantile(ratio, (0.05, 0.5, 0.95))
    n_off = int((np.abs(np.log(ratio)) > np.log(2)).sum()) + len(group) - len(known)
    return (
        f"{len(group)} | {np.mean(covers):.3f} [{low:.3f}, {high:.3f}] | {expected:.1f} | "
        f"{middle:.2f} [{least:.2f}, {most:.2f}] | {n_off}"
    )


if __name__ == "__main__":
    main()
