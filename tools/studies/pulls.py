"""Pulls and coverage of masses and signal events that a search finds in boxes.

python tools/studies/pulls.py make BOXES --background DATASET --cache build/response --seed 31
python tools/studies/pulls.py search BOXES --json found.json
python tools/studies/pulls.py table found.json

``make`` draws mass points and the signal events of each box with the seed and writes them down
(``truth.json``) before anything is searched; ``--classifier one`` trains the boosting on signal of
3500, 500 and 100 GeV alone, and ``--simulation`` makes the signal of the boxes in another way.
``search`` uses the code that 'hepllm search' uses, without labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from response import (
    DOMAIN,
    NAMES,
    Sample,
    joined,
    masked,
    matrix,
    train,
    with_masses,
)
from signal_points import VARIATIONS, Domain, Floats, signal_of

from hepllm.baselines.boosting import Boosting
from hepllm.config import Config, SearchConfig
from hepllm.data.dataset import read_dataset
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.schema import SIGNAL
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import search
from hepllm.search.measurements import Measurement
from hepllm.search.records import EXCESS_P
from hepllm.search.signal_grid import SignalGrid
from hepllm.search.submission import findings_of

STUDY = Domain((3000, 6000), (150, 800), (60, 500), 0.16, 1.2)
N_TRAINING = 60_000
"""First background events of the dataset, for the classifier; boxes are drawn from the rest."""

ONE_POINT = np.array([3500.0, 500.0, 100.0])
CLASSIFIERS = ("grid", "one")
QUANTITIES = ("m_jj", "heavy", "light", "selected", "box")
PATH = click.Path(path_type=Path)


@click.group()
def main() -> None:
    """Pulls and coverage of masses and signal events that a search finds in boxes."""


@main.command()
@click.argument("boxes", type=PATH)
@click.option("--background", type=PATH, required=True, help="Dataset of background events.")
@click.option("--cache", type=PATH, required=True, help="Simulated events, as of response.py.")
@click.option("--classifier", type=click.Choice(CLASSIFIERS), default="grid")
@click.option("--simulation", type=click.Choice([*VARIATIONS]), default="nominal")
@click.option("--points", default=12, show_default=True, help="Mass points.")
@click.option("--each", default=5, show_default=True, help="Boxes of a mass point.")
@click.option("--grid-points", default=130, show_default=True, help="As for response.py.")
@click.option("--seed", type=int, required=True)
def make(
    boxes: Path,
    *,
    background: Path,
    cache: Path,
    classifier: str,
    simulation: str,
    points: int,
    each: int,
    grid_points: int,
    seed: int,
) -> None:
    """Draws boxes of 20,000 to 30,000 background events, and 100 to 400 of signal."""
    random = np.random.default_rng([seed, 52])
    masses = STUDY.draw(points, seed)
    numbers = np.round(np.exp(random.uniform(np.log(100), np.log(400), (points, each)))).astype(int)
    boxes.mkdir(parents=True)
    truth = {"seed": seed, "simulation": simulation, "classifier": classifier}
    truth |= {"masses": masses.tolist(), "signal": numbers.tolist()}
    (boxes / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    scorer, grid, pool = scorer_of(classifier, background, cache, grid_points)
    _save_grid(boxes, scorer.score, grid)
    pool["score"] = scorer.score(matrix(pool))
    begin = 2_000_000 + 1000 * seed + 100_000 * list(VARIATIONS).index(simulation)
    for number, point in enumerate(masses):
        n_signal = int(numbers[number].sum())
        signal = dict(signal_of(point, n_signal, begin + number, simulation, cache))
        signal["score"] = scorer.score(matrix(signal))
        parts = np.split(np.arange(n_signal), np.cumsum(numbers[number])[:-1])
        for place, rows in enumerate(parts):
            drawn = random.choice(len(pool["m_jj"]), random.integers(20_000, 30_001), replace=False)
            _save_box(boxes / f"box-{number:02d}-{place}.npz", pool, drawn, signal, rows)


def scorer_of(
    classifier: str, background: Path, cache: Path, grid_points: int
) -> tuple[Boosting, Sample, Sample]:
    """A boosting, and the signal of the grid and the background that it was not trained on."""
    grid = [
        with_masses(
            signal_of(one, 300, 11_000 + number, "nominal", cache, groomed=True), one, number
        )
        for number, one in enumerate(DOMAIN.draw(grid_points, 11))
    ]
    pool = _pool(background)
    first = np.arange(len(pool["m_jj"])) < N_TRAINING
    known = joined(grid[::2])
    if classifier == "one":
        known = signal_of(ONE_POINT, 3000, 1_000, "nominal", cache)
    return train(known, masked(pool, first), seed=1), joined(grid[1::2]), masked(pool, ~first)


@main.command()
@click.argument("dataset", type=PATH)
@click.option("--masses", nargs=3, type=float, required=True, help="Z', heavy, light in GeV.")
@click.option("--background", type=PATH, required=True, help="As for make.")
@click.option("--cache", type=PATH, required=True, help="As for make.")
@click.option("--grid-points", default=130, show_default=True)
@click.option("--toys", default=10_000, show_default=True)
def one(
    dataset: Path,
    *,
    masses: tuple[float, float, float],
    background: Path,
    cache: Path,
    grid_points: int,
    toys: int,
) -> None:
    """Searches a labelled dataset as a box, with both classifiers of make."""
    config = Config().evaluation.search.model_copy(update={"toys": 1000, "max_toys": toys})
    box = _pool(dataset)
    is_signal = read_dataset(dataset).load(()).label == SIGNAL
    light, difference = box["jet_mass_light"], box["jet_mass_delta"]
    for classifier in CLASSIFIERS:
        scorer, grid, _ = scorer_of(classifier, background, cache, grid_points)
        score = scorer.score(matrix(box))
        events = BoxEvents(score, box["m_jj"], light, light + difference)
        signals = signals_of({**grid, "score": scorer.score(matrix(grid))})
        found = searched(events, is_signal, masses, config, signals)
        click.echo(f"{dataset.name}, {classifier}: p = {found['p']:.2g}, kept {found['kept']:g}")
        for name in QUANTITIES:
            if found[name] is not None:
                measured = Measurement.model_validate(found[name])
                click.echo(f"| {name} | {found[name]['true']:g} | {measured} |")


def _pool(folder: Path) -> Sample:
    names = tuple(dict.fromkeys((*NAMES, "m_jj", "jet_mass_light", "jet_mass_delta")))
    table = read_dataset(folder).load(names)
    return {name: np.asarray(table.column(name), dtype=np.float64) for name in names}


def _save_grid(folder: Path, score: Any, grid: Sample) -> None:
    names = ("m_jj", "jet_mass_light", "jet_mass_delta", "true_m", "true_heavy", "true_light")
    np.savez(folder / "grid.npz", score=score(matrix(grid)), **{one: grid[one] for one in names})


def _save_box(file: Path, pool: Sample, drawn: Floats, signal: Sample, rows: Floats) -> None:
    names = ("score", "m_jj", "jet_mass_light", "jet_mass_delta")
    columns = {one: np.concatenate([pool[one][drawn], signal[one][rows]]) for one in names}
    is_signal = np.arange(len(drawn) + len(rows)) >= len(drawn)
    np.savez_compressed(file, is_signal=is_signal, **columns)


def box_events(file: Path) -> tuple[BoxEvents, np.ndarray]:
    """The events of a box, and which of them are signal."""
    with np.load(file, allow_pickle=False) as kept:
        box = {name: kept[name] for name in kept.files}
    light = box["jet_mass_light"]
    heavy = light + box["jet_mass_delta"]
    return BoxEvents(box["score"], box["m_jj"], light, heavy), box["is_signal"]


@main.command("search")
@click.argument("boxes", type=PATH)
@click.option("--json", "file", type=PATH, required=True, help="What is found.")
@click.option("--toys", default=1000, show_default=True)
def search_boxes(boxes: Path, *, file: Path, toys: int) -> None:
    """Searches all boxes."""
    truth = json.loads((boxes / "truth.json").read_text(encoding="utf-8"))
    config = Config().evaluation.search.model_copy(update={"toys": toys, "max_toys": toys})
    grid = grid_of(boxes)
    rows = []
    for number, masses in enumerate(truth["masses"]):
        for place, n_signal in enumerate(truth["signal"][number]):
            events, is_signal = box_events(boxes / f"box-{number:02d}-{place}.npz")
            rows.append(searched(events, is_signal, masses, config, grid))
            found = rows[-1]
            shown = ", ".join(
                f"{name} {found[name]['value']:.0f} (true {found[name]['true']:.0f})"
                for name in QUANTITIES
                if found[name] is not None
            )
            click.echo(f"{number} {place}: {n_signal} of signal, p {found['p']:.2g}: {shown}")
            file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def searched(
    events: BoxEvents,
    is_signal: Any,
    masses: Sequence[float],
    config: SearchConfig,
    grid: SignalGrid,
) -> dict[str, Any]:
    """What is found in a box, beside the truth."""
    result = search(events, config, 1)
    findings = findings_of(result, None, grid=grid)
    low, high = findings.m_jj_range_gev
    passes = (events.score > result.chosen.cut.threshold) & (events.m_jj >= low)
    true = {
        "m_jj": masses[0],
        "heavy": masses[1],
        "light": masses[2],
        "selected": int((is_signal & passes & (events.m_jj < high)).sum()),
        "box": int(is_signal.sum()),
    }
    measured = {
        "m_jj": findings.resonance_mass_gev,
        "heavy": findings.jet_masses_gev.heavy,
        "light": findings.jet_masses_gev.light,
        "selected": findings.n_signal_selected,
        "box": findings.n_signal_box,
    }
    row = {name: _row(measured[name], true[name]) for name in QUANTITIES}
    return {"p": findings.p_value, "kept": findings.best_selection, **row}


def grid_of(boxes: Path) -> SignalGrid:
    """The signals of the grid that the classifier was not trained on."""
    with np.load(boxes / "grid.npz", allow_pickle=False) as kept:
        return signals_of({name: kept[name] for name in kept.files})


def signals_of(grid: Sample) -> SignalGrid:
    """Scored signal of known masses, as the search takes it."""
    masses = np.stack([grid[name] for name in ("true_m", "true_heavy", "true_light")], axis=1)
    points, counts = np.unique(masses, axis=0, return_counts=True)
    return SignalGrid(
        score=grid["score"],
        m_jj=grid["m_jj"],
        masses=masses,
        points=points,
        triggering=counts,
        generated=counts,
        description="the grid",
    )


def _row(found: Measurement | None, true: float) -> dict[str, Any] | None:
    return None if found is None else {**found.tree(), "true": true}


@main.command()
@click.argument("files", type=PATH, nargs=-1, required=True)
def table(files: Sequence[Path]) -> None:
    """Prints pulls and coverage of the boxes with an excess."""
    click.echo("| boxes | quantity | N | mean pull | rms | covered, statistical | covered |")
    click.echo("|---|---|---|---|---|---|---|")
    for file in files:
        rows = json.loads(file.read_text(encoding="utf-8"))
        excesses = [one for one in rows if one["p"] < EXCESS_P]
        for name in QUANTITIES:
            found = [one[name] for one in excesses if one[name] is not None]
            if found:
                click.echo(f"| {file.stem} | {name} | {_cells(found)} |")
        click.echo(f"{file.stem}: {len(excesses)} of {len(rows)} boxes have an excess", err=True)


MODEL_ERRORS = ("simulation", "selections")
"""Systematic errors for what boxes of the same simulation do not have."""


def _cells(found: Sequence[dict[str, Any]]) -> str:
    without, with_all = (
        np.array([_pull(one, left_out) for one in found]) for left_out in (MODEL_ERRORS, ())
    )
    n = len(found)
    shares = [_share(int((np.abs(pulls) <= 1).sum()), n) for pulls in (without, with_all)]
    error = without.std(ddof=1) / np.sqrt(n)
    mean, rms = without.mean(), np.sqrt(np.square(without).mean())
    return f"{n} | {mean:+.2f} +- {error:.2f} | {rms:.2f} | {shares[0]} | {shares[1]}"


def _pull(found: dict[str, Any], left_out: Sequence[str]) -> float:
    distance = found["value"] - found["true"]
    errors = found.get("systematics", {})
    systematic = [value for name, value in errors.items() if name not in left_out]
    side = found["below"] if distance > 0 else found["above"]
    return float(distance / np.hypot(side, np.linalg.norm(systematic)))


def _share(k: int, n: int) -> str:
    low, high = clopper_pearson(k, n, 0.68)
    return f"{k / n:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
