"""What the review list of an audit finds: wrong labels and copies that were planted.

hepllm preprocess .../cathode/innerdata_*.npy --output build/cathode --config configs/cathode.yaml
python tools/studies/planted_faults.py find --dataset build/cathode --output build/planted
python tools/studies/planted_faults.py table --output build/planted

For each seed, 29,700 labelled events are drawn, both classes in equal numbers, 5 % of 30,000 get
the other label, and 300 rows are added that are equal to others: a file that `hepllm preprocess`
reads. A training of the adapter alone (and a few steps of a tiny language model, as a run has some)
records what it believed, and `hepllm audit` ranks the events. Its priority is compared with the
loss of the last epoch, the boosting of the audit alone, and with --cleanlab (pip install cleanlab)
the label quality of cleanlab, from a boosting with the defaults of scikit-learn in five folds.

`find` keeps a file per seed and goes on where it was stopped; `table` writes the tables.
--first-seed 101 gives other seeds, to look at combinations (with --keep).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from hepllm.cartography.dynamics import read_dynamics
from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events, read_notes
from hepllm.evaluation.efficiency import efficiency
from hepllm.runs.audited_run import keyed
from hepllm.schema import CATHODE_FEATURES
from hepllm.stages.audit import audit_dataset
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

N_EVENTS, N_COPIES, FLIPPED, FOLDS = 30_000, 300, 0.05, 5
CONFIDENCE = 0.95

_COLUMNS = ("m_jj", *CATHODE_FEATURES)

_SETTINGS = (
    *("backbone.name=tiny-random", "backbone.device=cpu", "backbone.dtype=float32"),
    *("preprocess.executor=serial", "preprocess.label=5", "preprocess.energy_unit=GeV"),
    *(f"preprocess.columns.{name}={place}" for place, name in enumerate(_COLUMNS)),
    # Nearly all events are for training: those that are not have no map.
    *("preprocess.splits.train=0.98", "preprocess.splits.val=0.01", "preprocess.splits.test=0.01"),
    *("train.features=cathode", "train.threads=1", "train.dynamics=true", "train.balance=natural"),
    *("train.nfa_alone.epochs=10", "train.nfa_alone.batch_size=512", "train.epochs=0.02"),
    *("train.validation_events=100", "train.final_validation_events=200"),
    *("fusion.hidden_size=64", "train.hypothesis.enabled=false"),
    *("audit.workers=1", "audit.examples=0"),
)


@dataclass(frozen=True, eq=False)
class Planted:
    """What was planted in the rows of a file, shape (N,) each.

    Attributes:
        is_flipped: rows with the other label.
        is_copy: rows that are equal to an earlier one.
    """

    is_flipped: Bools
    is_copy: Bools


def config_of(seed: int) -> Config:
    """Settings of the preprocessing, the training and the audit of a seed."""
    return load_config(None, [*_SETTINGS, f"seed={seed}"])


def plant(dataset: Path, seed: int, file: Path) -> Planted:
    """Writes a file with wrong labels and copies, in the order of the drawn events."""
    whole = read_dataset(dataset).load(_COLUMNS)
    random = np.random.default_rng([seed, 8])
    n_drawn = N_EVENTS - N_COPIES
    # An event that is there twice already would be a copy that nobody planted.
    distinct = np.zeros(len(whole), dtype=np.bool_)
    distinct[np.unique(whole.event_digest, return_index=True)[1]] = True
    rows = np.concatenate(
        [
            random.choice(np.flatnonzero(distinct & (whole.label == one)), n_drawn // 2, False)
            for one in (0, 1)
        ]
    )
    random.shuffle(rows)
    is_flipped = np.zeros(n_drawn, dtype=np.bool_)
    is_flipped[random.choice(n_drawn, round(FLIPPED * N_EVENTS), replace=False)] = True
    label = np.where(is_flipped, 1 - whole.label[rows], whole.label[rows])
    table = np.column_stack([whole.features[rows], label])
    again = random.choice(n_drawn, N_COPIES, replace=False)
    np.save(file, np.concatenate([table, table[again]]))
    is_copy = np.arange(N_EVENTS) >= n_drawn
    return Planted(np.concatenate([is_flipped, is_flipped[again]]), is_copy)


def last_loss(run: Path, table: EventTable) -> Floats:
    """Loss of the last epoch that showed each event; NaN for those that were not trained on."""
    dynamics = read_dynamics(run, "")
    last = np.full(len(dynamics.label), np.nan)
    for column in dynamics.parts["adapter"].margin.T.astype(np.float64):
        last = np.where(np.isnan(column), last, column)
    rows = find_events(
        keyed(table.event_digest, table.label), keyed(dynamics.event_digest, dynamics.label)
    )
    return np.where(rows < 0, np.nan, np.logaddexp(0.0, -last[rows]))


def cleanlab_rankings(table: EventTable, seed: int) -> dict[str, Floats]:
    """Suspicion by cleanlab, from a boosting in five folds."""
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415 (an optional peer)

    boosting = HistGradientBoostingClassifier(random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    probability = cross_val_predict(
        boosting, table.features, table.label, cv=folds, method="predict_proba"
    )
    label = table.label.astype(int)
    return {
        f"cleanlab {name}": -get_label_quality_scores(
            label, probability, method=name, adjust_pred_probs=False
        )
        for name in ("self_confidence", "normalized_margin")
    }


def study(dataset: Path, seed: int, folder: Path, *, cleanlab: bool) -> dict[str, object]:
    """Plants, trains, audits and measures."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_of(seed)
    planted = plant(dataset, seed, folder / "planted.npy")
    preprocess([folder / "planted.npy"], folder / "planted", config, overwrite=True)
    train(folder / "planted", folder / "run", config, overwrite=True)
    audit_dataset(folder / "planted", [folder / "run"], config, folder / "audit")
    table = read_dataset(folder / "planted").load(CATHODE_FEATURES)
    if not np.array_equal(table.event_id, np.arange(N_EVENTS)):
        raise ValueError("the dataset has other rows than the file")
    audited = read_notes(folder / "audit" / "audit.parquet", "")
    found = {
        "priority of the audit": audited.column("priority"),
        "loss of the last epoch": last_loss(folder / "run", table),
        "boosting of the audit": -audited.column("boosting_margin"),
        "late margin of the training": -audited.column("late_margin_run"),
        "doubt of the audit": audited.column("doubt"),
    }
    if cleanlab:
        found |= cleanlab_rankings(table, seed)
    is_trained = ~np.isnan(found["loss of the last epoch"])
    listed = pq.read_table(folder / "audit" / "review.parquet", columns=["row"])["row"].to_numpy()
    on_list = np.zeros(N_EVENTS, dtype=np.bool_)
    on_list[listed] = True
    return {
        "rankings": {name: measure(one, planted, is_trained) for name, one in found.items()},
        "n_events": int(is_trained.sum()),
        "n_copies": int(planted.is_copy.sum()),
        "copies_flagged": int((audited.column("same_event") & planted.is_copy).sum()),
        "copies_on_list": int((on_list & planted.is_copy).sum()),
        "flagged_without_copy": int(unplanted_copies(table, audited.column("same_event"), planted)),
        "on_list": {"flipped": int((on_list & planted.is_flipped).sum()), "all": len(listed)},
    }


def unplanted_copies(table: EventTable, flagged: Bools, planted: Planted) -> int:
    """Events that are flagged as equal to another, and are neither a planted copy nor its model."""
    concerned = np.isin(table.event_digest, table.event_digest[planted.is_copy])
    return int((flagged & ~concerned).sum())


def measure(values: Floats, planted: Planted, judged: Bools) -> dict[str, float]:
    """AUROC and precision at 5 %, of wrong labels alone and of all that was planted."""
    alone = judged & ~planted.is_copy
    either = planted.is_flipped | planted.is_copy
    n_top = round(FLIPPED * int(judged.sum()))
    top = np.flatnonzero(judged)[np.argsort(-values[judged], kind="stable")[:n_top]]
    n_alone = round(FLIPPED * int(alone.sum()))
    top_alone = np.flatnonzero(alone)[np.argsort(-values[alone], kind="stable")[:n_alone]]
    return {
        "auroc_labels": float(roc_auc_score(planted.is_flipped[alone], values[alone])),
        "precision_labels": float(planted.is_flipped[top_alone].mean()),
        "auroc_all": float(roc_auc_score(either[judged], values[judged])),
        "precision_all": float(either[top].mean()),
    }


@click.group()
def main() -> None:
    """Studies the review list of an audit."""


@main.command()
@click.option("--dataset", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--seeds", type=int, default=10)
@click.option("--first-seed", type=int, default=1)
@click.option("--cleanlab", is_flag=True, help="Compare with cleanlab, which must be installed.")
@click.option("--keep", is_flag=True, help="Keep datasets, runs and audits.")
def find(
    dataset: Path, output: Path, seeds: int, first_seed: int, *, cleanlab: bool, keep: bool
) -> None:
    """Plants wrong labels and copies, and looks for them."""
    for seed in range(first_seed, first_seed + seeds):
        file, folder = output / f"found-{seed}.json", output / f"seed-{seed}"
        if file.exists():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        result = study(dataset, seed, folder, cleanlab=cleanlab)
        file.write_text(json.dumps(result, indent=1))
        click.echo(f"seed {seed}: {result['rankings']}", err=True)
        if not keep:
            shutil.rmtree(folder)


def _cell(values: Floats, digits: int, sign: str = "") -> str:
    """Mean over the seeds with its 95 % interval by Student's t."""
    number, mean = len(values), values.mean()
    half = student.ppf((1 + CONFIDENCE) / 2, number - 1) * values.std(ddof=1) / np.sqrt(number)
    form = f"{{:{sign}.{digits}f}}"
    return "{} [{}, {}]".format(*(form.format(one) for one in (mean, mean - half, mean + half)))


@main.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
def table(output: Path) -> None:
    """Writes the tables."""
    found = [json.loads(file.read_text()) for file in sorted(output.glob("found-*.json"))]
    names, ours = list(found[0]["rankings"]), "priority of the audit"

    def column(name: str, key: str) -> Floats:
        return np.array([one["rankings"][name][key] for one in found])

    click.echo(f"{len(found)} seeds, {N_EVENTS} events, {[one['n_events'] for one in found]} known")
    for what in ("labels", "all"):
        click.echo(f"\n| ranking ({what}) | AUROC | ours minus this | precision at 5 % | ours |")
        click.echo("|---|---|---|---|---|")
        for name in names:
            cells = [name]
            for key, digits in ((f"auroc_{what}", 4), (f"precision_{what}", 3)):
                cells.append(_cell(column(name, key), digits))
                difference = column(ours, key) - column(name, key)
                cells.append("-" if name == ours else _cell(difference, digits, "+"))
            click.echo(f"| {' | '.join(cells)} |")
    click.echo("")
    for key in ("copies_flagged", "copies_on_list"):
        _tell_share(key, found)
    click.echo(f"flagged without a copy: {[one['flagged_without_copy'] for one in found]}")


def _tell_share(key: str, found: list[Mapping[str, int]]) -> None:
    n_found, n_all = (sum(one[name] for one in found) for name in (key, "n_copies"))
    rate = efficiency(np.arange(n_all) < n_found, np.ones(n_all), CONFIDENCE)
    click.echo(f"{key}: {n_found} of {n_all}, interval {rate and rate.interval}")


if __name__ == "__main__":
    main()
