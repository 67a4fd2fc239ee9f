"""The part of a report about probabilities: their prior, their errors, the highest scores."""

from __future__ import annotations

from hepllm.evaluation.probabilities import CalibrationRecord
from hepllm.report.cells import count_cell, number_cell, quantity_cell
from hepllm.report.page import Cell, Group, Row, Section, Table


def probability_section(found: CalibrationRecord) -> Section:
    """What probabilities assume, and how well they hold."""
    facts = [("calibration", found.method), ("prior", found.prior)]
    if found.prior_assumption is not None:
        facts.append(
            ("the estimate", f"from {found.prior_n_events} events; {found.prior_assumption}")
        )
        if found.sample_fraction is not None:
            facts.append(("signal fraction by the labels", f"{found.sample_fraction:.3g}"))
    errors = {
        "expected calibration error": found.ece,
        "the same uncalibrated": found.ece_uncalibrated,
        "if probabilities held exactly": found.ece_if_perfect,
    }
    facts += [(name, f"{value:.4f}") for name, value in errors.items() if value is not None]
    table = _top_table(found)
    return Section("Probabilities", facts=facts, tables=[] if table is None else [table])


def _top_table(calibration: CalibrationRecord) -> Table | None:
    """Observed over expected signal in the highest scores; None where that is not known."""
    if not calibration.top:
        return None
    rows = [
        Row(
            f"highest {part.share:.1%}",
            [
                count_cell(part.n_events),
                number_cell(part.expected, 2),
                number_cell(part.observed, 2),
                Cell(reason="nothing is expected")
                if part.ratio is None or part.low is None or part.high is None
                else quantity_cell(part.ratio, (part.low, part.high), 2),
            ],
        )
        for part in calibration.top
    ]
    return Table(
        caption="Signal in the highest scores at a signal fraction of "
        f"{calibration.top_prior_fraction:.3g}",
        heads=("scores", "events", "expected", "observed", "observed / expected"),
        groups=[Group("", rows)],
        notes=["68 % intervals."],
    )
