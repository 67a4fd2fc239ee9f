"""Sections of a report about runs: missing evaluations, training, settings, comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.config import Config, settings_by_path
from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.seeds import SpreadRecord, spread_over_runs
from hepllm.pictures.curves import Caption, rejection_figure, sic_figure, spread_figures
from hepllm.pictures.seeds import seed_figure
from hepllm.pictures.training import History, group_figure, loss_figure, validation_figure
from hepllm.provenance import shown_date
from hepllm.report.conclusions import conclusion, searched_table
from hepllm.report.data_uris import drawn
from hepllm.report.page import Cell, Chapter, Group, Listing, Picture, Row, Table
from hepllm.report.records import LabelledMetrics, RunRecord
from hepllm.report.seeds import is_about, seed_chapter
from hepllm.report.sets import EvaluatedSet
from hepllm.report.tables import overview_table, spread_table

_NO_RECIPE = ("seed", "name")
"""Settings that may differ between runs of one recipe."""


@dataclass(frozen=True)
class ReportedRun:
    """A run and everything that a report shows of it.

    Attributes:
        name: unique name on the page.
        folder: folder of the run.
        config: settings of the run.
        record: content of ``run.json``.
        history: history of its training; empty where there is none.
        sets: sets that it was evaluated on.
        spreads: comparisons with other runs that were written to its folder.
    """

    name: str
    folder: Path
    config: Config
    record: RunRecord
    history: History
    sets: Sequence[EvaluatedSet]
    spreads: Sequence[SpreadRecord] = ()


def conclusion_chapter(runs: Sequence[ReportedRun]) -> Chapter:
    """Makes the chapter of what was found on all sets, and of the evaluations that are missing."""
    rows = [(run.name, found.name, found.metrics) for run in runs for found in run.sets]
    sentences = [
        conclusion(name if len(runs) == 1 else f"{run}, {name}", metrics)
        for run, name, metrics in rows
    ]
    tables = [searched_table(rows), overview_table(rows)]
    return Chapter(
        "Conclusions",
        texts=[*sentences, *(text for run in runs for text in _missing(run))],
        tables=[table for table in tables if table is not None],
    )


def training_chapter(run: ReportedRun) -> Chapter:
    """Makes the chapter of a run's training data and training curves."""
    record = run.record
    facts = [
        ("training events", _classes(record.n_train)),
        ("validation events", _classes(record.n_validation)),
    ]
    for place, start in enumerate(record.starts):
        facts.append(("resumed" if place else "started", shown_date(start.date)))
        facts.append(("command", start.command))
    if not run.history:
        text = f"{run.folder / 'history.jsonl'} is missing, so there are no training curves."
        return Chapter("Training", texts=[text], facts=facts)
    facts += [("optimizer steps", str(run.history[-1]["step"])), *_speed(run)]
    return Chapter("Training", facts=facts, pictures=training_pictures({run.name: run.history}))


def _speed(run: ReportedRun) -> list[tuple[str, str]]:
    """Duration, rate and machine of a training; only what the run has a record of."""
    seconds, n_events, before = 0.0, 0, 0.0
    for one in run.history:
        rate = one.get("train/events_per_second")
        if rate:
            trained = int(one["step"] - before) * run.config.train.batch_size
            seconds, n_events, before = seconds + trained / rate, n_events + trained, one["step"]
    facts = []
    if seconds:
        facts.append(("time of the steps", f"{seconds:.0f} s, without validations"))
        facts.append(("events per second", f"{n_events / seconds:,.0f}, in training"))
    facts += [
        (f"events per second on {found.name}", f"{found.metrics.events_per_second:,.0f}")
        for found in run.sets
    ]
    processor = run.record.starts[-1].versions.get("processor") if run.record.starts else None
    if processor is not None:
        facts.append(("machine", processor))
    return facts


def training_pictures(histories: Mapping[str, History]) -> list[Picture]:
    """Draws the curves of one training, or of several in the same axes."""
    pictures = (
        (
            loss_figure(histories),
            "Training and validation loss",
            "Loss on training batches and on validation data.",
        ),
        (
            validation_figure(histories),
            "AUC and accuracy on validation data",
            "AUC and accuracy on validation data.",
        ),
        (
            group_figure(histories, "lr", "learning rate"),
            "Learning rate of each optimizer group",
            "Learning rates: lora, the language model's adapters; nfa, the numeric fusion adapter.",
        ),
        (
            group_figure(histories, "gradient_norm", "gradient norm"),
            "Gradient norm of each optimizer group",
            "Norms of the gradients.",
        ),
    )
    return [
        drawn(figure, f"{alt} against optimizer steps; {', '.join(histories)}", caption)
        for figure, alt, caption in pictures
    ]


def config_chapter(run: ReportedRun) -> Chapter:
    """Makes the chapter of a run's settings and of the command that trains it again."""
    config, file = run.config, run.folder / "config.yaml"
    return Chapter(
        "Configuration",
        facts=[
            ("name", config.name),
            ("seed", str(config.seed)),
            ("backbone", config.backbone.name),
            ("prompt", config.prompt_layout),
            ("numeric fusion adapter", "on" if config.fusion.enabled else "off"),
            ("features", ", ".join(config.train.feature_names())),
            (
                "train it again",
                f"hepllm train {run.record.dataset} --config {file} --output NEW_RUN",
            ),
        ],
        listings=[Listing("All settings, as YAML", file.read_text(encoding="utf-8"))],
    )


def comparison_chapter(runs: Sequence[ReportedRun]) -> Chapter:
    """Makes the chapter of several runs, with median and band over seeds of one recipe."""
    together = _is_one_recipe(runs)
    text = (
        "These runs differ only in their seed: medians and bands over them are shown."
        if together
        else "These runs differ in more than their seed, so they are shown side by side."
    )
    common = [
        name
        for name in dict.fromkeys(found.name for run in runs for found in run.sets)
        if all(_labelled(run, name) for run in runs)
    ]
    if not common:
        text += " No set with labels was evaluated with all of them."
    histories = {run.name: run.history for run in runs if run.history}
    return Chapter(
        "Comparison",
        texts=[text],
        tables=[_settings_table(runs)],
        pictures=training_pictures(histories) if histories else [],
        chapters=[_common_set(runs, name, together) for name in common],
    )


def _is_one_recipe(runs: Sequence[ReportedRun]) -> bool:
    """Whether runs have the same data and the same settings except seed and name."""
    recipes = [
        {"dataset": run.record.dataset_digest, **settings_by_path(run.config)}
        | dict.fromkeys(_NO_RECIPE)
        for run in runs
    ]
    return all(recipe == recipes[0] for recipe in recipes)


def _missing(run: ReportedRun) -> list[str]:
    """Names the evaluations that are missing, with the commands that make them."""
    names, test = {found.name for found in run.sets}, f"{run.record.dataset.name}-test"
    if not names:
        return [f"{run.name} has not been evaluated; evaluate it with: hepllm eval {run.folder}"]
    texts = []
    if test not in names:
        texts.append(f"{run.name} has no test result; make it with: hepllm eval {run.folder}")
    if names == {test}:
        texts.append(
            f"{run.name} was evaluated on its test split only; for black boxes: "
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
    """The settings and datasets in which runs differ."""
    trees = [
        {"dataset": run.record.dataset_digest[:12], **settings_by_path(run.config)} for run in runs
    ]
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


def _common_set(runs: Sequence[ReportedRun], name: str, together: bool) -> Chapter:
    sets = [next(found for found in run.sets if found.name == name) for run in runs]
    curves = {
        run.name: found.curves
        for run, found in zip(runs, sets, strict=True)
        if found.curves is not None
    }
    texts = [
        f"{run.folder} has no curves; make them with: hepllm eval {run.folder}"
        for run in runs
        if run.name not in curves
    ]
    metrics = [found.metrics for found in sets if isinstance(found.metrics, LabelledMetrics)]
    seeds = [run.config.seed for run in runs]
    written = (spread for run in runs for spread in run.spreads if spread.sample == name)
    compared = next((one for one in written if is_about(one, seeds, metrics)), None)
    tables: list[Table] = []
    pictures: list[Picture] = []
    if compared is not None:
        tables += seed_chapter(compared).tables
        pictures.append(_seed_picture(compared))
    elif together:
        tables.append(spread_table(name, spread_over_runs(metrics), len(runs)))
        folders = " ".join(str(run.folder) for run in runs)
        texts.append(f"Differences with an interval for seeds and events: hepllm eval {folders}")
    if together and len(curves) == len(runs):
        pictures += _spread_pictures(list(curves.values()), name)
    pictures += _overlaid_pictures(curves, name) if curves else []
    return Chapter(f"All runs on {name}", texts=texts, tables=tables, pictures=pictures)


def _seed_picture(record: SpreadRecord) -> Picture:
    return drawn(
        seed_figure(record),
        f"Each run, medians, and intervals of means and differences; {record.sample}",
        "Every run, the median, and the interval of the mean over seeds and events.",
    )


def _spread_pictures(curves: Sequence[CurvesRecord], name: str) -> list[Picture]:
    figures = spread_figures(curves)
    end = f"median and band of 16-84 % over {len(curves)} runs; {name}"
    what = {"sic": ("SIC", "SIC"), "roc": ("Background rejection", "ROC curves")}
    return [
        drawn(
            figures[key],
            f"{quantity} of every classifier against signal efficiency, {end}",
            f"{title}, over seeds. Blank where a run has too little background.",
        )
        for key, (quantity, title) in what.items()
    ]


def _overlaid_pictures(curves: Mapping[str, CurvesRecord], name: str) -> list[Picture]:
    """Draws the language model of every run in the same axes."""
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
