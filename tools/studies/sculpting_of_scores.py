r"""Sculpting of scores that other studies have kept: of particles, and of hypotheses in words.

python tools/studies/sculpting_of_scores.py particles build/particles \
    --mean "particles-scaled + extended"
python tools/studies/sculpting_of_scores.py words --train build/grid --held build/held \
    --run runs/f1 --run runs/f2 --run runs/f3 --scores build/words/scores \
    --peer boosting_differences

`particles` reads the scores of tools/studies/particles.py. `words` reads those that
tools/studies/hypotheses.py has kept beneath its --output, and scores what is missing: each signal
of --held is a hypothesis for the same background. Peers are trained anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from hypothesis_cases import Classifier, RunClassifier, Training, canonical, cases_of, fit_peer
from particles import BOOSTINGS, kept_scores
from sculpting import Measured, means_over, numbers_of, over_seeds, shown

from hepllm.data.dataset import read_dataset
from hepllm.runs.folder import open_run
from hepllm.schema import BACKGROUND, feature_names

_HEAD = (
    "SIC(eps_S = 0.5) | SIC(eps_B = 0.01) | SIC(eps_B = 0.001) | JS, eps_B = 0.1 | power | "
    "JS, 0.01 | power | excess factor | rank correlation |"
)


@click.group()
def main() -> None:
    """Measures sculpting of kept scores."""


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--mean", "means", multiple=True, help="As for `particles.py table`.")
@click.option("--set", "name", default="test", show_default=True)
def particles(folder: Path, means: Sequence[str], name: str) -> None:
    """Prints the sculpting of each classifier of tools/studies/particles.py, over its seeds."""
    truth = dict(np.load(folder / f"{name}.npz", allow_pickle=False))
    is_signal = truth["label"] == 1
    kept = {file.stem.rpartition("-")[0] for file in folder.glob("*-[0-9]*.npz")}
    click.echo(f"| classifier | trainings | {_HEAD}\n|" + "---|" * 11)
    for case in [*sorted(kept, key=lambda one: (one not in BOOSTINGS, one)), *means]:
        scores = kept_scores(folder, case, name)
        rows = [
            numbers_of(truth["m_jj"][~is_signal], score[~is_signal], score[is_signal], seed)
            for seed, score in enumerate(scores)
        ]
        _print(f"`{case}` | {len(rows)}", rows)


@main.command()
@click.option("--train", "train_folder", type=Path, required=True)
@click.option("--held", type=Path, required=True)
@click.option("--run", "runs", type=Path, multiple=True, help="Trainings of one recipe.")
@click.option("--scores", type=Path, required=True, help="Folder of kept scores.")
@click.option("--peer", "peers", multiple=True)
@click.option("--own", default=1500, show_default=True, help="As for hypotheses.py.")
@click.option("--test-background", default=50_000, show_default=True)
@click.option("--balance", default="1:1", show_default=True)
@click.option("--open-share", default=0.2, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Trainings of each peer.")
@click.option("--each", is_flag=True, help="Also a row for each hypothesis.")
def words(
    *,
    train_folder: Path,
    held: Path,
    runs: Sequence[Path],
    scores: Path,
    peers: Sequence[str],
    own: int,
    test_background: int,
    balance: str,
    open_share: float,
    seeds: int,
    each: bool,
) -> None:
    """Prints the sculpting under the hypothesis of each signal, and its mean over them."""
    dataset, names = read_dataset(train_folder), feature_names("search")
    test, with_masses = (dataset.load(of, "test") for of in (names, (*names, "m_jj")))
    chosen = np.flatnonzero(test.label == BACKGROUND)[:test_background]
    m_jj = with_masses.column("m_jj")[chosen]
    cases = cases_of(held, test.take(chosen), own)
    classifiers: dict[str, list[Classifier]] = {}
    if runs:
        classifiers["llm"] = [RunClassifier(open_run(run), scores / run.name) for run in runs]
    if peers:
        training = Training.of(dataset, names, balance, 1)
    for peer in peers:
        classifiers[peer] = [
            fit_peer(peer, training, seed, open_share) for seed in range(1, seeds + 1)
        ]
    click.echo(f"| classifier | trainings | m_X, m_Y | {_HEAD}\n|" + "---|" * 12)
    for label, trained in classifiers.items():
        by_case: list[list[list[Measured]]] = []
        for case in cases:
            stated = canonical(case.signal)
            by_case.append(
                [
                    numbers_of(m_jj, score(case.background, stated), score(case.events, stated), k)
                    for k, score in enumerate(trained)
                ]
            )
            if each:
                masses = "{:.0f}, {:.0f}".format(*case.signal.masses)
                _print(f"{label} | {len(trained)} | {masses}", by_case[-1])
        _print(f"{label} | {len(trained)} | mean", means_over(by_case))


def _print(name: str, rows: Sequence[Sequence[Measured]]) -> None:
    cells = [shown(over_seeds(list(values))) for values in zip(*rows, strict=True)]
    click.echo(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
