"""Tables and the picture of what few_labels.py has measured.

    python tools/studies/few_labels_tables.py build/few-labels/results.jsonl --picture few.png

Several files count as one, such as those of processes that ran beside each other. Medians over the
seeds and their central 68 % (the whole range of three seeds or fewer).
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student

from hepllm.pictures.style import COLOURS, line_style, save_figure

NAMES = {
    "supervised": "adapter, labels alone",
    "mixture": "adapter + risk, mixture",
    "split": "adapter + risk, split",
    "posterior": "adapter + posterior penalty",
    "posterior-heavy": "adapter + posterior penalty, weight 100",
    "self-confident": "self-training, confident band",
    "self-middle": "self-training, middle band",
    "boosting": "boosting",
    "mlp": "MLP",
    "model": "language model, labels alone",
    "model-heavy": "language model + posterior penalty, weight 100",
}
PANELS = {
    "labels alone": ("supervised", "model", "boosting", "mlp"),
    "with 20,000 events without labels": (
        "supervised",
        "mixture",
        "posterior-heavy",
        "self-confident",
        "self-middle",
    ),
}
"""Classifiers of each half of the picture, where the bands of all would hide each other."""

Result = Mapping[str, Any]
Value = tuple[float, float]
"""AUC, and eps_B at eps_S = 0.5."""

PRIOR = 0.1
"""The true share of signal among the unlabelled events."""


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


def pairs(results: Iterable[Result], beside: Iterable[Result] = ()) -> list[str]:
    """What each method gains over labels alone on the same events, by number of labels.

    AUC: mean difference with its standard error, and seeds that gain. eps_B at eps_S = 0.5:
    geometric mean of the ratios with its 95 % interval for other seeds (Student's t). The language
    model, which is tested on a part of the events, is compared with itself on labels alone, and
    with its own adapter.

    Args:
        results: what is compared.
        beside: further results of labels alone.
    """
    found: dict[tuple[str, int], dict[int, tuple[Value, Value]]] = defaultdict(dict)
    alone: dict[tuple[str, int], dict[int, Value]] = defaultdict(dict)
    for one in (*beside, *results):
        job, value = one["job"], (one["auc"], one["eps_b"])
        if job["method"] in ("supervised", "model"):
            alone[job["method"], job["n_labels"]][job["seed"]] = value
    lines = [
        "| method | labels | seeds | AUC | gain | eps_B / eps_B |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        job, value = one["job"], (one["auc"], one["eps_b"])
        method, n_labels, seed = job["method"], job["n_labels"], job["seed"]
        other = alone["model" if method.startswith("model") else "supervised", n_labels].get(seed)
        prior = f", {job['prior']:.0%} stated" if job.get("prior", PRIOR) != PRIOR else ""
        if other and method not in ("supervised", "model"):
            found[NAMES[method] + prior, n_labels][seed] = (value, other)
        if "auc_alone" in one:
            adapter = one["auc_alone"], one["eps_b_alone"]
            found[f"{NAMES[method]}, over its adapter", n_labels][seed] = (value, adapter)
    for (name, n_labels), group in sorted(found.items()):
        if len(group) > 1:
            lines.append(f"| {name} | {n_labels} | {len(group)} | {_gain(list(group.values()))} |")
    return lines


def _gain(values: Sequence[tuple[Value, Value]]) -> str:
    """Cells of ``pairs``: (AUC, eps_B) of one and of the other, seed by seed."""
    (auc, eps_b), (other_auc, other_eps_b) = np.array(values).transpose(1, 2, 0)
    gain, ratio, root = auc - other_auc, np.log(eps_b / other_eps_b), len(auc) ** 0.5
    reach = student.ppf(0.975, len(auc) - 1) * ratio.std(ddof=1) / root
    low, middle, high = np.exp(ratio.mean() + reach * np.array([-1, 0, 1]))
    return (
        f"{gain.mean():+.3f} ± {gain.std(ddof=1) / root:.3f} | {(gain > 0).sum()} | "
        f"{middle:.2f} [{low:.2f}, {high:.2f}]"
    )


def draw(results: Sequence[Result], file: Path) -> None:
    """AUC by number of labels, a band per classifier: labels alone, and with unlabelled events."""
    figure = Figure(figsize=(10.5, 5), dpi=150, layout="constrained")
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in results:
        found[one["job"]["method"]][one["job"]["n_labels"]].append(one["auc"])
    ticks = sorted({number for row in found.values() for number in row})
    for axes, (title, methods) in zip(
        figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True
    ):
        for place, method in enumerate(one for one in methods if one in found):
            numbers = sorted(found[method])
            low, middle, high = np.array([band(found[method][one]) for one in numbers]).T
            look = {"color": COLOURS[place], "linestyle": line_style(place)}
            axes.plot(numbers, middle, label=NAMES[method], marker=".", **look)
            axes.fill_between(numbers, low, high, color=COLOURS[place], alpha=0.15, linewidth=0)
        axes.set(xscale="log", xlabel="labelled events")
        axes.set_xticks(ticks, labels=[f"{one:,}" for one in ticks])
        axes.minorticks_off()
        axes.set_title(title, loc="left", fontsize=11)
        axes.tick_params(direction="in", top=True, right=True)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    figure.axes[0].set_ylabel("AUC of the test")
    figure.axes[1].set_title("simulation", loc="right", fontsize=11)
    save_figure(figure, file)


def main() -> None:
    """Prints the tables and draws the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    results = [json.loads(line) for one in given.results for line in one.read_text().splitlines()]
    parts = {
        part: [one for one in results if one["job"]["part"] == part]
        for part in ("labels", "weight", "prior", "shift")
    }
    for name, key, title in (
        ("labels", "auc", "AUC by number of labels"),
        ("labels", "eps_b", "eps_B at eps_S = 0.5 by number of labels"),
        ("labels", "auc_alone", "AUC of the adapter alone, before the language model joins"),
        ("labels", "risk_mixture", "risk of the pool by the mixture over the labelled one"),
        ("labels", "risk_split", "risk of the pool by the split over the labelled one"),
        ("shift", "auc", "AUC in another simulation, by number of labels here"),
    ):
        print(f"\n## {title}\n", *table(parts[name], "n_labels", key), sep="\n")
    for part, title in (("labels", "here"), ("shift", "in another simulation")):
        print(f"\n## Over labels alone {title}\n", *pairs(parts[part]), sep="\n")
    wrong = pairs(parts["prior"], parts["labels"])
    print("\n## Over labels alone with wrong priors\n", *wrong, sep="\n")
    for part in ("weight", "prior"):
        compared = {(one["job"]["method"], one["job"]["n_labels"]) for one in parts[part]}
        alike = [
            one
            for one in parts["labels"]
            if (one["job"]["method"], one["job"]["n_labels"]) in compared
        ]
        print(f"\n## AUC by {part}\n", *table([*parts[part], *alike], part), sep="\n")
    if given.picture:
        draw(parts["labels"], given.picture)


if __name__ == "__main__":
    main()
