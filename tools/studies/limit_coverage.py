"""Coverage of the upper limits of the search, in boxes with simulated signal of known masses.

python tools/studies/limit_coverage.py RUN SIGNALS GRID --settings 8 --boxes 300

RUN is made by 'hepllm train'; its boosting scores all events. GRID is the signal grid that the
limits use; SIGNALS are the signals of the boxes, other events of other masses:

hepllm simulate --output a --grid 250 --seed 7101
hepllm simulate --output b --grid 250 --seed 7202 --set simulate.grid.random_points=60
hepllm preprocess a/grid.h5 --output GRID; hepllm preprocess b/grid.h5 --output SIGNALS

Masses and numbers of signal events are drawn from the seed. A box has background from a smooth
spectrum, with scores of simulated background whose share above a cut goes like m_jj, and signal
events of SIGNALS with their m_jj and scores. Cuts, fits, choice of the selection, shape and
efficiency are those of a search; CLs is evaluated at the true number of signal events. The limit
covers it where CLs > 0.05; that shall happen in at least 95 % of all boxes. The coverage of the
boxes without an excess (p >= 0.01) is smaller by construction: those with much signal are missing.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scored_boxes import PATH, Scoring, open_scoring
from search_power import smooth_truth

from hepllm.config import SearchConfig
from hepllm.data.dataset import read_dataset
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.logs import progress_bar
from hepllm.runs.signals import open_signal_grid, score_signal_grid
from hepllm.schema import BACKGROUND
from hepllm.search.cls import CONFIDENCE, PseudoExperiments
from hepllm.search.hunt import prepare_background, usable_cuts
from hepllm.search.limit_model import FittedSelections, near_bins, peak_of, shape_variations
from hepllm.search.measurements import SignalEfficiency
from hepllm.search.signal_grid import EfficiencyByMass, SignalGrid, factors_of
from hepllm.search.smooth import SmoothBackground
from hepllm.search.spectra import ScoreCut, bin_edges, make_spectra
from hepllm.search.toys import examine, observed_spectra, run_block

Floats = NDArray[np.float64]

EXCESS = 0.01
_NULL_BLOCKS = 10


@dataclass(frozen=True, eq=False)
class Setting:
    """Signal of one kind of boxes: masses in GeV, mean number, and events to draw from."""

    masses: tuple[float, float, float]
    n_signal: float
    m_jj: Floats
    score: Floats


@dataclass(frozen=True, eq=False)
class Covered:
    """Whether the limits of one box cover, and what else is of interest."""

    selected: bool
    in_box: bool
    is_excess: bool
    selection: float
    efficiency: float
    true_efficiency: float


@dataclass(frozen=True, eq=False)
class Study:
    """All that the boxes have in common.

    Attributes:
        config: rules of the search.
        background: model of the background.
        edges: (B + 1,) in GeV.
        expected: (B,) background.
        slope: power of m_jj that the efficiency of a cut for background goes with.
        scores: scores of background, sorted.
        grid: signals for the efficiency.
        critical: largest statistic of the scan that is no excess.
        toys: pseudo-experiments for each hypothesis.
        similar: an efficiency for each share that a cut keeps.
    """

    config: SearchConfig
    background: SmoothBackground
    edges: Floats
    expected: Floats
    slope: float
    scores: Floats
    grid: SignalGrid
    critical: float
    toys: int
    similar: dict[float, EfficiencyByMass] = field(default_factory=dict)

    def draw_background(self, random: np.random.Generator) -> tuple[Floats, Floats]:
        """m_jj and scores of the background of a box."""
        counts = random.poisson(self.expected)
        low, high = np.log(self.edges[:-1]).repeat(counts), np.log(self.edges[1:]).repeat(counts)
        m_jj = np.exp(random.uniform(low, high))
        centre = np.sqrt(self.edges[1:] * self.edges[:-1])
        mean = np.average(centre**self.slope, weights=self.expected)
        rank = random.random(len(m_jj)) / (m_jj**self.slope / mean)
        return m_jj, np.quantile(self.scores, np.clip(1 - rank, 0.0, 1.0))

    def box(self, setting: Setting, random: np.random.Generator) -> Covered:
        """Draws a box and asks whether its limits cover the truth."""
        m_jj, score = self.draw_background(random)
        size = random.poisson(setting.n_signal)
        drawn = random.integers(len(setting.m_jj), size=size)
        m_jj = np.concatenate([m_jj, setting.m_jj[drawn]])
        score = np.concatenate([score, setting.score[drawn]])
        inside = (m_jj >= self.edges[0]) & (m_jj < self.edges[-1])
        cuts = usable_cuts(score[inside], self.config)
        spectra = make_spectra(m_jj[inside], score[inside], cuts, self.edges)
        fits, outcome = examine(self.background, *observed_spectra(spectra))
        selections = FittedSelections(
            spectra,
            self.background,
            int(fits.rejected.n_parameters[0]),
            [int(one.n_parameters[0]) for one in fits.selected],
            fits.rejected.used[0],
        )
        efficiencies = self.efficiencies(cuts, setting)
        peak = peak_of(setting.masses[1:])
        mass = setting.masses[0]
        _, variations = shape_variations(peak, self.edges, mass)
        chosen = selections.choose(variations, near_bins(self.edges, mass, peak), efficiencies)
        efficiency = efficiencies[chosen]
        test = selections.test(chosen, variations, factors_of(efficiency))
        toys = PseudoExperiments.of(test, random, self.toys)
        inside = (setting.m_jj >= self.edges[0]) & (setting.m_jj < self.edges[-1])
        true_efficiency = float(np.mean(inside & (setting.score > cuts[chosen].threshold)))
        level = np.log(1 - CONFIDENCE)
        return Covered(
            selected=bool(toys.observed(setting.n_signal * true_efficiency)[0, 0] > level),
            in_box=bool(toys.observed(setting.n_signal * efficiency.value)[1, 0] > level),
            is_excess=bool(outcome.statistic[0].max() > self.critical),
            selection=cuts[chosen].efficiency,
            efficiency=efficiency.value,
            true_efficiency=true_efficiency,
        )

    def efficiencies(self, cuts: list[ScoreCut], setting: Setting) -> list[SignalEfficiency]:
        """The efficiency of each cut by the grid."""
        m_jj_range = float(self.edges[0]), float(self.edges[-1])
        masses = np.array([setting.masses])
        found = []
        for cut in cuts:
            fitted = self.grid.efficiency(cut, m_jj_range, self.similar.get(cut.efficiency))
            # Correlation lengths change little with a threshold, and take most of the time.
            self.similar.setdefault(cut.efficiency, fitted)
            found.append(fitted.at(masses)[0])
        return found

    def expected_limit(self, setting: Setting) -> float:
        """Median expected limit on the events in the box, without any fluctuation."""
        random = np.random.default_rng(0)
        m_jj, score = (np.concatenate(parts) for parts in zip(
            *(self.draw_background(random) for _ in range(20)), strict=True))  # fmt: skip
        cuts = usable_cuts(score, self.config)
        spectra = make_spectra(m_jj, score, cuts, self.edges)
        _, variations = shape_variations(peak_of(setting.masses[1:]), self.edges, setting.masses[0])
        limits = []
        for place, one in enumerate(self.efficiencies(cuts, setting)):
            counts = spectra.selected[place] / 20
            scaled = type(spectra)(self.edges, spectra.rejected / 20, counts[None])
            test = FittedSelections(scaled, self.background, 4, [2]).test(0, variations, np.ones(1))
            if counts.sum() >= self.config.min_selected:
                limits.append(test.expected_limit(test.without_signal()[0]) / one.value)
        return float(min(limits))


@click.command()
@click.argument("run", type=PATH)
@click.argument("signals", type=PATH)
@click.argument("grid", type=PATH)
@click.option("--background", type=PATH, help="Dataset of the background's scores [RUN's].")
@click.option("--events", default=20_000, show_default=True, help="Background in the m_jj range.")
@click.option("--slope", default=1.0, show_default=True, help="Efficiency goes like m_jj^slope.")
@click.option("--settings", default=8, show_default=True, help="Masses and numbers of signal.")
@click.option("--boxes", default=300, show_default=True, help="Of each setting.")
@click.option("--toys", default=500, show_default=True, help="For each hypothesis.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "json_file", type=PATH, help="Also write all results here.")
def main(
    run: Path,
    signals: Path,
    grid: Path,
    *,
    background: Path | None,
    events: int,
    slope: float,
    settings: int,
    boxes: int,
    toys: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Counts how often the 95 % CL limits are above the true number of signal events."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    nothing: dict[str, Any] = {"settings": (), "cascade": None, "cache": None}
    scoring = open_scoring(run, nothing | {"scorer": "boosting"})
    study = make_study(scoring, grid, background, events=events, slope=slope, toys=toys, seed=seed)
    truth = score_signal_grid(
        scoring.run,
        open_signal_grid(scoring.run, signals),
        lambda inputs: scoring.score(inputs.numbers, "signals"),
    )
    chosen = choose_settings(study, truth, settings, seed)
    click.echo(f"{events} background events in a box, {toys} toys; share that covers [95 %]")
    click.echo(
        "| Z', X, Y | signal | selections | efficiency: grid, true | excess | "
        "selected | selected, p >= 0.01 | in the box | in the box, p >= 0.01 |"
    )
    click.echo("|" + "---|" * 9)
    everything: list[Covered] = []
    records = []
    for place, setting in enumerate(chosen):
        found = []
        with progress_bar(boxes, f"setting {place + 1}", "boxes") as progress:
            for number in range(boxes):
                random = np.random.default_rng([seed, 47, place, number])
                found.append(study.box(setting, random))
                progress.update()
        everything += found
        masses = ", ".join(f"{one:.0f}" for one in setting.masses)
        click.echo(row_of(masses, f"{setting.n_signal:.1f}", found))
        records.append(
            {"masses": setting.masses, "n_signal": setting.n_signal,
             "boxes": [vars(one) for one in found]}
        )  # fmt: skip
    click.echo(row_of("all", "", everything))
    if json_file is not None:
        json_file.write_text(json.dumps(records) + "\n", encoding="utf-8")


def make_study(
    scoring: Scoring,
    grid: Path,
    background: Path | None,
    *,
    events: int,
    slope: float,
    toys: int,
    seed: int,
) -> Study:
    """Scores what boxes are made of, and finds what is an excess."""
    config = scoring.config.evaluation.search
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    run = scoring.run
    dataset = run.dataset() if background is None else read_dataset(background)
    table = dataset.load(run.config.train.feature_names())
    table = table.take(
        (table.label == BACKGROUND) & ~np.isin(table.event_digest, run.used_events())
    )
    null = smooth_truth(config, events, slope)
    blocks = [run_block(null, seed, number).statistic for number in range(_NULL_BLOCKS)]
    critical = float(np.quantile(np.concatenate(blocks).max(axis=1), 1 - EXCESS))
    signals = score_signal_grid(
        run,
        open_signal_grid(run, grid),
        lambda inputs: scoring.score(inputs.numbers, "grid"),
    )
    return Study(
        config=config,
        background=prepare_background(edges, config),
        edges=edges,
        expected=null.rejected + null.selected[0],
        slope=slope,
        scores=np.sort(scoring.score(table.features, "background")),
        grid=signals,
        critical=critical,
        toys=toys,
    )


def choose_settings(study: Study, truth: SignalGrid, number: int, seed: int) -> list[Setting]:
    """Draws points of masses, and numbers of signal events from 0.5 to 3 expected limits."""
    random = np.random.default_rng([seed, 48])
    least, most = study.edges[0] / 0.93, study.edges[-1] / 1.07
    usable = truth.points[(truth.points[:, 0] > least) & (truth.points[:, 0] < most)]
    found = []
    for place in random.choice(len(usable), number, replace=False):
        masses = float(usable[place, 0]), float(usable[place, 1]), float(usable[place, 2])
        mine = (truth.masses == usable[place]).all(axis=1)
        setting = Setting(masses, 0.0, truth.m_jj[mine], truth.score[mine])
        n_signal = study.expected_limit(setting) * float(np.exp(random.uniform(*np.log([0.5, 3]))))
        found.append(Setting(masses, n_signal, setting.m_jj, setting.score))
    return found


def row_of(masses: str, signal: str, found: list[Covered]) -> str:
    """One line of the table."""
    quiet = [one for one in found if not one.is_excess]
    kept = sorted({one.selection for one in found}, reverse=True)
    mean = [float(np.mean([getattr(one, key) for one in found]))
            for key in ("efficiency", "true_efficiency")]  # fmt: skip
    cells = [
        masses,
        signal,
        ", ".join(f"{one:g}" for one in kept),
        f"{mean[0]:.3f}, {mean[1]:.3f}",
        f"{len(found) - len(quiet)} of {len(found)}",
        *(_share([getattr(one, key) for one in group])
          for key in ("selected", "in_box") for group in (found, quiet)),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _share(covered: list[bool]) -> str:
    if not covered:
        return "-"
    low, high = clopper_pearson(sum(covered), len(covered))
    return f"{np.mean(covered):.3f} [{low:.3f}, {high:.3f}] of {len(covered)}"


if __name__ == "__main__":
    main()
