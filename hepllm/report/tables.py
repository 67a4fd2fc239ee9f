"""Tables of the results of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hepllm.evaluation.records import ResultsRecord, ScoreRecord
from hepllm.evaluation.seeds import Spread
from hepllm.report.cells import (
    COLUMNS,
    IN_SAMPLE_HEADS,
    count_cell,
    difference_cell,
    in_sample_cells,
    number_cell,
    score_cell,
    spread_cell,
)
from hepllm.report.page import Cell, Group, Row, Table
from hepllm.report.records import LabelledMetrics, SetMetrics

_OVERVIEW = ("auc", "sic_at_0.3", "sic_at_0.5", "max_sic", "accuracy")
_DIFFERENCES = ("auc", "sic_at_0.1", "sic_at_0.3", "sic_at_0.5", "max_sic")

TEXT_ONLY = "text_only"
"""Name of a run without the numeric fusion adapter, beside one with it."""

NUMBERS_ONLY = "numbers_only"
"""Name of a run whose prompt has no numbers, beside one whose prompt has them."""

_CUT_NOTE = (
    "N_s, N_b: events that pass. Precision, F1 and accuracy are valid only for this sample's "
    "signal:background ratio."
)

_ONE_TRAINING = (
    "Intervals are of the events, for these trainings; another seed may differ by more. What "
    "several seeds say: hepllm eval RUN RUN ..."
)


def events_text(score: ScoreRecord) -> str:
    """Words the number of events of each class."""
    return f"N_s = {score.n_signal} signal and N_b = {score.n_background} background events"


def result_table(results: ResultsRecord) -> Table:
    """Tabulates every classifier and ablation, with intervals and numbers of events."""
    model, ablations = results.classifier, results.ablation
    retrained = {name: one for name, one in ablations.items() if one.retrained}
    parts = {name: one for name, one in retrained.items() if name in (TEXT_ONLY, NUMBERS_ONLY)}
    others = {name: one for name, one in retrained.items() if name not in parts}
    destroyed = {name: one for name, one in ablations.items() if not one.retrained}
    title, reference = f"{model} with part of its input destroyed", results.ablation_reference
    if reference is not None:
        title += f", on {events_text(reference)} of the sample"
        destroyed = {f"{model} on these events": reference, **destroyed}
    groups = (
        ("", {model: results, **results.baselines}),
        (f"{model} trained without part of its input", parts),
        (f"{model} of other trainings", others),
        (title, destroyed),
    )
    return Table(
        caption=f"Classifiers on {results.sample}: {events_text(results)}",
        heads=("", *(column.head for column in COLUMNS.values()), *IN_SAMPLE_HEADS),
        groups=[
            Group(
                title,
                [
                    Row(name, [*(score_cell(one, key) for key in COLUMNS), *in_sample_cells(one)])
                    for name, one in rows.items()
                ],
            )
            for title, rows in groups
            if rows
        ],
        notes=_conventions(results),
    )


def difference_table(results: ResultsRecord) -> Table:
    """Tabulates the evaluated model minus each other classifier, and further pairs."""
    rows = [
        Row(
            pair.difference,
            [difference_cell(pair.metrics[key], COLUMNS[key].digits) for key in _DIFFERENCES],
        )
        for pair in (*results.paired.values(), *results.contrasts.values())
    ]
    ratio = (
        f"Ratio: the {results.bootstrap.confidence:.0%} interval of the first SIC over the second, "
        "where too little background passes one of the cuts; significant if it does not contain 1."
    )
    return Table(
        caption="Paired differences of the same events",
        heads=("", *_heads(_DIFFERENCES)),
        groups=[Group("", rows)],
        notes=[_ONE_TRAINING, ratio],
    )


def view_table(metrics: LabelledMetrics) -> Table:
    """Tabulates the evaluated model on all views of the same events."""
    views: dict[str, ResultsRecord] = {metrics.view: metrics, **metrics.views}
    rows = [
        Row(
            name,
            [
                *map(count_cell, (one.n_signal, one.n_background, one.min_background)),
                *(score_cell(one, key) for key in _OVERVIEW),
                number_cell(one.working_points[0].precision, 3),
            ],
        )
        for name, one in views.items()
    ]
    return Table(
        caption=f"{metrics.classifier} in several signal:background ratios of the same events",
        heads=("view", "N_s", "N_b", "N_min", *_heads(_OVERVIEW), "precision"),
        groups=[Group("", rows)],
    )


def signal_table(metrics: LabelledMetrics) -> Table:
    """Tabulates the evaluated model for each signal under its own hypothesis."""
    keys = ("auc", "sic_at_0.3", "sic_at_0.5", "max_sic")
    rows = [
        Row(name, [count_cell(one.n_signal), *(score_cell(one, key) for key in keys)])
        for name, one in metrics.by_signal.items()
    ]
    return Table(
        caption=f"{metrics.classifier} for each signal under its own hypothesis",
        heads=("signal", "N_s", *_heads(keys)),
        groups=[Group("", rows)],
        notes=["All of the background is scored under the hypothesis of each signal."],
    )


def cut_table(results: ResultsRecord) -> Table:
    """Tabulates precision, recall and confusion of the evaluated model at its cuts."""
    rows = [
        Row(
            cut.chosen_by,
            [
                *(
                    number_cell(number, 3)
                    for number in (cut.threshold, cut.precision, cut.recall, cut.f1, cut.accuracy)
                ),
                *map(count_cell, (cut.n_signal_passing, cut.n_background_passing)),
            ],
        )
        for cut in results.working_points
    ]
    return Table(
        caption=f"Cuts of {results.classifier}, chosen on validation data",
        heads=("cut", "threshold", "precision", "recall", "F1", "accuracy", "N_s", "N_b"),
        groups=[Group("", rows)],
        notes=[_CUT_NOTE, _confusion_text(results)],
    )


def overview_table(rows: Iterable[tuple[str, str, SetMetrics]]) -> Table | None:
    """Tabulates the language model of every run on every set with labels; None without any.

    The rows are names of run and set, and metrics.
    """
    by_set: dict[str, list[Row]] = {}
    for run, name, metrics in rows:
        if isinstance(metrics, LabelledMetrics):
            by_set.setdefault(name, []).append(Row(run, _overview_cells(metrics)))
    if not by_set:
        return None
    return Table(
        caption="The language model at a glance",
        heads=("run", "events", "N_s", "N_b", *_heads(_OVERVIEW)),
        groups=[Group(name, found) for name, found in by_set.items()],
        notes=["The conventions are given below the table of each set."],
    )


def spread_table(
    sample: str, found: Mapping[str, Mapping[str, Spread]], n_runs: int, recipe: str = ""
) -> Table:
    """Tabulates median and 16-84 % band over runs of a recipe, by classifier and metric."""
    keys = [key for key in COLUMNS if key in next(iter(found.values()), {})]
    of = f" of {recipe}" if recipe else ""
    rows = [
        Row(name, [spread_cell(metrics[key], key, n_runs) for key in keys])
        for name, metrics in found.items()
    ]
    return Table(
        caption=f"Median of {n_runs} runs{of} on {sample}, with the band [16 %, 84 %] over them",
        heads=("", *_heads(keys)),
        groups=[Group("", rows)],
    )


def _heads(keys: Iterable[str]) -> list[str]:
    return [COLUMNS[key].head for key in keys]


def _overview_cells(metrics: LabelledMetrics) -> list[Cell]:
    classes = (metrics.n_signal, metrics.n_background)
    return [
        *map(count_cell, (sum(classes), *classes)),
        *(score_cell(metrics, key) for key in _OVERVIEW),
    ]


def _confusion_text(results: ResultsRecord) -> str:
    found = results.confusion
    if found is None:
        return f"No confusion table: {results.undefined.get('accuracy', 'no cut')}."
    return (
        f"Confusion at the first cut (sums of weights): signal {found.signal_as_signal:g} kept, "
        f"{found.signal_as_background:g} lost; background {found.background_as_background:g} "
        f"rejected, {found.background_as_signal:g} called signal."
    )


def _conventions(results: ResultsRecord) -> list[str]:
    drawn, best, name = results.bootstrap, results.max_sic_in_sample, results.classifier
    in_sample = (
        "none" if best.value is None else f"{best.value:.2f} (N_b {best.n_background_passing})"
    )
    uncertainty = (
        f"[low, high]: {drawn.confidence:.0%} bootstrap interval from {drawn.n_replicas} "
        "replicas, stratified by class and the same for all rows. N_b: background events that pass "
        "the cut."
    )
    definition = (
        "SIC(x) = ε_S / √(ε_B) and 1/ε_B(x) are read at the tightest cut with ε_S ≥ x. Events with "
        f"equal scores pass together. {_validation_text(results)} The cuts of {name} also apply to "
        "its ablations."
    )
    papers = (
        "max, OmniLearn and max, CATHODE: the largest SIC at a cut chosen on this sample itself, "
        "which is biased upwards, with ε_B > 1e-4 or one background event, as in the code of these "
        f"papers. With the minimum used here it is {in_sample} for {name}."
    )
    limits = (
        f"{results.background_rule} must pass a cut; otherwise the table shows a one-sided "
        f"{drawn.confidence:.0%} lower bound, > x, from the number of events that pass. "
        f"{results.n_background} background events can show no SIC above "
        f"√(N_b / {results.min_background}) = {results.sic_ceiling:.1f}."
    )
    problem = results.undefined.get("auc")
    missing = [] if problem is None else [f"This sample has no metrics: {problem}."]
    return [uncertainty, definition, papers, limits, *missing]


def _validation_text(results: ResultsRecord) -> str:
    """Words which events choose the cuts."""
    counts = (results.n_validation_signal, results.n_validation_background)
    numbers = "" if None in counts else " (N_s = {} and N_b = {})".format(*counts)
    return (
        f"The validation cut of the SIC: {results.max_sic.chosen_by}{numbers}; no event is read at "
        "a cut that it helped to choose. The cut of the accuracy: validation data alone."
    )
