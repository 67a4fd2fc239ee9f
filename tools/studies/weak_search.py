"""Power and false alarms of the search without labels, on boxes mixed from simulated events.

python tools/studies/weak_search.py boxes --background DATASET --output FILE.jsonl      # no signal
python tools/studies/weak_search.py boxes --background DATASET --output FILE.jsonl \
    --signal DATASET --fraction 0.01 --fraction 0.001 --grid DATASET --grid-background DATASET
python tools/studies/weak_search.py boxes --background DATASET --output FILE.jsonl \
    --simulation DATASET --set weak.template=reweighted
python tools/studies/weak_search.py table FILE.jsonl...         # the tables of docs/results/weak.md
python tools/studies/weak_search.py picture FILE.jsonl... --output docs/weak.png

Each box is drawn from the datasets and has trainings of its own. Labels only mix the boxes. A line
is written for each box, so that a study that was stopped goes on where it was.

``boxes`` searches a box by weak supervision and, with --grid, by a boosting that was trained with
labels on other signals. With --untrained scores are random numbers: what the bump hunt alone does.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest, norm

from hepllm.baselines.scorer import TrainingSample
from hepllm.config import Config, SearchConfig, override_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import fit_box
from hepllm.search.spectra import shape_distance
from hepllm.weak.ensemble import Ensemble, fit_ensemble
from hepllm.weak.folds import FoldTask, WeakTraining, at_equal_efficiency, draw_folds
from hepllm.weak.records import smallest_p
from hepllm.weak.regions import choose_regions
from hepllm.weak.scan import find_excess
from hepllm.weak.templates import Sample, TemplateMaker

LOG = logging.getLogger("hepllm.weak_search")
PATH = click.Path(path_type=Path, exists=True)
Floats = NDArray[np.float64]
Line = dict[str, Any]

SMALL, EVIDENCE = 0.05, 0.001

LEVELS = (0.05, 0.1, 0.3, 0.5)
"""p-values below which the share of boxes without signal is counted."""
KEPT = (0.1, 0.01)
"""Shares of events that a cut keeps whose masses are compared with the others'."""

KEYS = ("study", "template", "features", "events", "fraction", "regions", "seed")
"""What tells one box from another; ``regions`` is absent where one region is searched."""


@click.group()
def main() -> None:
    """Power and false alarms of the search without labels."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@dataclass(frozen=True, eq=False)
class Pool:
    """Background and signal events that boxes are drawn from."""

    background: Sample
    signal: Sample | None

    def draw(self, n_events: int, fraction: float, seed: int) -> tuple[Sample, NDArray[np.bool_]]:
        """Draws a box without replacement; returns it, and which of its events are signal."""
        random = np.random.default_rng([seed, 71])
        n_signal = round(fraction * n_events)
        picked = drawn(len(self.background), n_events - n_signal, random)
        parts = [self.background.take(picked)]
        if n_signal:
            if self.signal is None:
                raise InputError("a fraction of signal needs --signal")
            parts.append(self.signal.take(drawn(len(self.signal), n_signal, random)))
        order = random.permutation(n_events)
        is_signal = np.arange(n_events) >= n_events - n_signal
        features = np.concatenate([one.features for one in parts])
        m_jj = np.concatenate([one.m_jj for one in parts])
        return Sample(features[order], m_jj[order]), is_signal[order]


def drawn(n_pool: int, number: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draws events of a pool without replacement; returns which of them, shape (n_pool,)."""
    if number > n_pool:
        raise InputError(f"{number} events are wanted of a pool of {n_pool}")
    kept = np.zeros(n_pool, dtype=bool)
    kept[random.choice(n_pool, number, replace=False)] = True
    return kept


def read_samples(folders: Sequence[Path], names: Sequence[str], label: int) -> Sample:
    """Reads the events of a class of several datasets."""
    tables = [read_dataset(folder).load((*names, "m_jj")) for folder in folders]
    parts = [_of_class(table, names, label) for table in tables]
    return Sample(
        np.concatenate([one.features for one in parts]), np.concatenate([one.m_jj for one in parts])
    )


def _of_class(table: EventTable, names: Sequence[str], label: int) -> Sample:
    features = np.column_stack([table.column(name) for name in names])
    return Sample(features, table.column("m_jj")).take(table.label == label)


def search_weakly(
    box: Sample,
    config: Config,
    names: tuple[str, ...],
    seed: int,
    *,
    simulation: Sample | None = None,
    is_trained: bool = True,
) -> Line:
    """Searches a box by weak supervision, or with random scores in place of the classifiers'."""
    search, weak = config.evaluation.search, config.evaluation.search.weak
    inside = box.take((box.m_jj >= search.m_jj_min) & (box.m_jj < search.m_jj_max))
    events = _events(inside.m_jj, inside.m_jj)
    fold = draw_folds(len(inside), weak.folds, seed)
    training = WeakTraining(
        TemplateMaker(weak.template, names, weak.oversampling), weak.classifier, weak.members, seed
    )
    found, shapes = [], []
    for number, region in enumerate(choose_regions(inside.m_jj, search)):
        raw = np.random.default_rng([seed, 75, number]).random(len(inside))
        for one in range(weak.folds if is_trained else 0):
            task = FoldTask(number, region, one)
            raw[fold == one] = training.score(inside, fold, simulation, task)
        scores = at_equal_efficiency(raw, fold, seed)
        found.append(find_excess(events, scores, region, search, seed))
        shapes.append(_shapes(inside.m_jj, scores, seed))
    best, p_value = smallest_p(found)
    return {
        "p_value": p_value,
        "local_sigma": float(norm.isf(found[best].bump.local_p)),
        "bump": list(found[best].window),
        "n_regions": len(found),
        "in_range": len(inside),
        "by_region": [one.p_value.value for one in found],
        "sculpting": shapes[best],
    }


def _shapes(m_jj: Floats, scores: Floats, seed: int) -> dict[str, dict[str, float]]:
    """How far the masses of the events that pass a cut differ from those of the others, by cut."""
    shapes = {}
    for share in KEPT:
        passes = scores > np.quantile(scores, 1 - share)
        found = shape_distance(m_jj[passes], m_jj[~passes], seed)
        if found is not None:
            shapes[f"{share:g}"] = {"ks_p": found.ks_p, "js": found.js, "js_95": found.js_95}
    return shapes


def search_supervised(box: Sample, scorer: Ensemble, search: SearchConfig, seed: int) -> Line:
    """Searches the same box, and region, in scores of a classifier that was trained with labels."""
    region = None
    if search.weak.region is not None:
        region = choose_regions(box.m_jj, search)[0].searched(1)
    events = _events(box.m_jj, scorer.score(box.features))
    fitted = fit_box(events, search, seed, region=region)
    return {
        "p_supervised": fitted.toys.overall.value,
        "local_sigma_supervised": float(norm.isf(fitted.bump.local_p)),
    }


def _events(m_jj: Floats, score: Floats) -> BoxEvents:
    none = np.full(len(m_jj), np.nan)
    return BoxEvents(score, m_jj, none, none)


@dataclass(frozen=True)
class Lines:
    """A file with a JSON line for each box.

    Attributes:
        file: the file.
        keys: what tells one box from another.
    """

    file: Path
    keys: Sequence[str] = KEYS

    def read(self) -> list[Line]:
        """The lines that are there."""
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def missing(self, wanted: Iterable[Line]) -> Iterator[Line]:
        """What is not there yet of the wanted boxes."""
        done = {self._key(one) for one in self.read()}
        return (one for one in wanted if self._key(one) not in done)

    def _key(self, line: Line) -> str:
        return json.dumps([line.get(key) for key in self.keys])

    def add(self, line: Line) -> None:
        """Writes a line and shows it."""
        text = json.dumps(line)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")
        LOG.info("%s", text)


def _config(settings: Sequence[str]) -> Config:
    return override_config(Config(), [f"evaluation.search.{one}" for one in settings])


@main.command()
@click.option("--background", "backgrounds", type=PATH, multiple=True, required=True)
@click.option("--signal", "signals", type=PATH, multiple=True)
@click.option("--fraction", "fractions", type=float, multiple=True, default=(0.0,))
@click.option("--grid", type=PATH, help="Signals of the search with labels.")
@click.option("--grid-background", type=PATH, help="Its background, other than that of the boxes.")
@click.option("--simulation", "simulations", type=PATH, multiple=True, help="For templates of it.")
@click.option("--untrained", is_flag=True, help="Random scores, without any training.")
@click.option("--size", default=20_000, show_default=True, help="Events of a box.")
@click.option("--number", default=5, show_default=True, help="Boxes for each fraction.")
@click.option("--seed", default=1, show_default=True)
@click.option("--set", "settings", multiple=True, help="Of evaluation.search: key=value.")
@click.option("--output", type=click.Path(path_type=Path), required=True)
def boxes(
    backgrounds: Sequence[Path],
    signals: Sequence[Path],
    fractions: Sequence[float],
    grid: Path | None,
    grid_background: Path | None,
    *,
    simulations: Sequence[Path],
    untrained: bool,
    size: int,
    number: int,
    seed: int,
    settings: Sequence[str],
    output: Path,
) -> None:
    """Searches boxes of each fraction of signal."""
    config, lines = _config(settings), Lines(output)
    search = config.evaluation.search
    names = search.weak.feature_names()
    pool = Pool(
        read_samples(backgrounds, names, BACKGROUND),
        read_samples(signals, names, SIGNAL) if signals else None,
    )
    scorer = None
    if grid is not None and grid_background is not None:
        scorer = train_on_grid(grid, grid_background, names, seed)
    simulation = read_samples(simulations, names, BACKGROUND) if simulations else None
    only = {} if search.weak.region is not None else {"regions": "all"}
    wanted = [
        {
            "study": "boxes",
            "template": "untrained" if untrained else search.weak.template,
            "features": str(search.weak.features),
            "events": size,
            "fraction": fraction,
            "seed": seed + place,
            **only,
        }
        for fraction in fractions
        for place in range(number)
    ]
    for line in lines.missing(wanted):
        box, is_signal = pool.draw(size, line["fraction"], line["seed"])
        found = search_weakly(
            box, config, names, line["seed"], simulation=simulation, is_trained=not untrained
        )
        if scorer is not None:
            found |= search_supervised(box, scorer, search, line["seed"])
        lines.add({**line, **found, "n_signal": int(is_signal.sum())})


def train_on_grid(grid: Path, background: Path, names: tuple[str, ...], seed: int) -> Ensemble:
    """Trains a boosting with labels, on signals of many masses and as much background."""
    signal, others = (
        read_samples([folder], names, label)
        for folder, label in ((grid, SIGNAL), (background, BACKGROUND))
    )
    number = min(len(signal), len(others))
    parts = signal, others.take(drawn(len(others), number, np.random.default_rng([seed, 73])))
    sizes = [len(one) for one in parts]
    sample = TrainingSample(
        features=np.concatenate([one.features for one in parts]),
        names=names,
        label=np.repeat([1, 0], sizes),
        weight=np.repeat([1.0, sizes[0] / sizes[1]], sizes),
        seed=seed,
    )
    return fit_ensemble(sample, "boosting", 1)


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
def table(files: Sequence[Path]) -> None:
    """Prints medians and 16-84 % bands."""
    for key, group in grouped(files).items():
        study, template, features, events, fraction, regions, _ = key
        first = f"| {study} | {template} | {features} | {regions or 'one region'} | {events}"
        click.echo(f"{first} | {fraction:.2%} | {len(group)} | {_p_values(group)} |")


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
def nulls(files: Sequence[Path]) -> None:
    """Prints shares of small p-values of boxes without signal, and how flat those below 0.5 are.

    Above 0.5 the data have no excess to speak of, and as many pseudo-experiments have none either.
    """
    for key, group in grouped(files).items():
        values = np.array([one["p_value"] for one in group if one["fraction"] == 0])
        if not len(values):
            continue
        cells = [_share(int((values < level).sum()), len(values)) for level in LEVELS]
        below = values[values < LEVELS[-1]]
        flat = kstest(below / LEVELS[-1], "uniform").pvalue if len(below) else np.nan
        what = f"{key[6] or key[1]} | {key[2] or '-'}"
        name = f"| {what} | {key[5] or 'one region'} | {len(values)} |"
        click.echo(f"{name} {' | '.join(cells)} | {flat:.2f} | {int((values >= 1).sum())} |")


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
def sculpting(files: Sequence[Path]) -> None:
    """Prints how often the cuts of a search bend the masses of boxes without signal."""
    for key, group in grouped(files).items():
        boxes = [one["sculpting"] for one in group if one["fraction"] == 0 and "sculpting" in one]
        for share in (f"{one:g}" for one in KEPT):
            found = [box[share] for box in boxes if share in box]
            if not found:
                continue
            bent = sum(one["ks_p"] < SMALL for one in found)
            beyond = sum(one["js"] > one["js_95"] for one in found)
            name = f"| {key[1]} | {key[2]} | {key[5] or 'one region'} | {share} | {len(found)} |"
            shares = " | ".join(_share(number, len(found)) for number in (bent, beyond))
            median = np.median([one["js"] / one["js_95"] for one in found])
            click.echo(f"{name} {shares} | {median:.2f} |")


def _share(number: int, among: int) -> str:
    low, high = clopper_pearson(number, among)
    return f"{number / among:.3f} [{low:.3f}, {high:.3f}]"


def grouped(files: Sequence[Path]) -> Mapping[tuple[Any, ...], list[Line]]:
    """The lines of several files by study, template, features, size, fraction, regions, classifier.

    Lines of ``weak_classifiers.py`` name a classifier, and neither template nor features.
    """
    found: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for file in files:
        for line in Lines(file).read():
            found[tuple(line.get(key) for key in (*KEYS[:-1], "classifier"))].append(line)
    return dict(sorted(found.items(), key=lambda item: tuple(map(str, item[0]))))


def _p_values(group: Sequence[Line]) -> str:
    parts = []
    for end in ("", "_supervised"):
        values = [one[f"p{end or '_value'}"] for one in group if f"p{end or '_value'}" in one]
        if values:
            small, evident = (sum(one < level for one in values) for level in (SMALL, EVIDENCE))
            sigma = band([one.get(f"local_sigma{end}") for one in group])
            parts.append(f"{band(values)} | {sigma} | {small} of {len(values)} | {evident}")
    return " | ".join(parts)


def band(values: Sequence[float | None]) -> str:
    """Median and 16-84 % band of the values that are there; "-" if none is."""
    known = np.array([one for one in values if one is not None], dtype=np.float64)
    if not len(known):
        return "-"
    low, middle, high = np.quantile(known, (0.16, 0.5, 0.84))
    return f"{middle:.3g} [{low:.3g}, {high:.3g}]"


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def picture(files: Sequence[Path], output: Path) -> None:
    """Draws p-values of boxes without signal, and those of injections by their fraction."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9.9, 4.4), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    groups = grouped(files)
    for key, group in groups.items():
        values = np.sort([one["p_value"] for one in group]) if key[0] == "boxes" else np.empty(0)
        if key[4] == 0 and len(values) >= 20:
            share = np.arange(1, len(values) + 1) / len(values)
            left.step(values, share, where="post", label=f"{key[2]}, {len(values)} boxes")
    left.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="as it should be")
    left.set(xlabel="p-value of a box without signal", ylabel="share of boxes below", xlim=(0, 1))
    left.legend(fontsize=9)
    for what, label, colour in (
        ("local_sigma", "without labels", "#D55E00"),
        ("local_sigma_supervised", "boosting trained on other signals", "#0072B2"),
    ):
        found = {
            key[4]: [one[what] for one in group if what in one]
            for key, group in groups.items()
            if key[0] == "boxes" and key[4] > 0
        }
        fractions = sorted(one for one, values in found.items() if values)
        if fractions:
            bands = np.array([np.quantile(found[one], (0.16, 0.5, 0.84)) for one in fractions])
            percent = 100 * np.array(fractions)
            right.fill_between(percent, bands[:, 0], bands[:, 2], color=colour, alpha=0.2)
            right.plot(percent, bands[:, 1], "o-", color=colour, label=label)
    right.set(xlabel="signal in the box [%]", ylabel="local significance of the bump", xscale="log")
    right.legend(fontsize=9)
    figure.savefig(output)


if __name__ == "__main__":
    main()
