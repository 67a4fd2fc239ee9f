"""The chapter about one evaluated set: its numbers and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.seed_intervals import RunScores
from hepllm.provenance import shown_date
from hepllm.report.cascade import cascade_chapter
from hepllm.report.conclusions import conclusion
from hepllm.report.data_uris import stored
from hepllm.report.page import Chapter, Picture
from hepllm.report.probabilities import probability_chapter
from hepllm.report.records import OWN, LabelledMetrics, SetMetrics, UnlabelledMetrics
from hepllm.report.sculpting import sculpting_chapter
from hepllm.report.search import PICTURES as SEARCH_PICTURES
from hepllm.report.search import search_chapter
from hepllm.report.tables import (
    cut_table,
    difference_table,
    result_table,
    signal_table,
    view_table,
)
from hepllm.report.text import as_text
from hepllm.search.records import Submission

_PICTURES: dict[str, tuple[str, str]] = {
    "sic.png": (
        "SIC against signal efficiency for every classifier, with bootstrap bands",
        "SIC. Triangles: maximum, at cuts that other events chose. Dotted, arrows: lower bounds.",
    ),
    "roc.png": (
        "Background rejection against signal efficiency for every classifier, with bootstrap bands",
        "ROC curves: background rejection 1/ε_B of every classifier.",
    ),
    "sculpting.png": (
        "The background's m_jj spectrum before and after cuts, and the ratio for every classifier",
        "The background's m_jj spectrum, and sculpting: that after cuts over that before.",
    ),
    "scores.png": (
        "Histograms of the language model's score for signal and for background events",
        "Score of the language model by class, with statistical errors.",
    ),
    "reliability.png": (
        "Observed share of signal against the predicted probability, before and after calibration",
        "Reliability of the probabilities, in this sample's own signal:background ratio.",
    ),
}
_PICTURES |= {
    f"top_event_{place}.png": (
        f"Jets and particles in eta and phi of the event with {which} score",
        f"The event with {which} score: jets, and particles with an area in proportion to pT.",
    )
    for place, which in enumerate(("the highest", "the second highest", "the third highest"), 1)
}
"""Alternative text and caption by file; other pictures have the name of their file."""


@dataclass(frozen=True)
class EvaluatedSet:
    """Results of ``hepllm eval`` on one set.

    Attributes:
        name: name of the set.
        metrics: content of ``metrics.json``.
        curves: content of ``curves.json``; None where there is none.
        files: written files; of these, a report shows the PNG files.
        scores: scores of all classifiers, event by event, for a comparison with other runs; None
            without labels, or for a set that was read from files.
    """

    name: str
    metrics: SetMetrics
    curves: CurvesRecord | None = None
    files: Sequence[Path] = ()
    scores: RunScores | None = None

    @property
    def text(self) -> str:
        """The results as plain text."""
        return as_text(result_chapter(self.name, self.metrics))


def set_chapter(found: EvaluatedSet) -> Chapter:
    """Makes the chapter of one set, with its pictures.

    Raises:
        OSError: if a picture cannot be read.
    """
    order = {name: place for place, name in enumerate((*_PICTURES, *SEARCH_PICTURES))}
    files = sorted(
        (file for file in found.files if file.suffix == ".png"),
        key=lambda file: (order.get(file.name, len(order)), file.name),
    )
    shown, of_search = (
        [
            _picture(file, found.name)
            for file in files
            if (file.name in SEARCH_PICTURES) == is_search
        ]
        for is_search in (False, True)
    )
    made = found.metrics.made
    return replace(
        result_chapter(found.name, found.metrics, of_search),
        facts=[("evaluated", shown_date(made.date)), ("command", made.command)],
        pictures=shown,
    )


def result_chapter(
    name: str, metrics: SetMetrics, search_pictures: Sequence[Picture] = ()
) -> Chapter:
    """Makes the chapter of one set from its record."""
    parts, tables = [], []
    if metrics.search is not None:
        parts.append(search_chapter(metrics.search, name, search_pictures, metrics.unblinding))
    if metrics.cascade is not None:
        parts.append(cascade_chapter(metrics.cascade))
    if isinstance(metrics, LabelledMetrics):
        compared = result_table(metrics)
        if isinstance(metrics.search, Submission):  # which came before any label was read
            parts.append(Chapter("Classifiers, compared by the key", tables=[compared]))
        else:
            tables.append(compared)
        details = [difference_table(metrics)] if metrics.paired or metrics.contrasts else []
        details += [view_table(metrics)] if metrics.views else []
        details += [signal_table(metrics)] if metrics.by_signal else []
        details.append(cut_table(metrics))
        parts.append(Chapter("Differences, views and cuts", tables=details))
        if metrics.sculpting is not None:
            parts.append(sculpting_chapter(metrics.sculpting))
    parts.append(probability_chapter(metrics.calibration))
    return Chapter(
        title=f"Results on {name}",
        texts=[conclusion(name, metrics), *_sentences(metrics)],
        tables=tables,
        chapters=parts,
    )


def _sentences(metrics: SetMetrics) -> list[str]:
    sentences = []
    if isinstance(metrics, UnlabelledMetrics):
        sentences.append(
            f"{metrics.n_events} events without labels, so the scores cannot be compared with them."
        )
    if metrics.weak is not None:
        sentences.append(
            f"The run was trained without labels, on {metrics.weak}: the signal of its own test "
            "split are data of the region, and its probabilities are those of being data."
        )
    if metrics.n_excluded_as_seen:
        sentences.append(
            f"{metrics.n_excluded_as_seen} further events were seen in training or validation "
            "and are left out."
        )
    if metrics.hypothesis == OWN:
        sentences.append(
            "Each signal event is scored under its own hypothesis, exact and in words, and the "
            "background is shared out among these hypotheses as the signal is."
        )
    elif metrics.hypothesis is not None:
        sentences.append(
            f"All events are scored under the hypothesis '{metrics.hypothesis}'. Cuts and "
            "probabilities are from validation background and the nearest validation signals, "
            "scored alike."
        )
    if metrics.select is not None:
        sentences.append(
            f"Only events with {metrics.select}; {metrics.n_unselected} further events are left "
            "out. Validation events, on which cuts are chosen, are selected alike."
        )
    if isinstance(metrics, LabelledMetrics) and metrics.stack is not None:
        sentences.append(metrics.stack)
    return sentences


def _picture(file: Path, sample: str) -> Picture:
    words = file.stem.replace("_", " ").replace("-", " ")
    other = (f"{words}, as drawn by the evaluation", words)
    alt, caption = {**_PICTURES, **SEARCH_PICTURES}.get(file.name, other)
    return stored(file, f"{alt}; {sample}", caption)
