"""Tells in three sentences what a search found: the excess, its masses beside the truth, a report.

python tools/studies/tell_search.py runs/demo/eval/unknown/submission.json --truth TRUTH --key KEY \
    --report PAGE                                           # the end of pipelines/demo.sh

The search read a box without a key; the truth comes from the files of the simulation, here only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from hepllm.search.measurements import Measurement
from hepllm.search.records import Submission


def found_sentence(found: Submission) -> str:
    """What was found, with its p-value."""
    relation = "<=" if found.n_toys_exceeding == 0 else "="
    p_value = f"p {relation} {found.p_value:.2g}"
    if found.significance_global is not None:
        bound = "at least " if found.n_toys_exceeding == 0 else ""
        p_value += f", {bound}{found.significance_global:.1f} sigma with all trials"
    box = f"the box without its key ({found.blackbox.name}, {found.n_events} events)"
    if not found.is_excess:
        return f"Nothing was found in {box}: its largest fluctuation has {p_value}."
    number = "" if found.n_signal_box is None else f" of {found.n_signal_box.value:.0f} events"
    return f"A resonance{number} was found in {box}: {p_value}."


def mass_sentence(found: Submission, point: dict[str, Any], n_signal: int) -> str:
    """The measured masses, or where none was found, the limits, beside the truth."""
    heavy, light = sorted((point["m_x"], point["m_y"]), reverse=True)
    truth = (
        f"{n_signal} signal events of a {point['m_zprime']:.0f} GeV particle that decays to one of "
        f"{heavy:.0f} and one of {light:.0f} GeV"
    )
    if not found.is_excess:
        return f"It holds {truth}."
    jets = found.jet_masses_gev
    measured = ", ".join(
        f"{name} {_value(value)} (truth {true:.0f})"
        for name, value, true in (
            (found.mass, found.resonance_mass_gev, point["m_zprime"]),
            ("heavy jet", jets.heavy, heavy),
            ("light jet", jets.light, light),
        )
    )
    return f"Its masses in GeV, 68 % errors: {measured}; the box holds {truth}."


def _value(found: Measurement | None) -> str:
    return "not measured" if found is None else str(found)


@click.command()
@click.argument("submission", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--truth", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--key", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--report", type=click.Path(exists=True, path_type=Path), required=True)
def main(submission: Path, truth: Path, key: Path, report: Path) -> None:
    """Tells what SUBMISSION found."""
    found = Submission.read(submission, "evaluate again")
    (point,) = json.loads(truth.read_text(encoding="utf-8"))["points"]
    n_signal = sum(float(line) == 1 for line in key.read_text(encoding="utf-8").split())
    click.echo(found_sentence(found))
    click.echo(mass_sentence(found, point, n_signal))
    click.echo(
        f"The pictures are in {report.resolve()}, one page for a browser, and as files in "
        f"{submission.resolve().parent}."
    )


if __name__ == "__main__":
    main()
