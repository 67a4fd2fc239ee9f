"""Power and false alarms of the search in black boxes without a key.

python tools/studies/search_power.py choose RUN BOX     # efficiencies and background, by toys
python tools/studies/search_power.py boxes RUN BOX...   # p-value, mass and signal of each box
python tools/studies/search_power.py curve RUN BOX... [--signal DATASET] --fraction 0.005
python tools/studies/search_power.py null RUN BOX...    # twenty boxes without signal
python tools/studies/search_power.py flat               # p-values of 1,000 background-only spectra
python tools/studies/search_power.py turnon BOX...      # where the dijet function starts to hold

RUN is made by 'hepllm train' with the feature set 'search'; BOX is a dataset of 'hepllm
preprocess'. Labels are read only to thin the signal and to print the truth. Scores are those of
the language model (with --cascade KEEP, of it behind the boosting), or with --scorer boosting of
the boosting alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import click
import numpy as np
from scipy.stats import kstest
from scored_boxes import (
    EVIDENCE,
    PATH,
    SMALL,
    Box,
    Floats,
    open_scoring,
    pooled,
    print_table,
    scoring_options,
)

from hepllm.config import Config, SearchConfig, override_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.executor import Kind, run_tasks
from hepllm.schema import BACKGROUND
from hepllm.search.hunt import prepare_background, usable_cuts
from hepllm.search.poisson import fit
from hepllm.search.spectra import ScoreCut, bin_edges, make_spectra
from hepllm.search.toys import (
    NullHypothesis,
    PValue,
    examine,
    global_p_value,
    null_hypothesis,
    observed_spectra,
    run_block,
    throw,
)


@click.group()
def main() -> None:
    """Power and false alarms of the search in black boxes without a key."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command()
@click.argument("run", type=PATH)
@click.argument("boxes", type=PATH, nargs=-1, required=True)
@scoring_options
def boxes(
    run: Path, boxes: Sequence[Path], seed: int, json_file: Path | None, **options: Any
) -> None:
    """Searches each of the BOXES as it is."""
    scoring = open_scoring(run, options)
    settings = scoring.config.evaluation.search
    opened = [scoring.open(box) for box in boxes]
    reports = [(box.name, box.searched(settings, seed, scoring.reference)) for box in opened]
    print_table(reports, json_file)


@main.command()
@click.argument("run", type=PATH)
@click.argument("boxes", type=PATH, nargs=-1, required=True)
@click.option("--signal", type=PATH, help="Dataset of the signal [that of the BOXES].")
@click.option("--fraction", "fractions", type=float, multiple=True, default=(0.005, 0.002, 0.001))
@click.option("--thinnings", default=1, show_default=True, help="Random choices of the signal.")
@scoring_options
def curve(
    run: Path,
    boxes: Sequence[Path],
    *,
    signal: Path | None,
    fractions: Sequence[float],
    thinnings: int,
    seed: int,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Searches the BOXES as one, with the signal thinned to each fraction."""
    scoring = open_scoring(run, options)
    settings = scoring.config.evaluation.search
    opened = [scoring.open(box) for box in boxes]
    if signal is not None:
        other = scoring.open(signal)
        opened = [box.only(~box.is_signal) for box in opened] + [other.only(other.is_signal)]
    whole = pooled(opened, "+".join(path.name for path in boxes))
    reports = []
    for fraction in fractions:
        for number in range(thinnings):
            thin = whole.thinned(fraction, seed + number)
            found = thin.searched(settings, seed, scoring.reference)
            reports.append((f"{whole.name} at {fraction:g}", found))
    print_table(reports, json_file)


@main.command()
@click.argument("run", type=PATH)
@click.argument("boxes", type=PATH, nargs=-1, required=True)
@click.option("--size", default=20_000, show_default=True, help="Events of a box.")
@click.option("--number", default=20, show_default=True, help="Boxes.")
@scoring_options
def null(
    run: Path,
    boxes: Sequence[Path],
    *,
    size: int,
    number: int,
    seed: int,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Searches boxes without signal, drawn from the background of all BOXES.

    They share no events if there are enough of them; else each is drawn without replacement, and
    two boxes share size / pool of their events.
    """
    scoring = open_scoring(run, options)
    opened = [scoring.open(box) for box in boxes]
    pool = pooled([box.only(~box.is_signal) for box in opened], "background")
    n_pool = len(pool.is_signal)
    if n_pool < size:
        raise InputError(f"{n_pool} background events, fewer than the {size} of a box")
    random = np.random.default_rng([seed, 45])
    order = random.permutation(n_pool)
    reports = []
    for place in range(number):
        rows = order[place * size : (place + 1) * size]
        if number * size > n_pool:
            rows = random.choice(n_pool, size, replace=False)
        kept = np.zeros(n_pool, dtype=bool)
        kept[rows] = True
        found = pool.only(kept).searched(
            scoring.config.evaluation.search, seed + place, scoring.reference
        )
        reports.append((f"background {place + 1}", found))
    shared = 0.0 if number * size <= n_pool else size / n_pool
    print_table(reports, json_file)
    click.echo(f"pool of {n_pool} events; two boxes share {shared:.2f} of their events")


@main.command()
@click.argument("run", type=PATH)
@click.argument("box", type=PATH)
@click.option("--fraction", "fractions", type=float, multiple=True, default=(0.005, 0.0025))
@click.option("--signal", type=PATH, help="Dataset of the signal [that of BOX].")
@click.option("--scale", default=1.0, show_default=True, help="Size of the box over that of BOX.")
@click.option("--toys", default=10_000, show_default=True)
@scoring_options
def choose(
    run: Path,
    box: Path,
    *,
    fractions: Sequence[float],
    signal: Path | None,
    scale: float,
    toys: int,
    seed: int,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Compares settings of the search by their power at p < 0.001 for a labelled BOX.

    Spectra are drawn from the smooth background of BOX and from its signal as it passes each cut;
    what counts as p < 0.001 comes from as many spectra without signal.
    """
    scoring = open_scoring(run, options)
    whole = scoring.open(box)
    if signal is not None:
        other = scoring.open(signal)
        whole = pooled([whole.only(~whole.is_signal), other.only(other.is_signal)], signal.name)
    found = []
    for method in ("template", "dijet"):
        for efficiencies in _CHOICES:
            smallest = scoring.config.evaluation.search.min_selected
            if min(efficiencies) * scale * len(whole.events.score) < smallest:
                continue
            change = {"background": method, "efficiencies": efficiencies}
            config = scoring.config.evaluation.search.model_copy(update=change)
            study = PowerStudy.of(whole, config, scale, toys, seed)
            power = {f"{share:g}": study.power(share) for share in fractions}
            found.append({"background": method, "efficiencies": efficiencies, "power": power})
            shares = ", ".join(f"{value:.3f} at {share}" for share, value in power.items())
            cuts = " ".join(f"{one:g}" for one in efficiencies)
            click.echo(f"{method:9s} {cuts:24s} power {shares}")
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


_CHOICES = (
    (0.01,), (0.003,), (0.01, 0.003), (0.03, 0.01, 0.003), (0.01, 0.003, 0.001),
    (0.03, 0.01, 0.003, 0.001), (0.1, 0.03, 0.01, 0.003), (0.1, 0.03, 0.01, 0.003, 0.001),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class PowerStudy:
    """Spectra of a box's background, and of one signal event of it, by selection."""

    null: NullHypothesis
    signal: Floats
    n_background: float
    critical: float
    toys: int
    seed: int

    @classmethod
    def of(cls, box: Box, config: SearchConfig, scale: float, toys: int, seed: int) -> PowerStudy:
        """Fits the background of a box and finds what is extreme at p < 0.001."""
        edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
        events = box.events.take(~box.is_signal)
        inside = events.take((events.m_jj >= edges[0]) & (events.m_jj < edges[-1]))
        least = config.model_copy(update={"min_selected": max(1, int(config.min_selected / scale))})
        cuts = usable_cuts(inside.score, least)
        background = prepare_background(edges, config)
        spectra = make_spectra(inside.m_jj, inside.score, cuts, edges)
        fits, _ = examine(background, *observed_spectra(spectra))
        null = null_hypothesis(background, fits)
        null = NullHypothesis(background, scale * null.rejected, scale * null.selected)
        blocks = [run_block(null, seed, number).statistic for number in range(toys // 1000)]
        critical = float(np.quantile(np.concatenate(blocks).max(axis=1), 1 - EVIDENCE))
        signal = signal_spectra(box, cuts, edges)
        n_background = scale * int((~box.is_signal).sum())
        return cls(null, signal, n_background, critical, toys, seed)

    def power(self, fraction: float) -> float:
        """Share of boxes with this signal fraction that are found with p < 0.001."""
        random = np.random.default_rng([self.seed, 42])
        rejected, selected = throw(self.null, 1000, random)
        expected = fraction / (1 - fraction) * self.n_background * self.signal
        rejected = rejected + random.poisson(expected[0], rejected.shape)
        # From the tightest selection to the loosest, each holds the ones before.
        within = np.zeros_like(rejected)
        seen = []
        for counts, part in zip(selected[::-1], expected[:0:-1], strict=True):
            within = within + random.poisson(part, rejected.shape)
            seen.append(counts + within)
        _, outcome = examine(self.null.background, rejected, seen[::-1])
        return float((outcome.statistic.max(axis=1) > self.critical).mean())


def signal_spectra(box: Box, cuts: Sequence[ScoreCut], edges: Floats) -> Floats:
    """Shares of the signal a bin: that fail all cuts, that pass only the first, and so on."""
    signal = box.events.take(box.is_signal)
    level = sum((signal.score > one.threshold).astype(int) for one in cuts)
    parts = [np.histogram(signal.m_jj[level == place], edges)[0] for place in range(len(cuts) + 1)]
    shares: Floats = np.array(parts, dtype=np.float64) / len(signal.score)
    return shares


@main.command()
@click.argument("boxes", type=PATH, nargs=-1, required=True)
@click.option("--toys", default=1000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def turnon(boxes: Sequence[Path], *, toys: int, seed: int) -> None:
    """Tells from which m_jj on the dijet function describes the background of all BOXES."""
    masses = []
    for box in boxes:
        table = read_dataset(box).load(("m_jj",))
        masses.append(table.column("m_jj")[table.label == BACKGROUND])
    m_jj = np.concatenate(masses)
    click.echo(f"{len(m_jj)} background events; p-value of the fit with 3 to 7 parameters")
    for low in (2300, 2400, 2500, 2600, 2700, 2800, 3000):
        config = SearchConfig(m_jj_min=low)
        edges = bin_edges(low, config.m_jj_max, config.bin_width)
        background = prepare_background(edges, config)
        counts = np.histogram(m_jj, edges)[0][np.newaxis].astype(np.float64)
        values = []
        for size in range(3, 8):
            basis = background.shape[:, :size]
            fitted = fit(counts, basis, background.log_width)
            random = np.random.default_rng([seed, 44, low, size])
            drawn = random.poisson(fitted.expected[0], (toys, len(edges) - 1)).astype(np.float64)
            others = fit(drawn, basis, background.log_width).deviance
            exceeding = int((others >= fitted.deviance[0]).sum())
            values.append(PValue(exceeding, toys).value)
        listed = ", ".join(f"{value:.3f}" for value in values)
        click.echo(f"from {low} GeV on, {int(counts.sum())} events: {listed}")


@main.command()
@click.option("--events", default=15_000, show_default=True, help="In the m_jj range.")
@click.option("--spectra", default=1000, show_default=True)
@click.option("--toys", default=1000, show_default=True, help="For each spectrum.")
@click.option("--slope", default=1.0, show_default=True, help="Efficiency goes like m_jj^slope.")
@click.option("--workers", default=1, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--set", "settings", multiple=True, help="Of evaluation.search: key=value.")
def flat(
    *,
    events: int,
    spectra: int,
    toys: int,
    slope: float,
    workers: int,
    seed: int,
    settings: Sequence[str],
) -> None:
    """Draws spectra without signal and tests that their p-values are flat."""
    config = override_config(
        Config(), [f"evaluation.search.{one}" for one in settings]
    ).evaluation.search
    null = smooth_truth(config, events, slope)
    function = partial(p_value_of_draw, null, toys, seed)
    kind: Kind = "serial" if workers == 1 else "processes"
    with closing(
        run_tasks(function, range(spectra), kind=kind, workers=workers, ordered=True)
    ) as results:
        values = np.array([value for _, value in results])
    test = kstest(values, "uniform")
    for limit in (0.01, SMALL, 0.1, 0.5):
        click.echo(f"p <= {limit:g}: {np.mean(values <= limit):.3f}")
    click.echo(
        f"{spectra} spectra of {events} events, {toys} pseudo-experiments each: "
        f"KS distance to flat {test.statistic:.3f}, p = {test.pvalue:.3f}"
    )


def smooth_truth(config: SearchConfig, events: int, slope: float) -> NullHypothesis:
    """A dijet spectrum like the simulated one, and selections that favour large masses."""
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    background = prepare_background(edges, config)
    centre = np.sqrt(edges[1:] * edges[:-1])
    x = centre / config.sqrt_s
    before = (1 - x) ** 8 * x**-5 * np.diff(edges)
    before *= events / before.sum()
    after = before * (centre / centre[0]) ** slope
    shares = [e for e in sorted(config.efficiencies)[::-1] if e * events >= config.min_selected]
    selected = np.array([share * events * after / after.sum() for share in shares])
    return NullHypothesis(background, before - selected[0], selected)


def p_value_of_draw(null: NullHypothesis, toys: int, seed: int, number: int) -> float:
    """The p-value of one spectrum drawn from a truth, as a search would find it."""
    random = np.random.default_rng([seed, 43, number])
    rejected, selected = throw(null, 1, random)
    fits, outcome = examine(null.background, rejected, selected)
    result = global_p_value(
        null_hypothesis(null.background, fits),
        outcome,
        seed=int(random.integers(2**31)),
        n_toys=toys,
        max_toys=toys,
    )
    return result.overall.value


if __name__ == "__main__":
    main()
