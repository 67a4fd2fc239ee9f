"""Tables how well simulated events agree with the real R&D sample.

python tools/studies/fidelity.py --simulated raw/rnd.h5     # the tables of docs/results.md

Three questions, from the particular to the whole: which features differ (Kolmogorov-Smirnov), can
a boosting tell simulated from real events (cross-validated AUC; 0.5 is no difference), and how well
does a boosting trained on simulation find the real signal.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
from threadpoolctl import threadpool_limits

from hepllm.config import Config, PreprocessConfig, load_config, override_config
from hepllm.errors import HepllmError, InputError
from hepllm.executor import run_tasks
from hepllm.logs import configure_logging
from hepllm.physics.chunks import make_chunks, process_chunk
from hepllm.physics.readers import open_event_file
from hepllm.schema import (
    BACKGROUND,
    FEATURES,
    SIGNAL,
    FeatureSet,
    dataset_features,
    feature_names,
)
from hepllm.stages.simulate import RND_FILE, simulate

logger = logging.getLogger("hepllm.fidelity")

CLASSES = {BACKGROUND: "background", SIGNAL: "signal"}
FEATURE_SETS: tuple[FeatureSet, ...] = ("search", "cathode", "all")
N_FOLDS = 5
REAL_FILE = Path("lhco") / "events_anomalydetection_tiny.h5"
CATHODE_FOLDER = Path("cathode")

WINDOW = (3300.0, 3700.0)
"""GeV; the range of m_jj that the features published with CATHODE (arXiv:2109.00546) cover."""

CATHODE_COLUMNS = ("m_jj", "jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Features of the events of some files: columns of shape (N,), and labels of shape (N,)."""

    features: Mapping[str, Floats]
    label: NDArray[np.int64]

    def matrix(self, names: tuple[str, ...], label: int | None = None) -> Floats:
        """Features as columns, shape (N, F), of all events or those with one label."""
        matrix = np.stack([self.features[name] for name in names], axis=1)
        return matrix if label is None else matrix[self.label == label]


@dataclass(frozen=True)
class Distance:
    """Kolmogorov-Smirnov distance of one feature between simulated and real events of a class."""

    feature: str
    label: str
    distance: float
    p_value: float
    n_simulated: int
    n_real: int


@dataclass(frozen=True)
class Auc:
    """A cross-validated AUC: the mean over folds and repeats and their standard deviation."""

    mean: float
    spread: float
    n_first: int
    n_second: int


def load_sample(files: list[Path], config: PreprocessConfig) -> Sample:
    """Reads labelled files and computes the features of their events."""
    chunks = make_chunks([open_event_file(path) for path in files], 250)
    work = functools.partial(process_chunk, config=config)
    results = [result for _, result in run_tasks(work, chunks, ordered=True)]
    features = {
        name: np.concatenate([result.features[name] for result in results])
        for name in dataset_features(config.extended)
    }
    label = np.concatenate([result.rows["label_raw"] for result in results])
    if np.isnan(label).any():
        raise InputError(f"{files[0]}: has no labels; give a file of 2,101 columns")
    return Sample(features, label.astype(np.int64))


def load_cathode(folder: Path) -> Sample:
    """Reads the features of R&D events in the window: many more than the real sample holds."""
    rows = np.concatenate([np.load(path) for path in sorted(folder.glob("innerdata_*.npy"))])
    scale = np.array([1000.0, 1000.0, 1000.0, 1.0, 1.0])  # the files have TeV
    features = dict(zip(CATHODE_COLUMNS, (rows[:, :5] * scale).T, strict=True))
    return Sample(features, rows[:, 5].astype(np.int64))


def in_window(sample: Sample) -> Sample:
    """The events that CATHODE's features would hold."""
    inside = (sample.features["m_jj"] > WINDOW[0]) & (sample.features["m_jj"] < WINDOW[1])
    features = {name: column[inside] for name, column in sample.features.items()}
    return Sample(features, sample.label[inside])


def distances(
    simulated: Sample, real: Sample, features: Iterable[str] = dataset_features(extended=False)
) -> list[Distance]:
    """Compares features in both classes, missing values left out; least likely ones first."""
    found = []
    for label, name in CLASSES.items():
        for feature in features:
            columns = [
                sample.features[feature][sample.label == label] for sample in (simulated, real)
            ]
            first, second = (column[~np.isnan(column)] for column in columns)
            if min(len(first), len(second)) > 0:
                test = ks_2samp(first, second)
                pair = (float(test.statistic), float(test.pvalue))
                found.append(Distance(feature, name, *pair, len(first), len(second)))
    return sorted(found, key=lambda entry: entry.p_value)


def boosting() -> HistGradientBoostingClassifier:
    """The classifier of all comparisons; small, because the real sample is."""
    return HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=15, class_weight="balanced", random_state=0
    )


def cross_validated_auc(first: Floats, second: Floats, repeats: int) -> Auc:
    """How well two samples, shapes (N, F) and (M, F), can be told apart."""
    features = np.concatenate([first, second])
    label = np.repeat([0, 1], [len(first), len(second)])
    folds = RepeatedStratifiedKFold(n_splits=N_FOLDS, n_repeats=repeats, random_state=0)
    with threadpool_limits(1):
        aucs = cross_val_score(boosting(), features, label, scoring="roc_auc", cv=folds)
    return Auc(float(aucs.mean()), float(aucs.std(ddof=1)), len(first), len(second))


def told_apart(simulated: Sample, real: Sample, repeats: int) -> dict[str, Auc]:
    """Cross-validated AUC of simulated against real events of each class, on all features."""
    names = dataset_features(extended=False)
    return {
        name: cross_validated_auc(
            simulated.matrix(names, label), real.matrix(names, label), repeats
        )
        for label, name in CLASSES.items()
        if (simulated.label == label).sum() >= N_FOLDS
    }


def transfer(simulated: Sample, real: Sample, repeats: int) -> dict[str, dict[str, float]]:
    """Signal-background AUC on the real events, trained on simulation and on real events."""
    found: dict[str, dict[str, float]] = {}
    for selection in FEATURE_SETS:
        names = feature_names(selection)
        own = cross_validated_auc(
            real.matrix(names, BACKGROUND), real.matrix(names, SIGNAL), repeats
        )
        with threadpool_limits(1):
            classifier = boosting().fit(simulated.matrix(names), simulated.label)
            score = classifier.decision_function(real.matrix(names))
        found[selection] = {
            "trained_on_simulation": float(roc_auc_score(real.label, score)),
            "trained_on_real": own.mean,
            "trained_on_real_spread": own.spread,
        }
    return found


def simulated_sample(config: Config, folder: Path, *, detector: bool) -> Sample:
    """Generates labelled events, with detector or without."""
    overrides = ["simulate.blackbox=0", f"simulate.detector.enabled={str(detector).lower()}"]
    output = folder / ("detector" if detector else "plain")
    simulate(override_config(config, overrides), output)
    return load_sample([output / RND_FILE], config.preprocess)


def plot(entries: list[Distance], simulated: Sample, real: Sample, path: Path) -> None:
    """Draws the features that differ most significantly."""
    mpl.use("agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 (after the backend is chosen)

    codes = {name: label for label, name in CLASSES.items()}
    figure, axes = plt.subplots(2, 4, figsize=(16, 7), layout="constrained")
    for axis, entry in zip(axes.flat, entries, strict=False):
        columns = [
            sample.features[entry.feature][sample.label == codes[entry.label]]
            for sample in (simulated, real)
        ]
        columns = [column[~np.isnan(column)] for column in columns]
        edges = np.histogram_bin_edges(np.concatenate(columns), bins=25)
        for column, name in zip(columns, ("simulated", "real"), strict=True):
            axis.hist(column, bins=edges, density=True, histtype="step", label=name)
        axis.set_xlabel(FEATURES[entry.feature].axis_label, fontsize=8)
        axis.set_title(f"{entry.label}, KS {entry.distance:.3f}", fontsize=9)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def distance_table(title: str, entries: list[Distance], features: Iterable[str]) -> list[str]:
    """One line a feature, both classes side by side."""
    by_place = {(entry.feature, entry.label): entry for entry in entries}
    lines = [f"| {title} | background: KS (p; N sim, real) | signal: KS (p; N sim, real) |"]
    lines.append("|---|---|---|")
    for feature in features:
        cells = [by_place.get((feature, name)) for name in CLASSES.values()]
        texts = [
            f"{c.distance:.3f} ({c.p_value:.2g}; {c.n_simulated}, {c.n_real})" if c else "-"
            for c in cells
        ]
        lines.append(f"| {feature} | {' | '.join(texts)} |")
    return [*lines, ""]


def auc_tables(
    aucs: Mapping[str, Mapping[str, Auc]], transfers: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """How well samples can be told apart, and how well training carries over."""
    lines = ["| simulated against real | AUC | spread over folds | N sim | N real |"]
    lines.append("|---|---|---|---|---|")
    for sample, classes in aucs.items():
        for name, auc in classes.items():
            cells = f"{auc.mean:.3f} | {auc.spread:.3f} | {auc.n_first} | {auc.n_second}"
            lines.append(f"| {name}, {sample} | {cells} |")
    lines += [
        "",
        "| features | AUC on real events, trained on simulation | trained on real events |",
    ]
    lines.append("|---|---|---|")
    for selection, found in transfers.items():
        own = f"{found['trained_on_real']:.3f} +- {found['trained_on_real_spread']:.3f}"
        lines.append(f"| {selection} | {found['trained_on_simulation']:.3f} | {own} |")
    return lines


def reference_data() -> Path:
    """The folder of real samples, where the tests look for it."""
    named = os.environ.get("HEPLLM_REFERENCE_DATA")
    return Path(named) if named else Path(__file__).parents[3] / "shared" / "data"


def _file(**options: bool) -> click.Path:
    return click.Path(dir_okay=False, path_type=Path, **options)


@click.command(help=__doc__)
@click.option("--simulated", type=_file(exists=True), multiple=True, help="Labelled LHCO file.")
@click.option("--real", type=_file(exists=True), help="Real R&D events.")
@click.option(
    "--cathode",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of CATHODE's features.",
)
@click.option("--config", "config_file", type=_file(exists=True), help="Configuration.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override.")
@click.option(
    "--events", default=6000, show_default=True, help="Events to simulate, a third signal."
)
@click.option("--repeats", default=4, show_default=True, help="Repeats of the 5-fold validation.")
@click.option("--plain/--no-plain", default=True, help="Also without the detector.")
@click.option("--json", "json_file", type=_file(), help="Write all numbers here.")
@click.option("--plot", "plot_file", type=_file(), help="Draw the worst features here.")
def main(
    *,
    simulated: tuple[Path, ...],
    real: Path | None,
    cathode: Path | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    events: int,
    repeats: int,
    plain: bool,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Compares simulated with real events."""
    configure_logging()
    try:
        size = [f"simulate.rnd={events}", "simulate.signal_fraction=0.333333"]
        config = load_config(config_file, [*size, *overrides])
        real_sample = load_sample([real or reference_data() / REAL_FILE], config.preprocess)
        with tempfile.TemporaryDirectory() as folder:
            sample = (
                load_sample(list(simulated), config.preprocess)
                if simulated
                else simulated_sample(config, Path(folder), detector=True)
            )
            aucs = {"with detector": told_apart(sample, real_sample, repeats)}
            if plain:
                without = simulated_sample(config, Path(folder), detector=False)
                aucs["plain Pythia"] = told_apart(without, real_sample, repeats)
    except HepllmError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    entries = distances(sample, real_sample)
    transfers = transfer(sample, real_sample, repeats)
    lines = distance_table("feature", entries, dataset_features(extended=False))
    cathode = cathode or reference_data() / CATHODE_FOLDER
    window: list[Distance] = []
    if cathode.is_dir():
        window = distances(in_window(sample), load_cathode(cathode), CATHODE_COLUMNS)
        lines += distance_table("3300 < m_jj < 3700, CATHODE", window, CATHODE_COLUMNS)
    click.echo("\n".join([*lines, *auc_tables(aucs, transfers)]))
    if json_file:
        document = {
            "distances": [asdict(entry) for entry in entries],
            "distances_in_window": [asdict(entry) for entry in window],
            "simulated_against_real": {
                name: {label: asdict(auc) for label, auc in classes.items()}
                for name, classes in aucs.items()
            },
            "signal_against_background_on_real": transfers,
        }
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if plot_file:
        plot(entries, sample, real_sample, plot_file)


if __name__ == "__main__":
    main()
