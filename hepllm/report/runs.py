"""The parts of a report about runs: what is missing, training, configuration, several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepllm.config import Config, settings_by_path
from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.seeds import spread_over_runs
from hepllm.pictures.curves import Caption, rejection_figure, sic_figure, spread_figures
from hepllm.pictures.training import (
    History,
    group_figure,
    loss_figure,
    validation_figure,
)
from hepllm.provenance import Call, shown_date
from hepllm.report.data_uris import drawn
from hepllm.report.page import Cell, Group, Listing, Picture, Row, Section, Table
from hepllm.report.records import LabelledMetrics
from hepllm.report.sets import EvaluatedSet
from hepllm.report.tables import overview_table, spread_table

_NO_RECIPE = ("seed", "name")
"""Settings in which runs of one recipe may differ."""


@dataclass(frozen=True)
class ReportedRun:
    """A run and what is known about it.

    Attributes:
        name: on the page, unlike that of any other run there.
        folder: of the run.
        config: its settings.
        config_text: its configuration file.
        dataset: that it was trained on.
        dataset_digest: of its contents.
        n_train: training events by class.
        n_validation: validation events by class.
        starts: when and by which command it was trained and resumed.
        history: of its training; empty where there is none.
        sets: what it was evaluated on.
    """

    name: str
    folder: Path
    config: Config
    config_text: str
    dataset: Path
    dataset_digest: str
    n_train: Mapping[str, int]
    n_validation: Mapping[str, int]
    starts: Sequence[Call]
    history: History
    sets: Sequence[EvaluatedSet]


def overview_section(runs: Sequence[ReportedRun]) -> Section:
    """All runs on all sets, and what has not been evaluated yet."""
    rows = [(run.name, found.name, found.metrics) for run in runs for found in run.sets]
    return Section(
        "Overview",
        texts=[text for run in runs for text in _missing(run)],
        tables=[overview_table(rows)] if rows else [],
    )


def training_section(run: ReportedRun) -> Section:
    """What the run was trained on and how it went."""
    facts = [
        ("training events", _classes(run.n_train)),
        ("validation events", _classes(run.n_validation)),
    ]
    for place, start in enumerate(run.starts):
        facts.append(("resumed" if place else "begun", shown_date(start.date)))
        facts.append(("command", start.command))
    if not run.history:
        text = f"There is no {run.folder / 'history.jsonl'}, so there are no training curves."
        return Section("Training", texts=[text], facts=facts)
    facts.append(("optimizer steps", str(run.history[-1]["step"])))
    return Section("Training", facts=facts, pictures=training_pictures({run.name: run.history}))


def training_pictures(histories: Mapping[str, History]) -> list[Picture]:
    """Curves of one training, or of several in the same axes."""
    who = ", ".join(histories)
    return [
        drawn(
            loss_figure(histories),
            f"Training and validation loss against optimizer steps; {who}",
            "Loss on training batches and on validation data.",
        ),
        drawn(
            validation_figure(histories),
            f"AUC and accuracy on validation data against optimizer steps; {who}",
            "AUC and accuracy on validation data.",
        ),
        drawn(
            group_figure(histories, "lr", "learning rate"),
            f"Learning rate of each optimizer group against optimizer steps; {who}",
            "Learning rates: lora, the language model's adapters; nfa, the numeric fusion adapter.",
        ),
        drawn(
            group_figure(histories, "gradient_norm", "gradient norm"),
            f"Gradient norm of each optimizer group against optimizer steps; {who}",
            "Norms of the gradients.",
        ),
    ]


def config_section(run: ReportedRun) -> Section:
    """The settings of a run and the command that trains it again."""
    config = run.config
    file = run.folder / "config.yaml"
    return Section(
        "Configuration",
        facts=[
            ("name", config.name),
            ("seed", str(config.seed)),
            ("backbone", config.backbone.name),
            ("prompt", config.prompt_layout),
            ("numeric fusion adapter", "on" if config.fusion.enabled else "off"),
            ("features", ", ".join(config.train.feature_names())),
            ("train it again", f"hepllm train {run.dataset} --config {file} --output NEW_RUN"),
        ],
        listings=[Listing("All settings, as YAML", run.config_text)],
    )


def comparison_section(runs: Sequence[ReportedRun]) -> Section:
    """Several runs side by side; seeds of one recipe as median and band too."""
    together = same_recipe(runs)
    told = (
        "These runs differ in their seed alone: medians and bands over them are shown."
        if together
        else "These runs differ in more than their seed, so they stand side by side."
    )
    common = [
        name
        for name in dict.fromkeys(found.name for run in runs for found in run.sets)
        if all(_labelled(run, name) for run in runs)
    ]
    if not common:
        told += " No set with labels was evaluated with all of them."
    histories = {run.name: run.history for run in runs if run.history}
    return Section(
        "Comparison",
        texts=[told],
        tables=[_settings_table(runs)],
        pictures=training_pictures(histories) if histories else [],
        sections=[_common_set(runs, name, together) for name in common],
    )


def same_recipe(runs: Sequence[ReportedRun]) -> bool:
    """Whether runs differ in nothing but their seed and name, the events included."""
    first, *others = ((run.dataset_digest, _recipe(run.config)) for run in runs)
    return all(other == first for other in others)


def _recipe(config: Config) -> dict[str, Any]:
    settings = settings_by_path(config).items()
    return {path: value for path, value in settings if path not in _NO_RECIPE}


def _missing(run: ReportedRun) -> list[str]:
    """What has not been evaluated yet, with the command that does it."""
    names, test = {found.name for found in run.sets}, f"{run.dataset.name}-test"
    if not names:
        return [f"{run.name} has not been evaluated; do so with: hepllm eval {run.folder}"]
    texts = []
    if test not in names:
        texts.append(f"{run.name} has no test result; make it with: hepllm eval {run.folder}")
    if names == {test}:
        texts.append(
            f"{run.name} was evaluated on its test split alone; for black boxes: "
            f"hepllm eval {run.folder} --blackbox"
        )
    return texts


def _classes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _labelled(run: ReportedRun, name: str) -> bool:
    return any(
        found.name == name and isinstance(found.metrics, LabelledMetrics) for found in run.sets
    )


def _settings_table(runs: Sequence[ReportedRun]) -> Table:
    """The settings in which runs differ, with their data."""
    trees = [{"dataset": run.dataset_digest[:12], **settings_by_path(run.config)} for run in runs]
    paths = dict.fromkeys(path for tree in trees for path in tree)
    rows = [
        Row(path, [Cell(_setting(tree.get(path))) for tree in trees])
        for path in paths
        if any(tree.get(path) != trees[0].get(path) for tree in trees)
    ]
    return Table(
        caption="Settings in which the runs differ",
        heads=("setting", *(run.name for run in runs)),
        groups=[Group("" if rows else "none", rows)],
    )


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _common_set(runs: Sequence[ReportedRun], name: str, together: bool) -> Section:
    sets = [next(found for found in run.sets if found.name == name) for run in runs]
    without = [run.folder for run, found in zip(runs, sets, strict=True) if found.curves is None]
    title = f"All runs on {name}"
    texts = [f"No curves of {folder}; make them with: hepllm eval {folder}" for folder in without]
    tables, pictures = [], []
    if together:
        metrics = [found.metrics for found in sets if isinstance(found.metrics, LabelledMetrics)]
        tables.append(spread_table(name, spread_over_runs(metrics), len(runs)))
    curves = {
        run.name: found.curves
        for run, found in zip(runs, sets, strict=True)
        if found.curves is not None
    }
    if together and not without:
        pictures += _spread_pictures(list(curves.values()), name)
    if curves:
        pictures += _overlaid_pictures(curves, name)
    return Section(title, texts=texts, tables=tables, pictures=pictures)


def _spread_pictures(curves: Sequence[CurvesRecord], name: str) -> list[Picture]:
    figures = spread_figures(curves)
    end = f"median and band of 16-84 % over {len(curves)} runs; {name}"
    return [
        drawn(
            figures["sic"],
            f"SIC of every classifier against signal efficiency, {end}",
            "SIC, over seeds. Blank where a run has too little background.",
        ),
        drawn(
            figures["roc"],
            f"Background rejection of every classifier against signal efficiency, {end}",
            "ROC curves, over seeds. Blank where a run has too little background.",
        ),
    ]


def _overlaid_pictures(curves: Mapping[str, CurvesRecord], name: str) -> list[Picture]:
    """The judged model of every run in the same axes."""
    models = {run: next(iter(found.curves().values())) for run, found in curves.items()}
    one = next(iter(curves.values()))
    counts = {(found.n_signal, found.n_background) for found in curves.values()}
    numbers = f"$N_s$ = {one.n_signal}, $N_b$ = {one.n_background}" if len(counts) == 1 else ""
    caption = Caption(f"{name} sample", numbers, f"{one.confidence:.0%} bootstrap band")
    return [
        drawn(
            sic_figure({run: found.sic for run, found in models.items()}, caption),
            f"SIC of the language model of every run against signal efficiency; {name}",
            "SIC of the language model, run by run.",
        ),
        drawn(
            rejection_figure({run: found.rejection for run, found in models.items()}, caption),
            f"Background rejection of the language model of every run; {name}",
            "ROC curves of the language model, run by run.",
        ),
    ]
