"""The chapter about an ensemble beside its members."""

from __future__ import annotations

from hepllm.evaluation.averaging import EnsembleRecord
from hepllm.report.page import Chapter
from hepllm.report.tables import difference_table, result_table


def ensemble_chapter(record: EnsembleRecord) -> Chapter:
    """Makes the chapter from the record of an ensemble."""
    members = ", ".join(f"{one.name} (calibration: {one.calibration})" for one in record.members)
    about = (
        f"The score of {record.n_events} events is the mean logit of {members}, for a signal "
        f"fraction of {record.prior_fraction:.3g}. The members' logits have a standard deviation "
        f"of {record.median_spread:.3g} in the median event."
    )
    texts = [about]
    if record.n_excluded_as_seen:
        texts.append(
            f"{record.n_excluded_as_seen} further events were seen in training or validation of a "
            "member and are left out."
        )
    if record.results is None:
        texts.append(f"Not measured: {record.problem}.")
    results = record.results
    tables = [] if results is None else [result_table(results), difference_table(results)]
    return Chapter(f"Ensemble on {record.sample}", texts=texts, tables=tables)
