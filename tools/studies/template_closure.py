"""Whether a template drawn from the sidebands is the background of the region.

python tools/studies/template_closure.py BACKGROUND --region 3300 3700 --features search

BACKGROUND is a dataset without signal (hepllm simulate --output raw --rnd 120000 --blackbox 0
--signal-fraction 0, then hepllm preprocess). Half of its events make templates: from the density of
the sidebands, and, for comparison, of both sidebands with equal weight (CWoLa). A boosting that
tells each from the other half's events in the region has an AUC of 0.5 if they are the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from hepllm.arrays import Floats
from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.scorer import TrainingSample
from hepllm.data.dataset import read_dataset
from hepllm.logs import configure_logging
from hepllm.schema import feature_names
from hepllm.weak.density import fit_sidebands
from hepllm.weak.flow import FlowSettings

SIDEBAND = 0.06
"""Width of a sideband of CWoLa over its mass."""


class Region(NamedTuple):
    """A signal region in GeV."""

    low: float
    high: float


def auc_between(truth: Floats, made: Floats, weight: Floats, seed: int) -> float:
    """AUC on one half of the events of a boosting that was trained on the other."""
    features = np.concatenate([truth, made])
    label = np.repeat([1, 0], [len(truth), len(made)])
    weights = np.concatenate([np.ones(len(truth)), weight * len(truth) / weight.sum()])
    train = np.random.default_rng([seed, 2]).random(len(label)) < 0.5
    names = tuple(str(column) for column in range(features.shape[1]))
    sample = TrainingSample(features[train], names, label[train], weights[train], seed)
    score = fit_boosting(sample).score(features[~train])
    return float(roc_auc_score(label[~train], score, sample_weight=weights[~train]))


@click.command()
@click.argument("background", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--region", type=(float, float), default=(3300.0, 3700.0), show_default=True)
@click.option("--mass-range", type=(float, float), default=(2600.0, 8000.0), show_default=True)
@click.option("--features", default="search", show_default=True)
@click.option("--oversampling", default=2, show_default=True)
@click.option("--events", default=40_000, show_default=True, help="at most, for the templates")
@click.option("--epochs", default=60, show_default=True, help="at most")
@click.option("--learn-all", is_flag=True, help="learn also what follows from other features")
@click.option("--seeds", default=3, show_default=True)
def main(
    background: Path,
    region: tuple[float, float],
    mass_range: tuple[float, float],
    **options: Any,
) -> None:
    """Prints the AUC of each template against the background of the region."""
    configure_logging(0)
    threadpool_limits(1)
    names = feature_names(options["features"])
    table = read_dataset(background).load((*names, "m_jj"))
    inside = (table.features[:, -1] >= mass_range[0]) & (table.features[:, -1] < mass_range[1])
    rows, m_jj = table.features[inside][:, :-1], table.features[inside][:, -1]
    in_region = (m_jj >= region[0]) & (m_jj < region[1])
    lower = (m_jj >= region[0] / (1 + SIDEBAND)) & (m_jj < region[0])
    upper = (m_jj >= region[1]) & (m_jj < region[1] * (1 + SIDEBAND))
    found: dict[str, list[float]] = {}
    for seed in range(options["seeds"]):
        order = np.random.default_rng([seed, 1]).permutation(len(m_jj))
        making = np.zeros(len(m_jj), dtype=bool)
        making[order[: min(options["events"], len(order) // 2)]] = True
        truth = rows[~making & in_region]
        start = time.process_time()
        density = fit_sidebands(
            rows[making],
            m_jj[making],
            Region(*region),
            seed,
            FlowSettings(max_epochs=options["epochs"]),
            names=None if options["learn_all"] else names,
        )
        drawn, _ = density.sample(options["oversampling"] * len(truth), seed)
        seconds = time.process_time() - start
        beside = [making & part for part in (lower, upper)]
        weight = np.concatenate([np.full(part.sum(), 1 / part.sum()) for part in beside])
        sidebands = np.concatenate([rows[part] for part in beside])
        same = rows[making & in_region]
        for name, made, by in (
            ("density", drawn, np.ones(len(drawn))),
            ("sidebands", sidebands, weight),
            ("true background", same, np.ones(len(same))),
        ):
            found.setdefault(name, []).append(auc_between(truth, made, by, seed))
        predicted = density.spectrum.expected.sum()
        click.echo(
            f"seed {seed}: {making.sum()} events, {density.density.flow.n_epochs} "
            f"epochs, {seconds:.0f} s of CPU; {predicted:.0f} expected in the region, {len(same)} "
            "found",
            err=True,
        )
    click.echo("| template | AUC against true background |\n|---|---|")
    for name, values in found.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        click.echo(f"| {name} | {np.mean(values):.4f} ± {error:.4f} |")


if __name__ == "__main__":
    main()
