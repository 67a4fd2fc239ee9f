"""Weak supervision on CATHODE's features: SIC of idealised, CATHODE-like and CWoLa classifiers.

python tools/studies/cathode_weak.py run .../cathode OUTPUT      # trainings; goes on where it ended
python tools/studies/cathode_weak.py table OUTPUT                # tables of weak-cathode.md
python tools/studies/cathode_weak.py picture OUTPUT FILE.png     # max SIC against S/B
python tools/studies/cathode_weak.py closure .../cathode OUTPUT  # templates against background

The background of the published signal region (3300 to 3700 GeV) is divided into folds. In each,
classifiers are tested on its background and trained on that of the others. An injection tests all
folds, joined at equal background efficiency, or fewer (--each), from one that moves on with it.

idealised    half of the training background is the data, the other half the template
search       the same events, for the ensemble of `hepllm search --weak` in place of the study's own
half         the same data; the template is drawn from p(x | m_jj) of the other half, by a flow
gap          all of it is data; the flow is trained on 3300-3400 and 3600-3700 GeV, and interpolated
             into 3400-3600 GeV, where two thirds of the signal are
density      all of it is data, and all of it trains the flow: nothing is interpolated
cwola        all of it is data; 3400-3600 GeV against the rest, both sides with equal weight
supervised   signal against background, with labels: the ceiling

Signal is mixed into the data at a fraction of its background, in all of 3300 to 3700 GeV. It does
not train the flow, as next to none of it is in the sidebands of the paper.
The files have no events outside of the signal region: sidebands as in the paper cannot be made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from hepllm.baselines.scorer import TrainingSample
from hepllm.files import write_aside
from hepllm.logs import configure_logging, progress_bar
from hepllm.weak.bins import FeatureBins
from hepllm.weak.density import fit_density
from hepllm.weak.ensemble import fit_ensemble
from hepllm.weak.flow import FlowSettings

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
PATH = click.Path(path_type=Path, exists=True, file_okay=False)

FEATURES = ("mass_light", "mass_difference", "tau21_light", "tau21_heavy")
"""Columns 1 to 4 of the files."""

PUBLISHED = {
    ("idealised", 0.006): 15.1,
    ("gap", 0.006): 14.0,
    ("cwola", 0.006): 10.8,
    ("idealised", 0.003): 6.6,
    ("gap", 0.003): 5.5,
    ("cwola", 0.003): 2.6,
}
"""Hallin et al., arXiv:2109.00546; those at 0.3 % are read off a figure."""

PUBLISHED_DATA = 59_618
PUBLISHED_SIGNAL = {0.006: 382.0, 0.003: 191.0}
PUBLISHED_TEMPLATE = {"idealised": 136_429, "gap": 200_000}
"""Events of a training there: means of innerdata_train and innerdata_val; templates as its code
makes them (run_data_preparation_LHCORD.py; --cf_n_samples 400000, half of which validates)."""

DRAWN = {
    "idealised": ("idealised", "#0072B2"),
    "gap": ("CATHODE-like (gap)", "#D55E00"),
    "cwola": ("CWoLa", "#009E73"),
}
"""Labels and colours of the picture."""

LEARNT = ("half", "gap", "density")
"""Methods whose template is drawn from a flow."""

HALVED = ("idealised", "search", "half")
"""Methods whose template is, or is learnt from, background that the data do not have."""

OVERSAMPLING = 2
DRAWN_SHARE = 0.7
"""Share of the training events that each member is trained on."""
FLOW = FlowSettings(transforms=2, max_epochs=15, batch=512)
N_TEST_SIGNAL = 10_000
ENOUGH = 25
"""Background events that pass a cut of joined injections at least: 20 % uncertainty of eps_B."""

AS_DEEP = 10
"""Those of 119,236 that make the eps_B of 25 of the 340,000 that the paper tests."""

DEEPEST = 2000
"""Background events of a fold up to which curves are kept."""


class Gap(NamedTuple):
    """The middle of the signal region in GeV, where the signal is."""

    low: float = 3400.0
    high: float = 3600.0


@dataclass(frozen=True, eq=False)
class Pool:
    """All events: (N, 4) features, m_jj (N,) in GeV."""

    background: Floats
    background_m: Floats
    signal: Floats
    signal_m: Floats


class Part(NamedTuple):
    """A fold of a division of the background."""

    partition: int
    fold: int
    folds: int


class Share(NamedTuple):
    """The background of one fold: indices of test, data and template events."""

    test: NDArray[np.int64]
    data: NDArray[np.int64]
    template: NDArray[np.int64]


class Training(NamedTuple):
    """Events of a classifier; label 1 for what may have signal."""

    features: Floats
    label: NDArray[np.int64]
    weight: Floats


def read_pool(folder: Path) -> Pool:
    """Reads the four files; masses become GeV."""
    rows = np.concatenate([np.load(one) for one in sorted(folder.glob("innerdata_*.npy"))])
    is_signal = rows[:, 5] == 1
    features, m_jj = rows[:, 1:5] * [1000, 1000, 1, 1], rows[:, 0] * 1000
    return Pool(features[~is_signal], m_jj[~is_signal], features[is_signal], m_jj[is_signal])


def share_of(pool: Pool, part: Part) -> Share:
    """Divides the background; the partition draws the folds, and which half is data."""
    order = np.random.default_rng([part.partition, 1]).permutation(len(pool.background))
    parts = np.array_split(order, part.folds)
    rest = np.concatenate([events for fold, events in enumerate(parts) if fold != part.fold])
    rest = np.random.default_rng([part.partition, 2, part.fold]).permutation(rest)
    half = len(rest) // 2
    return Share(parts[part.fold], rest[:half], rest[half:])


def balanced(signal_like: Floats, background_like: Floats, weight: Floats | None) -> Training:
    """Two samples with equal sums of weights."""
    weight = np.ones(len(background_like)) if weight is None else weight
    scale = len(signal_like) / weight.sum()
    return Training(
        np.concatenate([signal_like, background_like]),
        np.repeat([1, 0], [len(signal_like), len(background_like)]),
        np.concatenate([np.ones(len(signal_like)), weight * scale]),
    )


def training_of(
    method: str, pool: Pool, share: Share, chosen: NDArray[np.int64], template: Floats | None
) -> Training:
    """The events that a classifier of this method is trained on; ``chosen`` are mixed in."""
    rows = share.data if method in HALVED else np.concatenate([share.data, share.template])
    if method == "supervised":
        return balanced(pool.signal[chosen], pool.background[rows], None)
    data = np.concatenate([pool.background[rows], pool.signal[chosen]])
    if method in ("idealised", "search"):
        return balanced(data, pool.background[share.template], None)
    if template is not None:
        return balanced(data, template, None)
    m_jj = np.concatenate([pool.background_m[rows], pool.signal_m[chosen]])
    below, above = m_jj < Gap().low, m_jj >= Gap().high
    inside = ~(below | above)
    weight = np.where(below, 1 / below.sum(), 1 / above.sum())[~inside]
    return balanced(data[inside], data[~inside], weight)


def n_injected(method: str, fraction: float, share: Share) -> int:
    """Signal events among the training data: a fraction of its background."""
    if method == "supervised":
        return 20_000
    n_data = len(share.data) + (0 if method in HALVED else len(share.template))
    return round(fraction * n_data)


def boosting(seed: int, **changes: float) -> HistGradientBoostingClassifier:
    """One member of an ensemble.

    Of seven settings these had the largest ARGOS, with an injection that the study has not.
    """
    settings = {"learning_rate": 0.1, "max_leaf_nodes": 31, "max_iter": 60, "min_samples_leaf": 150}
    return HistGradientBoostingClassifier(
        **{**settings, **changes}, early_stopping=False, random_state=seed
    )


def ensemble_scores(training: Training, members: int, seed: int, *tested: Floats) -> list[Floats]:
    """Mean probability over members, each trained on a part of the events, drawn at random."""
    # Bins of scikit-learn's own take four times as long as the trees.
    bins = FeatureBins.of(training.features)
    features, tested = bins.codes(training.features), tuple(bins.codes(one) for one in tested)
    n_drawn = round(DRAWN_SHARE * len(training.label))
    totals = [np.zeros(len(one)) for one in tested]
    for member in range(members):
        generator = np.random.default_rng([seed, member])
        drawn = generator.permutation(len(training.label))[:n_drawn]
        model = boosting(member).fit(features[drawn], training.label[drawn], training.weight[drawn])
        for total, events in zip(totals, tested, strict=True):
            np.add(total, model.predict_proba(events)[:, 1], out=total)
    return [total / members for total in totals]


def search_scores(training: Training, members: int, seed: int, *tested: Floats) -> list[Floats]:
    """Scores of the ensemble that searches without labels use."""
    sample = TrainingSample(
        training.features, FEATURES, training.label, weight=training.weight, seed=seed
    )
    ensemble = fit_ensemble(sample, "boosting", members)
    return [ensemble.score(one) for one in tested]


def signal_above(background: Floats, signal: Floats) -> Floats:
    """eps_S of the cuts that the k highest background events of a fold pass, k = 1 to DEEPEST."""
    cuts = np.sort(background)[::-1][:DEEPEST]
    return 1 - np.searchsorted(np.sort(signal), cuts, side="left") / len(signal)


def template_of(pool: Pool, method: str, part: Part, output: Path) -> Floats:
    """Draws the template of a fold, or reads it where it was drawn before."""
    path = output / f"template-{method}-{part.partition}-{part.fold}-of-{part.folds}.npy"
    if not path.exists():
        share = share_of(pool, part)
        drawn = draw_template(pool, method, share, seed=100 * part.partition + part.fold)
        with write_aside(path) as aside, aside.open("wb") as stream:
            np.save(stream, drawn, allow_pickle=False)
    return np.load(path, allow_pickle=False)


def draw_template(pool: Pool, method: str, share: Share, seed: int) -> Floats:
    """Trains the flow and draws as many events as the data have, times the oversampling."""
    rows = learnt_from(pool, method, share)
    density = fit_density(pool.background[rows], pool.background_m[rows], seed, FLOW)
    return density.sample(template_masses(pool, method, share, seed), seed)


def learnt_from(pool: Pool, method: str, share: Share) -> NDArray[np.int64]:
    """Background events that train the flow."""
    if method == "half":
        return share.template
    rows = np.concatenate([share.data, share.template])
    m_jj = pool.background_m[rows]
    return rows if method == "density" else rows[~in_gap(m_jj)]


def template_masses(pool: Pool, method: str, share: Share, seed: int) -> Floats:
    """m_jj of the events of a template, as the background has it."""
    count = len(share.data) if method in HALVED else len(share.data) + len(share.template)
    known = pool.background_m[np.concatenate([share.data, share.template])]
    return np.random.default_rng(seed).choice(known, OVERSAMPLING * count)


@click.group()
def main() -> None:
    """Measures weak supervision on CATHODE's features."""
    configure_logging()
    threadpool_limits(1)  # of boostings as quick as these, threads only wait for one another


@main.command()
@click.argument("source", type=PATH)
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--methods", default="idealised,gap,density,cwola,half,supervised", show_default=True)
@click.option("--fractions", default="0.006,0.003,0.001", show_default=True)
@click.option("--injections", default=10, show_default=True)
@click.option("--partitions", default=1, show_default=True, help="divisions of the background")
@click.option("--folds", default=10, show_default=True)
@click.option("--each", default=10, show_default=True, help="folds that an injection tests")
@click.option("--members", default=10, show_default=True)
def run(source: Path, output: Path, **options: Any) -> None:
    """Trains and tests; one line of OUTPUT/units.jsonl for each fold of each injection."""
    output.mkdir(parents=True, exist_ok=True)
    pool = read_pool(source)
    known = {name: options[name] for name in ("folds", "members", "partitions")}
    units: list[dict[str, Any]] = [
        {"method": method, "fraction": float(fraction), "injection": injection, "fold": fold}
        for fraction in options["fractions"].split(",")
        for injection in range(options["injections"])
        for method in options["methods"].split(",")
        for fold in folds_of(injection, options["each"], options["folds"])
    ]
    # The ceiling has no fraction.
    units = [one for one in units if one["method"] != "supervised" or one["fraction"] == 0.006]
    done = {key_of(line) for line in read_units(output)}
    units = [one | known for one in units if key_of(one | known) not in done]
    with progress_bar(len(units), "trainings", "folds") as bar:
        for unit in units:
            line = unit | {"eps_s": test_unit(pool, unit, output)}
            with (output / "units.jsonl").open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            bar.update()


def folds_of(injection: int, each: int, folds: int) -> list[int]:
    """The folds that an injection tests."""
    return [(injection + number) % folds for number in range(each)]


def test_unit(pool: Pool, unit: dict[str, Any], output: Path) -> list[float]:
    """Trains one fold of one injection and returns eps_S at its k highest background events."""
    method, injection, fold = unit["method"], unit["injection"], unit["fold"]
    part = Part(injection % unit["partitions"], fold, unit["folds"])
    share = share_of(pool, part)
    order = np.random.default_rng([injection, 5, fold]).permutation(len(pool.signal))
    count = n_injected(method, unit["fraction"], share)
    template = template_of(pool, method, part, output) if method in LEARNT else None
    training = training_of(method, pool, share, order[:count], template)
    tested = pool.background[share.test], pool.signal[order[-N_TEST_SIGNAL:]]
    scores = search_scores if method == "search" else ensemble_scores
    found = scores(training, unit["members"], 1000 * injection + fold, *tested)
    return [round(float(one), 5) for one in signal_above(*found)]


def key_of(line: dict[str, Any]) -> tuple[object, ...]:
    """What identifies a unit."""
    names = ("method", "fraction", "injection", "fold", "folds", "members", "partitions")
    return tuple(line[name] for name in names)


def read_units(output: Path) -> list[dict[str, Any]]:
    """The units that are done."""
    path = output / "units.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@dataclass(frozen=True, eq=False)
class Curve:
    """eps_S at rising numbers of background events, of one injection or of several together.

    Attributes:
        eps_s: (K,).
        eps_b: (K,).
        n_background: (K,) distinct background events that pass.
    """

    eps_s: Floats
    eps_b: Floats
    n_background: NDArray[np.int64]

    @classmethod
    def joined(cls, units: list[dict[str, Any]], n_background: int) -> Curve:
        """Joins units at equal background efficiency."""
        eps_s = np.mean([one["eps_s"] for one in units], axis=0)
        passing = np.arange(1, len(eps_s) + 1)
        distinct = len({one["fold"] for one in units})
        eps_b = passing * units[0]["folds"] / n_background
        return cls(eps_s, eps_b, passing * distinct)

    @property
    def sic(self) -> Floats:
        """SIC (K,)."""
        return self.eps_s / np.sqrt(self.eps_b)

    def best(self, at_least: int) -> int:
        """The point of the largest SIC where so many background events pass."""
        return int(np.argmax(np.where(self.n_background >= at_least, self.sic, -np.inf)))

    def sic_at(self, eps_b: float) -> float:
        """SIC at a background efficiency."""
        return float(np.interp(eps_b, self.eps_b, self.eps_s) / np.sqrt(eps_b))


Found = dict[tuple[str, float], list[list[dict[str, Any]]]]


def injections_of(output: Path) -> Found:
    """The units of each injection, by method and fraction of signal."""
    found: dict[tuple[str, float], dict[int, list[dict[str, Any]]]] = {}
    for line in read_units(output):
        key = str(line["method"]), float(line["fraction"])
        found.setdefault(key, {}).setdefault(line["injection"], []).append(line)
    return {key: list(by_injection.values()) for key, by_injection in found.items()}


class Joined(NamedTuple):
    """The maximum SIC of the mean curve of the injections.

    ``low`` to ``high`` is the 68 % interval of ``jackknife_interval``.
    """

    sic: float
    low: float
    high: float
    eps_s: float
    eps_b: float


def joined_maximum(
    injections: list[list[dict[str, Any]]], background: int, enough: int = ENOUGH
) -> Joined:
    """Joins all injections, where together so many distinct background events pass at least."""
    together = Curve.joined([one for units in injections for one in units], background)
    single = np.array([Curve.joined(units, background).eps_s for units in injections])
    is_open = together.n_background >= enough
    low, high = jackknife_interval(single[:, is_open] / np.sqrt(together.eps_b[is_open]))
    best = together.best(enough)
    return Joined(
        float(together.sic[best]),
        low,
        high,
        float(together.eps_s[best]),
        float(together.eps_b[best]),
    )


def jackknife_interval(curves: Floats) -> tuple[float, float]:
    """The 68 % interval of the maximum of the mean of curves, for other injections.

    The standard error is the jackknife's, by leaving one injection out at a time, and the quantile
    Student's. Percentiles of draws with repeats are too narrow for ten injections
    (tools/studies/cathode_coverage.py).

    Args:
        curves: shape (I, K), of I injections; NaN for fewer than two.
    """
    n = len(curves)
    value = float(curves.mean(axis=0).max())
    if n < 2:
        return np.nan, np.nan
    without_one = ((curves.sum(axis=0) - curves) / (n - 1)).max(axis=1)
    error = np.sqrt((n - 1) * without_one.var())
    half = float(student_t.ppf(0.84, n - 1) * error)
    return value - half, value + half


def strength_of(method: str, fraction: float, folds: int, background: int) -> float:
    """S over the fluctuation of data minus template in a training, for a perfect template.

    NaN for methods that have none: what CWoLa compares depends on the sidebands.
    """
    trained = background * (1 - 1 / folds)
    if method in ("idealised", "search"):
        return strength(fraction * trained / 2, trained / 2, trained / 2)
    if method == "gap":
        return strength(fraction * trained, trained, OVERSAMPLING * trained)
    return float("nan")


def strength(signal: float, data: float, template: float) -> float:
    """S / sqrt(B_d (1 + B_d / B_t)): the template counts as scaled to the data's background."""
    return float(signal / np.sqrt(data * (1 + data / template)))


def published_at(method: str, found: float) -> float:
    """The published maximum SIC at a strength, on the line through both points; NaN outside."""
    template = PUBLISHED_TEMPLATE.get(method)
    if template is None:
        return float("nan")
    shares = sorted(PUBLISHED_SIGNAL)
    known = [strength(PUBLISHED_SIGNAL[one], PUBLISHED_DATA, template) for one in shares]
    values = [PUBLISHED[method, one] for one in shares]
    return float(np.interp(found, known, values, np.nan, np.nan))


def spread(values: list[float]) -> str:
    """Median and 16-84 % band."""
    low, median, high = np.percentile(values, [16, 50, 84])
    return f"{median:.1f} [{low:.1f}, {high:.1f}]"


def number_or_dash(value: float, digits: int) -> str:
    """A number; a dash for NaN."""
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


@main.command()
@click.argument("output", type=PATH)
@click.option("--background", default=119_236, show_default=True)
def table(output: Path, background: int) -> None:
    """Prints medians and 16-84 % bands over injections, and those of all injections joined."""
    click.echo(
        "| S/B | method | injections | folds of each | SIC at eps_B = 1e-3 | max SIC, N_b >= 1 | "
        "joined: max SIC, N_b >= 25 | at eps_S, eps_B | N_b >= 10 | S / noise | "
        f"published at this S/B | at this S / noise |\n|{'---|' * 12}"
    )
    for (method, fraction), injections in sorted(injections_of(output).items(), reverse=True):
        single = [Curve.joined(units, background) for units in injections]
        together = joined_maximum(injections, background)
        deep = joined_maximum(injections, background, AS_DEEP)
        found = strength_of(method, fraction, injections[0][0]["folds"], background)
        cells = (
            "-" if method == "supervised" else f"{fraction:.2%}",
            method,
            str(len(single)),
            "-".join(map(str, sorted({len(units) for units in injections}))),
            spread([one.sic_at(1e-3) for one in single]),
            spread([float(one.sic[one.best(1)]) for one in single]),
            f"{together.sic:.1f} [{together.low:.1f}, {together.high:.1f}]",
            f"{together.eps_s:.2f}, {together.eps_b:.1e}",
            f"{deep.sic:.1f} [{deep.low:.1f}, {deep.high:.1f}]",
            number_or_dash(found, 2),
            str(PUBLISHED.get((method, fraction), "-")),
            number_or_dash(published_at(method, found), 1),
        )
        click.echo(f"| {' | '.join(cells)} |")
    for line in differences(output, background):
        click.echo(line)


def differences(output: Path, background: int) -> list[str]:
    """How far the study's own ensemble is above that of searches, for the same trainings."""
    read = {
        (line["method"], line["fraction"], line["injection"], line["fold"]): Curve.joined(
            [line], background
        ).sic_at(1e-3)
        for line in read_units(output)
    }
    found: dict[float, list[float]] = {}
    for (method, *where), value in read.items():
        other = read.get(("search", *where))
        if method == "idealised" and other is not None:
            found.setdefault(where[0], []).append(value - other)
    lines = []
    for fraction, values in sorted(found.items()):
        if len(values) > 1:
            error = np.std(values, ddof=1) / np.sqrt(len(values))
            lines.append(
                f"S/B {fraction:.2%}, SIC at eps_B = 1e-3, idealised minus search: "
                f"{np.mean(values):+.2f} ± {error:.2f}, above 0 in {np.sum(np.array(values) > 0)} "
                f"of {len(values)}"
            )
    return lines


@main.command()
@click.argument("output", type=PATH)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--background", default=119_236, show_default=True)
def picture(output: Path, file: Path, background: int) -> None:
    """Draws the maximum SIC of joined injections against S/B, beside the published ones."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(6.4, 4.4), dpi=130, layout="constrained")
    axes = figure.subplots()
    found = injections_of(output)
    for method, (label, colour) in DRAWN.items():
        fractions = sorted(share for name, share in found if name == method)
        if not fractions:
            continue
        joined = [joined_maximum(found[method, share], background) for share in fractions]
        percent = 100 * np.array(fractions)
        low, high = [one.low for one in joined], [one.high for one in joined]
        axes.fill_between(percent, low, high, color=colour, alpha=0.2)
        axes.plot(percent, [one.sic for one in joined], "o-", color=colour, label=label)
        known = [100 * share for name, share in PUBLISHED if name == method]
        values = [value for (name, _), value in PUBLISHED.items() if name == method]
        axes.plot(known, values, "*", color=colour, markersize=11, markeredgecolor="0.2")
    axes.plot([], [], "*", color="0.6", markersize=11, markeredgecolor="0.2", label="published")
    axes.set(xlabel="signal over background in the data [%]", ylabel="maximum SIC", ylim=(0, None))
    axes.legend(fontsize=9, title="injections joined, 68 %", title_fontsize=9)
    figure.savefig(file)


@main.command()
@click.argument("source", type=PATH)
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--methods", default="half,gap,density", show_default=True)
@click.option("--folds", default=10, show_default=True)
def closure(source: Path, output: Path, methods: str, folds: int) -> None:
    """Prints the AUC of a boosting of template against background that made neither."""
    output.mkdir(parents=True, exist_ok=True)
    pool = read_pool(source)
    click.echo("| template | AUC, 3300-3700 | 3400-3600 | data, 3300-3700 | data, 3400-3600 |")
    click.echo("|---|---|---|---|---|")
    for method in ("idealised", *methods.split(","), "outer"):
        found = [closure_of(pool, method, fold, folds, output) for fold in range(folds)]
        mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(folds)
        cells = [f"{one:.4f} ± {by:.4f}" for one, by in zip(mean, error, strict=True)]
        click.echo(f"| {method} | {' | '.join(cells)} |")


def closure_of(pool: Pool, method: str, fold: int, folds: int, output: Path) -> list[float]:
    """AUC against background that made nothing, and against that which the classifiers see.

    Both in the whole region and in the gap; ``outer`` are true events beside the gap.
    """
    part = Part(0, fold, folds)
    share = share_of(pool, part)
    if method in LEARNT:
        made = template_of(pool, method, part, output)
        masses = template_masses(pool, method, share, seed=fold)
    else:
        rows = share.template
        if method == "outer":
            rows = rows[~in_gap(pool.background_m[rows])]
        made, masses = pool.background[rows], pool.background_m[rows]
    found = []
    for rows in (share.test, share.data[: len(share.test)]):
        truth, inside = pool.background[rows], in_gap(pool.background_m[rows])
        in_middle = made if method == "outer" else made[in_gap(masses)]
        found += [auc_between(truth, made), auc_between(truth[inside], in_middle)]
    return found


def in_gap(m_jj: Floats) -> Bools:
    """Which events are in the middle of the signal region."""
    return (m_jj >= Gap().low) & (m_jj < Gap().high)


def auc_between(truth: Floats, made: Floats) -> float:
    """AUC on one half of the events of a boosting that was trained on the other."""
    training = balanced(truth[::2], made[::2], None)
    model = boosting(1).fit(training.features, training.label, training.weight)
    held_out = np.concatenate([truth[1::2], made[1::2]])
    label = np.repeat([1, 0], [len(truth[1::2]), len(made[1::2])])
    return float(roc_auc_score(label, model.predict_proba(held_out)[:, 1]))


if __name__ == "__main__":
    main()
