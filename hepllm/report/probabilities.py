"""The chapter about probabilities: prior, calibration errors, highest scores."""

from __future__ import annotations

from hepllm.evaluation.calibration import MapLoss
from hepllm.evaluation.probabilities import CalibrationRecord
from hepllm.report.cells import count_cell, number_cell, quantity_cell
from hepllm.report.page import Cell, Chapter, Group, Row, Table


def probability_chapter(found: CalibrationRecord) -> Chapter:
    """Makes the chapter from the record of a calibration."""
    facts = [("calibration", found.method)]
    if found.losses:
        facts.append(("chosen among", ", ".join(map(_loss, found.losses))))
    facts.append(("prior", found.prior))
    if found.prior_assumption is not None:
        facts.append(("estimate", f"from {found.prior_n_events} events; {found.prior_assumption}"))
        if found.sample_fraction is not None:
            facts.append(("signal fraction by the labels", f"{found.sample_fraction:.3g}"))
    errors = {
        "expected calibration error": found.ece,
        "error without calibration": found.ece_uncalibrated,
        "error of exact probabilities": found.ece_if_perfect,
    }
    facts += [(name, f"{value:.4f}") for name, value in errors.items() if value is not None]
    return Chapter("Probabilities", facts=facts, tables=[_top_table(found)] if found.top else [])


def _loss(of: MapLoss) -> str:
    """A candidate with its loss in cross-validation."""
    return f"{of.method} {of.loss:.4f}"


def _top_table(calibration: CalibrationRecord) -> Table:
    rows = [
        Row(
            f"highest {part.share:.1%}",
            [
                count_cell(part.n_events),
                number_cell(part.expected, 2),
                number_cell(part.observed, 2),
                Cell(reason="no signal is expected")
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
