"""Power and false alarms of the search without labels, on boxes mixed from simulated events.

python tools/studies/weak_search.py boxes --background DATASET --output FILE.jsonl      # no signal
python tools/studies/weak_search.py boxes --background DATASET --output FILE.jsonl \
    --signal DATASET --fraction 0.01 --fraction 0.001 --grid DATASET --grid-background DATASET
python tools/studies/weak_search.py ideal --background DATASET --signal DATASET --output FILE.jsonl
python tools/studies/weak_search.py table FILE.jsonl...         # the tables of docs/results/weak.md
python tools/studies/weak_search.py picture FILE.jsonl... --output docs/weak.png

Each box is drawn from the datasets and has trainings of its own. Labels only mix the boxes. A line
is written for each box, so that a study that was stopped goes on where it was.

``boxes`` searches a box by weak supervision and, with --grid, by a boosting that was trained with
labels on other signals. ``ideal`` trains data of a signal region, with a signal mixed in, against
true background, and measures the maximum of the SIC on folds that were not trained on.
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
from scipy.stats import norm

from hepllm.baselines.scorer import TrainingSample
from hepllm.config import Config, SearchConfig, override_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.evaluation.metrics import max_sic_in_sample, roc
from hepllm.evaluation.scores import ScoredEvents
from hepllm.schema import BACKGROUND, SIGNAL, feature_names
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import fit_box
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
KEYS = ("study", "template", "features", "events", "fraction", "seed")


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
        parts = [_choose(self.background, n_events - n_signal, random)]
        if n_signal:
            if self.signal is None:
                raise InputError("a fraction of signal needs --signal")
            parts.append(_choose(self.signal, n_signal, random))
        order = random.permutation(n_events)
        is_signal = np.arange(n_events) >= n_events - n_signal
        features = np.concatenate([one.features for one in parts])
        m_jj = np.concatenate([one.m_jj for one in parts])
        return Sample(features[order], m_jj[order]), is_signal[order]


def _choose(sample: Sample, number: int, random: np.random.Generator) -> Sample:
    if number > len(sample):
        raise InputError(f"{number} events are wanted of a pool of {len(sample)}")
    kept = np.zeros(len(sample), dtype=bool)
    kept[random.choice(len(sample), number, replace=False)] = True
    return sample.take(kept)


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


def search_weakly(box: Sample, config: Config, names: tuple[str, ...], seed: int) -> Line:
    """Searches a box by weak supervision with the template of its sidebands."""
    search, weak = config.evaluation.search, config.evaluation.search.weak
    inside = box.take((box.m_jj >= search.m_jj_min) & (box.m_jj < search.m_jj_max))
    events = _events(inside.m_jj, inside.m_jj)
    fold = draw_folds(len(inside), weak.folds, seed)
    training = WeakTraining(
        TemplateMaker(weak.template, names, weak.oversampling), weak.classifier, weak.members, seed
    )
    found = []
    for number, region in enumerate(choose_regions(inside.m_jj, search)):
        raw = np.empty(len(inside))
        for one in range(weak.folds):
            raw[fold == one] = training.score(inside, fold, None, FoldTask(number, region, one))
        scores = at_equal_efficiency(raw, fold, seed)
        found.append(find_excess(events, scores, region, search, seed))
    best, p_value = smallest_p(found)
    return {
        "p_value": p_value,
        "local_sigma": float(norm.isf(found[best].bump.local_p)),
        "bump": list(found[best].window),
        "n_regions": len(found),
        "in_range": len(inside),
        "by_region": [one.p_value.value for one in found],
    }


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
    wanted = [
        {
            "study": "boxes",
            "template": search.weak.template,
            "features": str(search.weak.features),
            "events": size,
            "fraction": fraction,
            "seed": seed + place,
        }
        for fraction in fractions
        for place in range(number)
    ]
    for line in lines.missing(wanted):
        box, is_signal = pool.draw(size, line["fraction"], line["seed"])
        found = search_weakly(box, config, names, line["seed"])
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
    parts = signal, _choose(others, number, np.random.default_rng([seed, 73]))
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
@click.option("--background", "backgrounds", type=PATH, multiple=True, required=True)
@click.option("--signal", "signals", type=PATH, multiple=True, required=True)
@click.option("--features", "sets", multiple=True, default=("cathode",))
@click.option("--region", type=float, nargs=2, default=(3300.0, 3700.0), show_default=True)
@click.option("--fraction", "fractions", type=float, multiple=True, default=(0.006, 0.003, 0.001))
@click.option("--folds", default=5, show_default=True)
@click.option("--members", default=10, show_default=True)
@click.option("--number", default=5, show_default=True, help="Mixtures for each fraction.")
@click.option("--seed", default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def ideal(
    backgrounds: Sequence[Path],
    signals: Sequence[Path],
    sets: Sequence[Any],
    *,
    region: tuple[float, float],
    fractions: Sequence[float],
    folds: int,
    members: int,
    number: int,
    seed: int,
    output: Path,
) -> None:
    """Measures the maximum SIC of data of a region against true background.

    The background is halved at random: one half is the data, with signal, S/B of the fraction, the
    other the template. Signal that is not mixed in only measures.
    """
    lines = Lines(output)
    for features in sets:
        names = feature_names(features)
        background, signal = (
            _in_region(read_samples(folders, names, label), region)
            for folders, label in ((backgrounds, BACKGROUND), (signals, SIGNAL))
        )
        wanted = [
            {
                "study": "ideal",
                "template": "ideal",
                "features": features,
                "events": len(background),
                "fraction": fraction,
                "seed": seed + place,
            }
            for fraction in fractions
            for place in range(number)
        ]
        for line in lines.missing(wanted):
            found = measure_ideal(
                background,
                signal,
                line["fraction"],
                names,
                n_folds=folds,
                members=members,
                seed=line["seed"],
            )
            lines.add({**line, **found, "folds": folds, "members": members})


def _in_region(sample: Sample, region: tuple[float, float]) -> Floats:
    low, high = region
    return sample.features[(sample.m_jj >= low) & (sample.m_jj < high)]


def measure_ideal(
    background: Floats,
    signal: Floats,
    fraction: float,
    names: tuple[str, ...],
    *,
    n_folds: int,
    members: int,
    seed: int,
) -> Line:
    """Trains on all folds but one, each time, and joins the folds at equal efficiency."""
    random = np.random.default_rng([seed, 72])
    is_data = random.permutation(len(background)) % 2 == 0
    n_mixed = round(fraction * int(is_data.sum()))
    is_mixed = random.permutation(len(signal)) < n_mixed
    fold_b = draw_folds(len(background), n_folds, seed)
    fold_s = draw_folds(len(signal), n_folds, seed + 1)
    score_b, score_s = np.empty(len(background)), np.empty(len(signal))
    for one in range(n_folds):
        data = np.concatenate(
            [background[is_data & (fold_b != one)], signal[is_mixed & (fold_s != one)]]
        )
        template = background[~is_data & (fold_b != one)]
        sample = TrainingSample(
            features=np.concatenate([data, template]),
            names=names,
            label=np.repeat([1, 0], [len(data), len(template)]),
            weight=np.repeat([1.0, len(data) / len(template)], [len(data), len(template)]),
            seed=seed * 100 + one,
        )
        ensemble = fit_ensemble(sample, "boosting", members)
        # The share of the fold's background that an event exceeds, so that folds can be joined.
        known = np.sort(ensemble.score(background[fold_b == one]))
        for scores, events, fold in ((score_b, background, fold_b), (score_s, signal, fold_s)):
            above = np.searchsorted(known, ensemble.score(events[fold == one]), side="left")
            scores[fold == one] = above / len(known)
    other = score_s[~is_mixed]
    scored = ScoredEvents(
        np.concatenate([score_b, other]),
        np.repeat([0, 1], [len(score_b), len(other)]),
        np.ones(len(score_b) + len(other)),
    )
    curve = roc(scored)
    tight = float(np.quantile(score_b, 1 - 1e-3, method="higher"))
    eps_b = float((score_b > tight).mean())
    return {
        "n_mixed": n_mixed,
        "max_sic_paper": max_sic_in_sample(curve, 1).sic,
        "max_sic_10": max_sic_in_sample(curve, 10).sic,
        "sic_at_1e-3": float((other > tight).mean() / np.sqrt(eps_b)) if eps_b else None,
    }


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
def table(files: Sequence[Path]) -> None:
    """Prints medians and 16-84 % bands."""
    for key, group in grouped(files).items():
        study, template, features, events, fraction = key
        name = f"| {study} | {template} | {features} | {events} | {fraction:.2%} | {len(group)} |"
        if study == "boxes":
            click.echo(f"{name} {_p_values(group)} |")
        else:
            numbers = [
                _band([one[what] for one in group])
                for what in ("max_sic_paper", "max_sic_10", "sic_at_1e-3")
            ]
            click.echo(f"{name} {' | '.join(numbers)} |")


def grouped(files: Sequence[Path]) -> Mapping[tuple[Any, ...], list[Line]]:
    """The lines of several files by study, template, features, size and fraction."""
    found: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for file in files:
        for line in Lines(file).read():
            found[tuple(line[key] for key in KEYS[:-1])].append(line)
    return dict(sorted(found.items(), key=lambda item: tuple(map(str, item[0]))))


def _p_values(group: Sequence[Line]) -> str:
    parts = []
    for end in ("", "_supervised"):
        values = [one[f"p{end or '_value'}"] for one in group if f"p{end or '_value'}" in one]
        if values:
            small, evident = (sum(one < level for one in values) for level in (SMALL, EVIDENCE))
            sigma = _band([one.get(f"local_sigma{end}") for one in group])
            parts.append(f"{_band(values)} | {sigma} | {small} of {len(values)} | {evident}")
    return " | ".join(parts)


def _band(values: Sequence[float | None]) -> str:
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
