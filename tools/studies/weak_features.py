"""What features gain without labels: data of a signal region against true background.

python tools/studies/weak_features.py run --background DATASET --signal DATASET --fraction 0.02 \
    --features cathode --features extended --output FILE.jsonl
python tools/studies/weak_features.py run ... --labels --output FILE.jsonl    # trained with labels
python tools/studies/weak_features.py run ... --each-point --signal GRID ...  # its signals in turn
python tools/studies/weak_features.py table FILE.jsonl...       # docs/results/weak-features.md
python tools/studies/weak_features.py picture FILE.jsonl... --output docs/weak-features.png

The background of the region is halved at random: one half is the data, into which signal is mixed,
S/B of the fraction, the other half the template. Each fold is scored by boostings that were trained
on the others; all background measures, and the signal that is not mixed in. A mixture has the same
events with each set of features, so that ratios are taken mixture by mixture. With ``--each-point``
mixtures have one signal of a grid each, so that bands and intervals are those of signals. A line is
written for each, so that a study that was stopped goes on where it was.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.ensemble import HistGradientBoostingClassifier
from weak_search import KEYS, PATH, Line, Lines, read_samples

from hepllm.baselines.boosting import Boosting, fit_boosting
from hepllm.baselines.scorer import TrainingSample
from hepllm.data.dataset import read_dataset
from hepllm.evaluation.metrics import max_sic_in_sample, roc
from hepllm.evaluation.scores import ScoredEvents
from hepllm.schema import BACKGROUND, SIGNAL, feature_names
from hepllm.weak.bins import FeatureBins
from hepllm.weak.ensemble import MIN_LEAF, Ensemble, fit_ensemble
from hepllm.weak.folds import draw_folds
from hepllm.weak.templates import Sample

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WITH_LABELS = "labels"
QUANTITIES = {
    "max_sic_paper": "max SIC, CATHODE's rule",
    "max_sic_10": "max SIC, 10 pass",
    "sic_at_1e-3": "SIC at eps_B = 1e-3",
}
TIGHT = 1e-3
RATIOS = (0.5, 1, 2, 5, 10)
"""Marks on the axis of ratios."""
RATE, DRAWN = 0.1, 0.85


@click.group()
def main() -> None:
    """What features gain without labels."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command()
@click.option("--background", "backgrounds", type=PATH, multiple=True, required=True)
@click.option("--signal", "signals", type=PATH, multiple=True, required=True)
@click.option("--features", "sets", multiple=True, default=("cathode", "extended"))
@click.option("--region", type=float, nargs=2, default=(3300.0, 3700.0), show_default=True)
@click.option("--fraction", "fractions", type=float, multiple=True, default=(0.02, 0.006))
@click.option("--labels", is_flag=True, help="Train with labels on all signal: the ceiling.")
@click.option("--each-point", is_flag=True, help="Mix the signals of a grid in one at a time.")
@click.option("--folds", default=5, show_default=True)
@click.option("--members", default=5, show_default=True)
@click.option("--trees", type=int, help="Trees of a boosting; otherwise as searches have it.")
@click.option("--number", default=10, show_default=True, help="Mixtures for each fraction.")
@click.option("--seed", default=1, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def run(
    backgrounds: Sequence[Path],
    signals: Sequence[Path],
    sets: Sequence[Any],
    *,
    region: tuple[float, float],
    fractions: Sequence[float],
    labels: bool,
    each_point: bool,
    folds: int,
    members: int,
    trees: int | None,
    number: int,
    seed: int,
    output: Path,
) -> None:
    """Measures the SIC of data of a region against true background."""
    lines = Lines(output, (*KEYS, "point"))
    fit = fit_boosting if labels else partial(fit_without_labels, members, trees)
    for features in sets:
        names = feature_names(features)
        background = _in_region(read_samples(backgrounds, names, BACKGROUND), region)
        samples: dict[str | None, Sample] = {None: read_samples(signals, names, SIGNAL)}
        if each_point:
            samples = dict(one for folder in signals for one in samples_by_point(folder, names))
        of_point = {point: _in_region(sample, region) for point, sample in samples.items()}
        wanted = [
            {
                "study": WITH_LABELS if labels else "ideal",
                "template": "ideal",
                "features": features,
                "events": len(background),
                "fraction": fraction,
                "point": point,
                "seed": seed + place,
            }
            for fraction in ((1.0,) if labels else fractions)
            for point in of_point
            for place in range(number)
        ]
        for line in lines.missing(wanted):
            signal = of_point[line["point"]]
            mixed = mix(
                len(background), len(signal), line["seed"], None if labels else line["fraction"]
            )
            found = measure(
                background, signal, mixed, names, n_folds=folds, seed=line["seed"], fit=fit
            )
            lines.add({**line, **found, "folds": folds, "members": members, "trees": trees})


def samples_by_point(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, Sample]]:
    """The masses of each simulated signal of a dataset, as in "3500 -> 500 100", and its events."""
    dataset = read_dataset(folder)
    table = dataset.load((*names, "m_jj"))
    features = np.column_stack([table.column(name) for name in names])
    for points in (source.signal_points or () for source in dataset.manifest.sources):
        for one in points:
            place = table.event_id - one.first
            mine = (place >= 0) & (place < one.events) & (table.label == SIGNAL)
            name = f"{one.m_zprime:.0f} -> {one.m_x:.0f} {one.m_y:.0f}"
            yield name, Sample(features, table.column("m_jj")).take(mine)


class Scoring(Protocol):
    """What scores events, shape (N,), with features (N, F)."""

    def score(self, features: Floats) -> Floats:
        """Larger for signal."""
        ...


def fit_without_labels(members: int, trees: int | None, sample: TrainingSample) -> Scoring:
    """The ensemble of searches, or boostings of equally many trees, each of 85 % of the events."""
    if trees is None:
        return fit_ensemble(sample, "boosting", members)
    bins = FeatureBins.of(sample.features)
    codes, number = bins.codes(sample.features), len(sample.label)
    weight = np.ones(number) if sample.weight is None else sample.weight
    found = []
    for seed in np.random.SeedSequence([sample.seed, 61]).generate_state(members):
        random = np.random.default_rng([int(seed), 62])
        rows = np.sort(random.choice(number, round(DRAWN * number), replace=False))
        classifier = HistGradientBoostingClassifier(
            learning_rate=RATE,
            max_iter=trees,
            max_leaf_nodes=15,
            min_samples_leaf=MIN_LEAF,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=int(seed),
        )
        classifier.fit(codes[rows], sample.label[rows], sample_weight=weight[rows])
        found.append(Boosting(classifier, np.arange(codes.shape[1])))
    return Ensemble(found, bins)


def _in_region(sample: Sample, region: tuple[float, float]) -> Floats:
    low, high = region
    return sample.features[(sample.m_jj >= low) & (sample.m_jj < high)]


def mix(n_background: int, n_signal: int, seed: int, fraction: float | None) -> tuple[Bools, Bools]:
    """Draws which background events are data, and which signal events are mixed into them.

    Without a fraction no background is in the data, and all signal is: a training with labels.
    """
    random = np.random.default_rng([seed, 72])
    if fraction is None:
        return np.zeros(n_background, dtype=bool), np.ones(n_signal, dtype=bool)
    is_data = random.permutation(n_background) % 2 == 0
    n_mixed = round(fraction * int(is_data.sum()))
    return is_data, random.permutation(n_signal) < n_mixed


def measure(
    background: Floats,
    signal: Floats,
    mixed: tuple[Bools, Bools],
    names: tuple[str, ...],
    *,
    n_folds: int,
    seed: int,
    fit: Callable[[TrainingSample], Scoring],
) -> Line:
    """Trains on all folds but one, each time, and joins the folds at equal efficiency."""
    is_data, is_mixed = mixed
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
        scorer = fit(sample)
        # The share of the fold's background that an event exceeds, so that folds can be joined.
        known = np.sort(scorer.score(background[fold_b == one]))
        for scores, events, fold in ((score_b, background, fold_b), (score_s, signal, fold_s)):
            above = np.searchsorted(known, scorer.score(events[fold == one]), side="left")
            scores[fold == one] = above / len(known)
    # A training with labels mixes all signal in, and measures it out of fold.
    other = score_s if is_mixed.all() else score_s[~is_mixed]
    scored = ScoredEvents(
        np.concatenate([score_b, other]),
        np.repeat([0, 1], [len(score_b), len(other)]),
        np.ones(len(score_b) + len(other)),
    )
    curve = roc(scored)
    tight = float(np.quantile(score_b, 1 - TIGHT, method="higher"))
    eps_b = float((score_b > tight).mean())
    return {
        "n_mixed": int(is_mixed.sum()),
        "max_sic_paper": max_sic_in_sample(curve, 1).sic,
        "max_sic_10": max_sic_in_sample(curve, 10).sic,
        "sic_at_1e-3": float((other > tight).mean() / np.sqrt(eps_b)) if eps_b else None,
    }


Mixture = tuple[str | None, int]
"""Signal and seed."""
Groups = Mapping[float, Mapping[str, Mapping[Mixture, Line]]]


def grouped(files: Sequence[Path]) -> Groups:
    """The lines by fraction (1 with labels, largest first), features, and signal and seed."""
    found: dict[float, dict[str, dict[Mixture, Line]]] = defaultdict(lambda: defaultdict(dict))
    for file in files:
        for line in Lines(file).read():
            found[line["fraction"]][line["features"]][line.get("point"), line["seed"]] = line
    return dict(sorted(found.items(), reverse=True))


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--against", default="cathode", show_default=True, help="Features of the ratio.")
def table(files: Sequence[Path], against: str) -> None:
    """Prints medians and 16-84 % bands, and ratios to other features, mixture by mixture."""
    for fraction, sets in grouped(files).items():
        for features, group in sets.items():
            lines = list(group.values())
            cells = [_band([one[what] for one in lines]) for what in QUANTITIES]
            if features != against:
                cells = [
                    f"{cell}; {_ratio(ratios(sets, features, against, what))}"
                    for cell, what in zip(cells, QUANTITIES, strict=True)
                ]
            name = "labels" if lines[0]["study"] == WITH_LABELS else f"{fraction:.1%}"
            click.echo(
                f"| {name} | {lines[0]['n_mixed']} | `{features}` | {len(lines)} | "
                f"{' | '.join(cells)} |"
            )


@main.command("signals")
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--against", default="cathode", show_default=True)
@click.option("--features", default="extended", show_default=True)
def of_signals(files: Sequence[Path], against: str, features: str) -> None:
    """Prints the maximum SIC of both sets of features, and their ratio, mixture by mixture."""
    for fraction, sets in grouped(files).items():
        for mixture in sorted(sets[features].keys() & sets[against].keys(), key=str):
            mine, other = (sets[name][mixture]["max_sic_10"] for name in (features, against))
            click.echo(
                f"| {fraction:.1%} | {mixture[0]} | {other:.1f} | {mine:.1f} | {mine / other:.2f} |"
            )


def ratios(
    sets: Mapping[str, Mapping[Mixture, Line]], features: str, against: str, what: str
) -> Floats:
    """The ratio of each mixture that both sets of features have; of each signal, if they are named.

    Mixtures of one signal are averaged (geometric mean), so that intervals are those of signals.
    """
    others, found = sets.get(against, {}), defaultdict(list)
    for (point, seed), line in sorted(sets[features].items(), key=str):
        other = others.get((point, seed))
        if other and line[what] and other[what]:
            found[point or seed].append(np.log(line[what] / other[what]))
    return np.array([np.exp(np.mean(one)) for one in found.values()])


def interval(values: Floats) -> tuple[float, float, float]:
    """Geometric mean of ratios, and its 95 % interval for further mixtures (Student's t)."""
    logs = np.log(values)
    reach = student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, middle, high = np.exp(logs.mean() + reach * np.array([-1, 0, 1]))
    return float(low), float(middle), float(high)


def _ratio(values: Floats) -> str:
    if len(values) < 2:
        return "-"
    low, middle, high = interval(values)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _band(values: Sequence[float | None]) -> str:
    low, middle, high = np.quantile([one or 0.0 for one in values], (0.16, 0.5, 0.84))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


@main.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--against", default="cathode", show_default=True)
@click.option("--features", default="extended", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
def picture(files: Sequence[Path], against: str, features: str, output: Path) -> None:
    """Draws the SIC of both sets of features, and their ratio, by S/B."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    groups = grouped(files)
    labelled = groups.get(1.0, {})
    fractions = sorted(one for one in groups if one < 1)
    percent = 100 * np.array(fractions)
    figure = Figure(figsize=(9.9, 4.4), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, colour in ((against, "#0072B2"), (features, "#D55E00")):
        bands = np.array([_levels(groups[one][name], "max_sic_10") for one in fractions])
        left.fill_between(percent, bands[:, 0], bands[:, 2], color=colour, alpha=0.2)
        left.plot(percent, bands[:, 1], "o-", color=colour, label=f"{name}, without labels")
        if name in labelled:
            ceiling = _levels(labelled[name], "max_sic_10")[1]
            left.axhline(ceiling, color=colour, linestyle="--", label=f"{name}, with labels")
    left.set(xlabel="S/B in the region [%]", ylabel="maximum of the SIC, 10 pass", xscale="log")
    left.legend(fontsize=9)
    for what, colour in zip(QUANTITIES, ("#009E73", "#CC79A7", "#000000"), strict=True):
        found = np.array(
            [interval(ratios(groups[one], features, against, what)) for one in fractions]
        )
        right.fill_between(percent, found[:, 0], found[:, 2], color=colour, alpha=0.15)
        right.plot(percent, found[:, 1], "o-", color=colour, label=QUANTITIES[what])
    right.axhline(1, color="0.5", linestyle=":")
    right.set(xlabel="S/B in the region [%]", ylabel=f"{features} / {against}", xscale="log")
    # Where next to nothing is learnt, an interval of few mixtures would fill the picture.
    right.set(yscale="log", ylim=(0.3, 20))
    right.set_yticks(RATIOS, [f"{one:g}" for one in RATIOS])
    for axes in (left, right):
        axes.set_xticks(percent, [f"{one:g}" for one in percent])
        axes.minorticks_off()
    right.legend(fontsize=9)
    figure.savefig(output)


def _levels(group: Mapping[Mixture, Line], what: str) -> Floats:
    return np.asarray(np.quantile([one[what] for one in group.values()], (0.16, 0.5, 0.84)))


if __name__ == "__main__":
    main()
