"""What a report says first: one sentence for each evaluated set, and the searched boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hepllm.evaluation.records import ScoreRecord
from hepllm.report.cells import count_cell, quantity_cell
from hepllm.report.page import Cell, Group, Row, Table
from hepllm.report.records import LabelledMetrics, SetMetrics
from hepllm.search.limit_records import Limit, UpperLimit
from hepllm.search.measurements import Measurement
from hepllm.search.records import SearchFindings, Submission, Unblinding

_REFERENCE = "boosting"
"""The classifier that the model is compared with."""

_NO_VALUE = "not measured"

_NOTE = (
    "Intervals of 68 %, statistical and systematic. Signal events, and their upper limit near this "
    "mass at 95 % CL: in the box, or after the cut where no efficiency is known. Without an "
    "excess, the masses are those of the largest fluctuation."
)


def conclusion(name: str, metrics: SetMetrics) -> str:
    """One sentence about a set: what was found in it, and how good the classifier is."""
    parts = []
    if isinstance(metrics.search, Submission):
        parts.append(_searched(metrics.search, metrics.unblinding))
    elif metrics.search is not None:
        parts.append(f"it was not searched ({metrics.search.problem})")
    if isinstance(metrics, LabelledMetrics):
        parts.append(_compared(metrics))
    elif not parts:
        parts.append("its events have scores, but no labels to compare them with")
    return f"{name}: {'; '.join(parts)}."


def p_text(found: SearchFindings) -> str:
    """The global p-value with its significance; a bound where no pseudo-experiment exceeds it."""
    relation, bound = ("<=", "at least ") if found.n_toys_exceeding == 0 else ("=", "")
    sigma = found.significance_global
    in_sigma = "" if sigma is None else f" ({bound}{sigma:.1f} sigma)"
    return f"p {relation} {found.p_value:.3g}{in_sigma}"


def searched_table(rows: Iterable[tuple[str, str, SetMetrics]]) -> Table | None:
    """Tabulates the searches of every run, from names of run and set; None without a search."""
    by_set: dict[str, list[Row]] = {}
    for run, name, metrics in rows:
        if isinstance(metrics.search, Submission):
            cells = _search_cells(metrics.search)
            by_set.setdefault(name, []).append(Row(run, cells))
    if not by_set:
        return None
    return Table(
        caption="Searched boxes",
        heads=(
            *("run", "events", "global p", "sigma", "mass [GeV]", "heavy jet [GeV]"),
            *("light jet [GeV]", "signal events", "upper limit", "expected"),
        ),
        groups=[Group(name, found) for name, found in by_set.items()],
        notes=[_NOTE],
    )


def _searched(found: Submission, unblinding: Unblinding | None) -> str:
    if not found.is_excess:
        text = f"no excess, {p_text(found)}{_excluded(found)}"
    else:
        jets = found.jet_masses_gev
        masses = [f"{one.value:.0f}" for one in (jets.heavy, jets.light) if one is not None]
        with_jets = f", with jets of {' and '.join(masses)} GeV" if masses else ""
        number = found.n_signal_box or found.n_signal_selected
        where = "in the box" if found.n_signal_box else "after the cut"
        text = (
            f"an excess at {found.mass} = {_short(found.resonance_mass_gev)} GeV{with_jets}, "
            f"{p_text(found)}, of {_short(number)} events {where}"
        )
    return text if unblinding is None else f"{text} ({_truth(unblinding)})"


def _truth(unblinding: Unblinding) -> str:
    truth = unblinding.truth
    if not truth.n_signal_box:
        return "by the key there is no signal"
    mass = truth.median_m_jj_of_signal_gev
    at = "" if mass is None else f" at a median of {mass:.0f} GeV"
    return f"by the key there are {truth.n_signal_box}{at}"


def _excluded(found: SearchFindings) -> str:
    """The range of the limits, where nothing was found."""
    if found.upper_limits is None:
        return ""
    limits = [_limit_of(one).observed for one in found.upper_limits.by_mass]
    masses = [one.mass_gev for one in found.upper_limits.by_mass]
    if not limits:
        return ""
    return (
        f"; more than {min(limits):.3g} to {max(limits):.3g} signal events are excluded at "
        f"{found.upper_limits.confidence:.0%} CL from {min(masses):.0f} to {max(masses):.0f} GeV"
    )


def _compared(metrics: LabelledMetrics) -> str:
    n_events = f"{metrics.n_signal} signal and {metrics.n_background} background events"
    text = f"{metrics.classifier} tells {n_events} apart with {_quality(metrics)}"
    pair = metrics.paired.get(_REFERENCE)
    found = None if pair is None else pair.metrics["auc"]
    if found is None or found.estimate is None or found.interval is None:
        return text
    low, high = found.interval
    sizes = f"AUC difference {found.estimate:+.3f} [{low:+.3f}, {high:+.3f}]"
    if low <= 0 <= high:
        return f"{text}, not measurably different from the {_REFERENCE} ({sizes})"
    return f"{text}, {'better' if low > 0 else 'worse'} than the {_REFERENCE} ({sizes})"


def _quality(score: ScoreRecord) -> str:
    auc, sic = score.auc, score.max_sic
    parts = []
    if auc.value is not None:
        parts.append(f"an AUC of {quantity_cell(auc.value, auc.interval, 3).text}")
    if sic.value is not None:
        shown = quantity_cell(sic.value, sic.interval, 2)
        text = f"{shown.text} {shown.interval}".strip()
        parts.append(f"a SIC of {text} at the validation cut")
    return " and ".join(parts) or "no defined metric"


def _short(found: Measurement) -> str:
    low, high = found.interval
    return f"{found.value:.0f} [{low:.0f}, {high:.0f}]"


def _search_cells(found: Submission) -> list[Cell]:
    jets, number = found.jet_masses_gev, found.n_signal_box or found.n_signal_selected
    relation = "<= " if found.n_toys_exceeding == 0 else ""
    bound = "> " if found.n_toys_exceeding == 0 else ""
    sigma = found.significance_global
    return [
        count_cell(found.n_events),
        Cell(f"{relation}{found.p_value:.2g}", found.p_value),
        Cell(reason=_NO_VALUE) if sigma is None else Cell(f"{bound}{sigma:.1f}", sigma),
        *map(_measured_cell, (found.resonance_mass_gev, jets.heavy, jets.light, number)),
        *_nearest_limit(found),
    ]


def _measured_cell(found: Measurement | None) -> Cell:
    if found is None:
        return Cell(reason=_NO_VALUE)
    return quantity_cell(found.value, found.interval, 0)


def _nearest_limit(found: Submission) -> list[Cell]:
    limits: Sequence[UpperLimit] = () if found.upper_limits is None else found.upper_limits.by_mass
    if not limits:
        return [Cell(reason="no limits")] * 2
    mass = found.resonance_mass_gev.value
    limit = _limit_of(min(limits, key=lambda one: abs(one.mass_gev - mass)))
    return [
        Cell(f"{limit.observed:.3g}", limit.observed),
        quantity_cell(limit.expected, limit.expected_68, 0),
    ]


def _limit_of(one: UpperLimit) -> Limit:
    return one.selected if one.box is None else one.box
