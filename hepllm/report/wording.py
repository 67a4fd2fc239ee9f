"""Results as plain text for the terminal, at most 120 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from hepllm.evaluation.bootstrap import Difference, Interval
from hepllm.evaluation.metrics import Threshold
from hepllm.evaluation.results import EvaluationResults, ScoreResult, Selection, SicEstimate

_WIDTHS = (17, 24, 21, 5, 21, 5, 21, 5)
_HEADS = ("", "AUC", "SIC(0.3)", "N_b", "SIC(0.5)", "N_b", "max SIC", "N_b")
_CUT_WIDTHS = (47, 11, 11, 9, 9, 10, 9, 9)
_CUT_HEADS = ("cut", "threshold", "precision", "recall", "F1", "accuracy", "N_s", "N_b")
_VIEW_WIDTHS = (10, 8, 8, 7, 23, 21, 21, 10, 11)
_VIEW_HEADS = ("view", "N_s", "N_b", "N_min", "AUC", "SIC(0.5)", "max SIC", "accuracy", "precision")
_MISSING = "-"


def format_table(results: EvaluationResults) -> str:
    """One row a classifier and ablation, the differences to the judged model, and the conventions.

    Args:
        results: of one sample.

    Returns:
        Lines of at most 120 characters, without a line break at the end.
    """
    model, rule = results.model.name, "-" * sum(_WIDTHS)
    lines = [_title(results), _row(_HEADS, _WIDTHS), rule]
    headings = {
        "retrained": f"{model} trained without part of its input:",
        "ablation": f"{model} with part of its input destroyed:",
    }
    for role in ("llm", "baseline", "retrained", "ablation"):
        rows = [result for result in results.scores.values() if result.role == role]
        if rows and role in headings:
            lines.append(headings[role])
        lines += [_row(_score_cells(result), _WIDTHS) for result in rows]
    if results.differences:
        lines.append(f"paired differences, {model} minus:")
    lines += [_row(_difference_cells(*item), _WIDTHS) for item in results.differences.items()]
    for (first, second), difference in results.contrasts.items():
        lines.append(f"paired difference, {first} minus:")
        lines.append(_row(_difference_cells(second, difference), _WIDTHS))
    return "\n".join([*lines, rule, *_footer(results)])


def format_working_points(results: EvaluationResults) -> str:
    """Precision, recall and the confusion table of the judged model at its cuts.

    Args:
        results: of one sample.

    Returns:
        Lines of at most 120 characters, without a line break at the end.
    """
    model, rule = results.model, "-" * sum(_CUT_WIDTHS)
    lines = [
        f"{model.name}, {_title(results)}",
        _row(_CUT_HEADS, _CUT_WIDTHS),
        rule,
        *(_row(_cut_cells(selection), _CUT_WIDTHS) for selection in model.selections),
        rule,
        *_wrap(_confusion_text(model.selections[0])),
        *_wrap(
            "N_s, N_b: events that pass. Precision, F1 and accuracy hold for this mixture of "
            "classes only."
        ),
    ]
    return "\n".join(lines)


def format_views(views: Sequence[EvaluationResults]) -> str:
    """The judged model in several mixtures of the same events, one row each.

    Args:
        views: results of the sample as it is first.

    Returns:
        Lines of at most 120 characters, without a line break at the end.
    """
    lines = [
        f"{views[0].model.name}, {views[0].sample} sample in several mixtures of its classes",
        _row(_VIEW_HEADS, _VIEW_WIDTHS),
        "-" * sum(_VIEW_WIDTHS),
    ]
    for results in views:
        model, best = results.model, results.model.selections[0].table
        lines.append(
            _row(
                (
                    results.view,
                    _count(model.events.n_signal),
                    _count(model.events.n_background),
                    str(results.n_min),
                    _quantity(model.auc.value, model.auc_interval, 3),
                    _quantity(model.sic_at[0.5].point.sic, model.sic_at[0.5].sic, 2),
                    _quantity(model.max_sic.point.sic, model.max_sic.sic, 2),
                    _number(None if best is None else best.accuracy, 3),
                    _number(None if best is None else best.precision, 3),
                ),
                _VIEW_WIDTHS,
            )
        )
    return "\n".join(lines)


def _title(results: EvaluationResults) -> str:
    events = results.model.events
    return (
        f"{results.sample} sample, {results.view} view: "
        f"N_s = {events.n_signal} signal and N_b = {events.n_background} background events"
    )


def _row(cells: Iterable[str], widths: tuple[int, ...]) -> str:
    name, *numbers = zip(cells, widths, strict=True)
    text = _clip(name[0], name[1]).ljust(name[1])
    return (text + "".join(cell.rjust(width) for cell, width in numbers)).rstrip()


def _clip(text: str, width: int) -> str:
    return text if len(text) < width else f"{text[: width - 3]}.."


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, sum(_WIDTHS))


def _score_cells(result: ScoreResult) -> tuple[str, ...]:
    estimates = (result.sic_at[0.3], result.sic_at[0.5], result.max_sic)
    return (
        f"  {result.name}" if result.role in ("ablation", "retrained") else result.name,
        _quantity(result.auc.value, result.auc_interval, 3),
        *(cell for estimate in estimates for cell in _sic_cells(estimate)),
    )


def _sic_cells(estimate: SicEstimate) -> tuple[str, str]:
    point = estimate.point
    return _quantity(point.sic, estimate.sic, 2), _count(point.n_background_passing)


def _difference_cells(name: str, differences: Mapping[str, Difference]) -> tuple[str, ...]:
    area = differences["auc"]
    cells = [_quantity(area.estimate, area.interval, 3, "+")]
    for key in ("sic_at_0.3", "sic_at_0.5", "max_sic"):
        cells += [_quantity(differences[key].estimate, differences[key].interval, 2, "+"), ""]
    return (f"  {name}", *cells)


def _cut_cells(selection: Selection) -> tuple[str, ...]:
    table, point = selection.table, selection.point
    shares: tuple[float | None, ...] = (None,) * 4
    if table is not None:
        shares = (table.precision, table.recall, table.f1, table.accuracy)
    return (
        selection.threshold.chosen_by,
        _number(selection.threshold.value, 3),
        *(_number(share, 3) for share in shares),
        _count(point.n_signal_passing),
        _count(point.n_background_passing),
    )


def _confusion_text(best: Selection) -> str:
    table = best.table
    if table is None:
        return f"No confusion table: {_reason(best.threshold)}."
    return (
        f"Confusion at the first cut (sums of weights): signal {table.signal_as_signal:g} kept, "
        f"{table.signal_as_background:g} lost; background {table.background_as_background:g} "
        f"rejected, {table.background_as_signal:g} taken for signal."
    )


def _reason(threshold: Threshold) -> str:
    return threshold.reason or "no cut"


def _quantity(value: float | None, between: Interval, digits: int, sign: str = "") -> str:
    """Value and interval, with a digit less where the column would overflow."""
    if value is None:
        return _MISSING
    numbers = (value, between.low, between.high)
    if max(abs(number) for number in numbers if number is not None) >= 10:
        digits -= 1
    centre, low, high = (_number(number, digits, sign) for number in numbers)
    return f"{centre} [{low}, {high}]"


def _number(value: float | None, digits: int, sign: str = "") -> str:
    return _MISSING if value is None else f"{value:{sign}.{digits}f}"


def _count(number: int | None) -> str:
    if number is None:
        return _MISSING
    return str(number) if number < 10_000 else f"{number / 1000:.0f}k"


def _footer(results: EvaluationResults) -> list[str]:
    config, model = results.config, results.model
    best = model.max_sic_in_sample
    in_sample = "none" if best.sic is None else f"{best.sic:.2f} (N_b {best.n_background_passing})"
    uncertainty = (
        f"[low, high]: {config.confidence:.0%} bootstrap interval, {config.bootstrap} replicas "
        "stratified by class, the same for all rows. N_b beside a SIC: background events that "
        "pass its cut."
    )
    definition = (
        "SIC(x) = eps_S / sqrt(eps_B) at the tightest cut with eps_S >= x; cuts fall at distinct "
        "scores, so ties pass together. max SIC: the cut is chosen on validation data and read "
        f"on this sample; chosen on this sample itself, biased upwards, {model.name} has "
        f"{in_sample}. Ablations are read at the cut of {model.name}."
    )
    limits = (
        f"{results.rule} must pass a cut; a dash: fewer do, or there is no cut or class. "
        f"{model.events.n_background} background events can show no SIC above "
        f"sqrt(N_b / {results.n_min}) = {results.sic_ceiling:.1f}."
    )
    paragraphs = [uncertainty, definition, limits]
    if model.events.problem is not None:
        paragraphs.append(f"This sample has no metrics: {model.events.problem}.")
    return [line for paragraph in paragraphs for line in _wrap(paragraph)]
