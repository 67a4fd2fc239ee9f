"""Determines the response of masses that the search uses, from simulated signal.

python tools/studies/response.py --cache build/response --output hepllm/search/response.json

Simulates signal of mass points drawn at random, as it is and with other settings (no detector,
multiparton interactions, other showers), and background. A boosting of half of the mass points and
half of the background scores the rest, and the other way round; events above the cut at --eps-b
determine the response. The tables compare shapes of m_jj, and jet masses with and without grooming.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest, norm
from signal_points import VARIATIONS, Domain, Floats, background_of, signal_of

from hepllm.baselines.boosting import Boosting, fit_boosting
from hepllm.baselines.scorer import TrainingSample
from hepllm.schema import feature_names
from hepllm.search.response import Response, ShapeModel, SimulatedSample, jet_terms, m_jj_terms
from hepllm.search.response_fit import (
    SignalEvents,
    fit_differences,
    fit_interpolation,
    fit_jets,
    fit_m_jj,
    fit_selection,
)

DOMAIN = Domain((2600, 8000), (80, 1200), (40, 1000), 0.25, 1.0)
FITTED_SHARE, FITTED_LIGHT = 0.2, 45.0
"""Largest m_heavy over m_zprime, and least m_light in GeV, of the points that are fitted."""

TESTED = Domain((3000, 6000), (150, 800), (60, 500), 0.16, 1.2)
"""Mass points at which the preferences of a classifier are measured."""

CUTS = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Shares of the background that these cuts keep."""

NAMES = feature_names("search")
Sample = dict[str, Floats]


def matrix(sample: Sample) -> Floats:
    """The features of a classifier, shape (N, F)."""
    return np.stack([sample[name] for name in NAMES], axis=1)


def train(signal: Sample, background: Sample, seed: int) -> Boosting:
    """A boosting of signal and background, with equal weights of both classes."""
    features = np.concatenate([matrix(signal), matrix(background)])
    n_signal, n_background = len(signal["m_jj"]), len(background["m_jj"])
    label = np.repeat(np.array([1, 0], dtype=np.int8), [n_signal, n_background])
    weight = np.where(label == 1, n_background / n_signal, 1.0)
    return fit_boosting(TrainingSample(features, NAMES, label, weight, seed))


def joined(samples: list[Sample]) -> Sample:
    """All events of several samples."""
    return {name: np.concatenate([one[name] for one in samples]) for name in samples[0]}


def masked(sample: Sample, mask: NDArray[np.bool_]) -> Sample:
    """The events of a mask."""
    return {name: values[mask] for name, values in sample.items()}


def with_masses(sample: Sample, point: Floats, number: int) -> Sample:
    """The sample with the true masses and the number of its mass point."""
    n = len(sample["m_jj"])
    true = dict(zip(("true_m", "true_heavy", "true_light"), point, strict=True))
    more = {name: np.full(n, value) for name, value in true.items()}
    return {**sample, **more, "point": np.full(n, float(number))}


def events_of(sample: Sample, *, groomed: bool = False) -> SignalEvents:
    """The masses of a sample that a response is fitted to."""
    light = sample["jet_mass_light"]
    heavy = light + sample["jet_mass_delta"]
    if groomed:
        both = [sample["jet1_softdrop_mass"], sample["jet2_softdrop_mass"]]
        light, heavy = np.minimum(*both), np.maximum(*both)
    return SignalEvents(
        sample["m_jj"], light, heavy, sample["true_m"], sample["true_light"], sample["true_heavy"]
    )


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """Two boostings, each with the cut on the half that it was not trained on."""

    halves: list[tuple[Boosting, float]]

    @classmethod
    def of(cls, signal: Sample, background: Sample, eps_b: float, seed: int) -> CrossFitted:
        """Trains on the even points and tests on the odd ones, and the other way round."""
        odd = np.arange(len(background["m_jj"])) % 2 == 1
        halves = []
        for tested in (False, True):
            trained = (signal["point"] % 2 == 1) != tested
            boosting = train(masked(signal, trained), masked(background, odd != tested), seed)
            scores = boosting.score(matrix(masked(background, odd == tested)))
            halves.append((boosting, float(np.quantile(scores, 1 - eps_b))))
        return cls(halves)

    def at(self, eps_b: float, background: Sample) -> CrossFitted:
        """The same boostings with another cut; the background is that of ``of``."""
        odd = np.arange(len(background["m_jj"])) % 2 == 1
        halves = []
        for tested, (boosting, _) in enumerate(self.halves):
            scores = boosting.score(matrix(masked(background, odd == bool(tested))))
            halves.append((boosting, float(np.quantile(scores, 1 - eps_b))))
        return CrossFitted(halves)

    def passing(self, sample: Sample) -> Sample:
        """The events that pass the cut, and whose masses are fitted."""
        passes = np.zeros(len(sample["m_jj"]), dtype=bool)
        for tested, (boosting, threshold) in enumerate(self.halves):
            mine = sample["point"] % 2 == tested
            if mine.any():
                passes[mine] = boosting.score(matrix(masked(sample, mine))) > threshold
        passes &= sample["true_heavy"] < FITTED_SHARE * sample["true_m"]
        return masked(sample, passes & (sample["true_light"] >= FITTED_LIGHT))


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), required=True, help="Simulated events.")
@click.option("--output", type=click.Path(path_type=Path), help="The record.")
@click.option("--points", default=130, show_default=True, help="Mass points.")
@click.option("--events", default=300, show_default=True, help="Events of a point.")
@click.option("--other-points", default=40, show_default=True, help="Those of other settings.")
@click.option("--other-events", default=100, show_default=True)
@click.option("--test-points", default=24, show_default=True, help="Points for the selection.")
@click.option("--test-events", default=1000, show_default=True)
@click.option("--background", "blocks", default=7, show_default=True, help="Blocks of 1,250.")
@click.option("--eps-b", default=0.03, show_default=True, help="Background that passes the cut.")
@click.option("--seed", default=11, show_default=True)
def main(
    cache: Path,
    output: Path | None,
    *,
    points: int,
    events: int,
    other_points: int,
    other_events: int,
    test_points: int,
    test_events: int,
    blocks: int,
    eps_b: float,
    seed: int,
) -> None:
    """Determines the response of masses that the search uses."""
    masses = DOMAIN.draw(points, seed)

    def simulated(variation: str, n_points: int, n_events: int) -> Sample:
        first = 1000 * seed + 100_000 * list(VARIATIONS).index(variation)
        made = [
            signal_of(point, n_events, first + number, variation, cache, groomed=True)
            for number, point in enumerate(masses[:n_points])
        ]
        return joined([with_masses(one, masses[number], number) for number, one in enumerate(made)])

    signal = simulated("nominal", points, events)
    background = background_of(range(blocks), cache)
    cuts = CrossFitted.of(signal, background, eps_b, seed)
    passing = cuts.passing(signal)
    click.echo(f"{len(passing['m_jj'])} of {len(signal['m_jj'])} signal events are fitted")
    simulated_others = {
        name: simulated(name, other_points, other_events)
        for name in VARIATIONS
        if name != "nominal"
    }
    others = {name: cuts.passing(one) for name, one in simulated_others.items()}
    whole, soft = events_of(passing), events_of(passing, groomed=True)
    m_jj = fit_interpolation("m_jj", fit_m_jj(whole), whole)
    plain = fit_interpolation("jet", fit_jets(whole), whole)
    groomed = fit_interpolation("jet", fit_jets(soft), soft)
    tests = test_samples(test_points, test_events, seed, cache)
    tighter = {cut: cuts.at(cut, background) for cut in CUTS}
    selected = {cut: [both.passing(one) for one in tests] for cut, both in tighter.items()}
    plain, groomed = (
        fit_selection(
            model,
            {cut: [events_of(one, groomed=by) for one in made] for cut, made in selected.items()},
        )
        for model, by in ((plain, False), (groomed, True))
    )
    response = Response(
        efficiency_differences=efficiency_differences(signal, passing, simulated_others, others),
        sample=SimulatedSample(
            n_points=points,
            n_events=len(passing["m_jj"]),
            eps_b=eps_b,
            m_zprime_gev=(passing["true_m"].min(), passing["true_m"].max()),
            m_jet_gev=(passing["true_light"].min(), passing["true_heavy"].max()),
            seed=seed,
        ),
        m_jj=fit_differences("m_jj", m_jj, {k: events_of(v) for k, v in others.items()}),
        jet=fit_differences("jet", plain, {k: events_of(v) for k, v in others.items()}),
        groomed_jet=fit_differences(
            "jet", groomed, {k: events_of(v, groomed=True) for k, v in others.items()}
        ),
    )
    if output is not None:
        response.write(output)
    show_shapes(passing)
    show_jets(response)
    show_differences(response)


def test_samples(n_points: int, n_events: int, seed: int, cache: Path) -> list[Sample]:
    """Signal of mass points that nothing is fitted to."""
    first = 9_000_000 + 1000 * seed
    return [
        with_masses(
            signal_of(point, n_events, first + number, "nominal", cache, groomed=True),
            point,
            number,
        )
        for number, point in enumerate(TESTED.draw(n_points, first))
    ]


def efficiency_differences(
    signal: Sample, passing: Sample, others: dict[str, Sample], others_passing: dict[str, Sample]
) -> dict[str, float]:
    """By other simulation, the logarithm of the share that passes the cut, over the nominal one.

    Counted at the same mass points.
    """
    found = {}
    for name, other in others.items():
        points = np.unique(other["point"])
        shares = [
            np.isin(kept["point"], points).sum() / np.isin(whole["point"], points).sum()
            for kept, whole in ((others_passing[name], other), (passing, signal))
        ]
        found[name] = float(np.log(shares[0] / shares[1]))
    return found


def show_shapes(passing: Sample) -> None:
    """Compares shapes of m_jj that are fitted to the even points and tested on the odd ones."""
    odd = passing["point"] % 2 == 1
    fitted, tested = masked(passing, ~odd), masked(passing, odd)
    model = fit_m_jj(events_of(fitted))
    click.echo("\n| shape of m_jj | log likelihood an event | points with KS p < 0.05 |")
    click.echo("|---|---|---|")
    known = np.log(fitted["m_jj"] / fitted["true_m"])
    core = known[np.abs(known - np.median(known)) < 0.1]
    gauss = norm(core.mean(), core.std())
    shapes = {"Gaussian, fitted to its core": [], "double-sided Crystal Ball": []}
    shapes["simulated shape of the 8 nearest points"] = []
    p_values: dict[str, list[float]] = {name: [] for name in shapes}
    for number in np.unique(tested["point"]):
        one = masked(tested, tested["point"] == number)
        if len(one["m_jj"]) < 30:
            continue
        x = np.log(one["m_jj"] / one["true_m"])
        true = [one[name][0] for name in ("true_m", "true_light", "true_heavy")]
        ball = model.at(m_jj_terms(*(np.asarray(value) for value in true)))
        template = _template(fitted, true)
        for name, (log_pdf, cdf) in zip(
            shapes, ((gauss.logpdf, gauss.cdf), (ball.log_pdf, ball.cdf), template), strict=True
        ):
            shapes[name].append(log_pdf(x))
            p_values[name].append(kstest(x, cdf).pvalue)
    for name, values in shapes.items():
        likelihood = np.concatenate(values).mean()
        bad = np.mean(np.array(p_values[name]) < 0.05)
        click.echo(f"| {name} | {likelihood:.3f} | {bad:.2f} of {len(p_values[name])} |")


def _template(fitted: Sample, true: list[float]):
    """A histogram of log(m_jj / mass) of the eight points with the most similar masses."""
    masses = np.stack([fitted[name] for name in ("true_m", "true_light", "true_heavy")], axis=1)
    points, place = np.unique(masses, axis=0, return_inverse=True)
    scale = np.array([0.3, 1.0, 0.6])
    distance = np.square((np.log(points) - np.log(true)) / scale).sum(axis=1)
    near = np.isin(place.ravel(), np.argsort(distance)[:8])
    x = np.log(fitted["m_jj"][near] / fitted["true_m"][near])
    edges = np.concatenate([[-3], np.linspace(-0.4, 0.3, 71), [2]])
    counts = np.histogram(x, edges)[0] + 0.2
    density = counts / counts.sum() / np.diff(edges)
    total = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()

    def log_pdf(at: Floats) -> Floats:
        return np.log(density[np.clip(np.searchsorted(edges, at) - 1, 0, len(density) - 1)])

    return log_pdf, lambda at: np.interp(at, edges, total)


def show_jets(response: Response) -> None:
    """Bias, resolution and stability of jet masses, with and without grooming."""
    click.echo("\n| m_zprime, m_jet [GeV] | | bias | width | other simulations |")
    click.echo("|---|---|---|---|---|")
    for m_zprime, mass in ((3500, 60), (3500, 100), (3500, 200), (3500, 500), (5000, 100)):
        for name, model in (("as it is", response.jet), ("soft drop", response.groomed_jet)):
            terms = jet_terms(np.asarray(float(mass)), np.asarray(float(m_zprime)))
            ball = model.at(terms)
            low, high = _quantiles(ball.cdf)
            click.echo(
                f"| {m_zprime}, {mass} | {name} | {float(ball.location):+.3f} | "
                f"{(high - low) / 2:.3f} | {model.location_difference(terms):.3f} |"
            )


def _quantiles(cdf) -> Floats:
    grid = np.linspace(-2, 2, 8001)
    return np.interp([0.16, 0.84], cdf(grid), grid)


def show_differences(response: Response) -> None:
    """Differences of the location between simulations, at some masses."""
    click.echo("\n| simulation | m_jj at 3500 GeV | jet of 100 GeV | jet of 500 GeV |")
    click.echo("|---|---|---|---|")
    at = [np.asarray(float(one)) for one in (3500, 100, 500)]
    terms = [m_jj_terms(*at), jet_terms(at[1], at[0]), jet_terms(at[2], at[0])]
    models: list[ShapeModel] = [response.m_jj, response.jet, response.jet]
    for name in response.m_jj.location_differences:
        cells = []
        for model, term in zip(models, terms, strict=True):
            row = np.array(model.location_differences[name])
            cells.append(f"{term[: len(row)] @ row:+.4f}")
        click.echo(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
