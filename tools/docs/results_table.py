"""Prints metrics.json files as one Markdown table, for docs/results.md.

python tools/docs/results_table.py build/demo/runs/*/eval/*/metrics.json
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

_HEADER = ("run", "set", "N_s", "N_b", "classifier", "AUC", "SIC at 0.5 (N_b)", "max SIC (N_b)")


def _quantity(value: float | None, interval: list[float] | None, digits: int) -> str:
    if value is None:
        return "-"
    between = f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else ""
    return f"{value:.{digits}f}{between}"


def _sic(result: Mapping[str, Any], key: str) -> str:
    count = result[f"{key}_n_background_passing"]
    text = _quantity(result[key], result[f"{key}_interval"], 1)
    return text if count is None else f"{text} ({count})"


def _rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    results = {"llm": metrics, **metrics["baselines"], **metrics["ablation"]}
    for name, result in results.items():
        yield (
            metrics["run"],
            metrics["sample"],
            str(result["n_signal"]),
            str(result["n_background"]),
            name,
            _quantity(result["auc"], result["auc_interval"], 3),
            _sic(result, "sic_at_0.5"),
            _sic(result, "max_sic"),
        )
    for name in metrics["baselines"]:
        auc = metrics["paired"][name]["auc"]
        between = [auc["low"], auc["high"]] if auc["low"] is not None else None
        label = f"llm - {name}"
        difference = _quantity(auc["estimate"], between, 3)
        yield (metrics["run"], metrics["sample"], "", "", label, difference, "", "")


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
def main(files: tuple[Path, ...]) -> None:
    """Prints the metrics.json FILES as one Markdown table."""
    click.echo("| " + " | ".join(_HEADER) + " |")
    click.echo("|" + "---|" * len(_HEADER))
    for file in files:
        for row in _rows(json.loads(file.read_text(encoding="utf-8"))):
            click.echo("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
