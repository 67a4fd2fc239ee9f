"""Tables and the picture of what few_labels.py has measured.

    python tools/studies/few_labels_tables.py build/few-labels/results.jsonl --picture few.png

Medians over the seeds and their central 68 % (the whole range of three seeds or fewer).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hepllm.pictures.style import COLOURS, line_style, save_figure, wide_canvas

NAMES = {
    "supervised": "adapter, labels alone",
    "mixture": "adapter + risk, mixture",
    "split": "adapter + risk, split",
    "posterior": "adapter + posterior penalty",
    "self-confident": "self-training, confident band",
    "self-middle": "self-training, middle band",
    "boosting": "boosting",
    "mlp": "MLP",
    "model": "language model, labels alone",
}
Result = Mapping[str, Any]


def band(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the central 68 % of the seeds."""
    low, middle, high = np.quantile(values, (0.16, 0.5, 0.84) if len(values) > 3 else (0, 0.5, 1))
    return float(low), float(middle), float(high)


def cell(values: Sequence[float]) -> str:
    """A band with its number of seeds."""
    low, middle, high = band(values)
    return (
        f"{middle:.3f} [{low:.3f}, {high:.3f}] ({len(values)})"
        if len(values) > 1
        else (f"{middle:.3f} (1)")
    )


def table(results: Iterable[Result], by: str, key: str = "auc") -> list[str]:
    """A row per method, a column per value of ``by``."""
    cells: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in results:
        if key in one:
            cells[one["job"]["method"]][one["job"][by]].append(one[key])
    columns = sorted({column for row in cells.values() for column in row})
    lines = ["| " + " | ".join(["", *(f"{column:g}" for column in columns)]) + " |"]
    lines.append("|" + "---|" * (len(columns) + 1))
    for method, name in NAMES.items():
        if method in cells:
            row = [cell(cells[method][one]) if cells[method][one] else "-" for one in columns]
            lines.append(f"| {name} | {' | '.join(row)} |")
    return lines


def draw(results: Sequence[Result], file: Path) -> None:
    """AUC by number of labels, a band per classifier."""
    figure, axes = wide_canvas("20,000 events without labels, 10 % signal", "simulation")
    present = {one["job"]["method"] for one in results}
    shown = {method: name for method, name in NAMES.items() if method in present}
    for place, (method, name) in enumerate(shown.items()):
        found: dict[int, list[float]] = defaultdict(list)
        for one in results:
            if one["job"]["method"] == method:
                found[one["job"]["n_labels"]].append(one["auc"])
        numbers = sorted(found)
        low, middle, high = np.array([band(found[one]) for one in numbers]).T
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(numbers, middle, color=colour, linestyle=line_style(place), label=name)
        axes.fill_between(numbers, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel="labelled events", ylabel="AUC of the test")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    save_figure(figure, file)


def main() -> None:
    """Prints the tables and draws the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    results = [json.loads(line) for line in given.results.read_text().splitlines()]
    parts = {
        part: [one for one in results if one["job"]["part"] == part]
        for part in ("labels", "weight", "prior", "shift")
    }
    for name, key, title in (
        ("labels", "auc", "AUC by number of labels"),
        ("labels", "eps_b", "eps_B at eps_S = 0.5 by number of labels"),
        ("labels", "risk_mixture", "risk of the pool by the mixture over the labelled one"),
        ("labels", "risk_split", "risk of the pool by the split over the labelled one"),
        ("shift", "auc", "AUC in another simulation, by number of labels here"),
    ):
        print(f"\n## {title}\n", *table(parts[name], "n_labels", key), sep="\n")
    few = {one["job"]["n_labels"] for one in parts["weight"]}
    alike = [one for one in parts["labels"] if one["job"]["n_labels"] in few]
    risks = [one for one in alike if one["job"]["method"] in ("mixture", "split", "posterior")]
    print("\n## AUC by weight\n", *table([*parts["weight"], *risks], "weight"), sep="\n")
    print("\n## AUC by stated prior\n", *table([*parts["prior"], *risks], "prior"), sep="\n")
    if given.picture:
        draw(parts["labels"], given.picture)


if __name__ == "__main__":
    main()
