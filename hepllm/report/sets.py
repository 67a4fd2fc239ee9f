"""The part of a report about one evaluated set: its numbers and the pictures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from hepllm.evaluation.curves import SampleCurves
from hepllm.provenance import shown_date
from hepllm.report.cascade import cascade_section
from hepllm.report.data_uris import stored
from hepllm.report.page import Picture, Section
from hepllm.report.search import PICTURES as SEARCH_PICTURES
from hepllm.report.search import search_section
from hepllm.report.tables import (
    Tree,
    cut_table,
    difference_table,
    events_text,
    has_labels,
    result_table,
    top_table,
    view_table,
)
from hepllm.search.records import NoSearch, Submission

_PICTURES: Mapping[str, tuple[str, str]] = {
    "sic.png": (
        "SIC against signal efficiency for every classifier, with bootstrap bands",
        "Significance improvement (SIC). Triangles: at the cut chosen on validation data.",
    ),
    "roc.png": (
        "Background rejection against signal efficiency for every classifier, with bootstrap bands",
        "ROC curves: background rejection 1/ε_B of every classifier.",
    ),
    "scores.png": (
        "Histograms of the language model's score for signal and for background events",
        "Score of the language model by class, with statistical errors.",
    ),
    "reliability.png": (
        "Observed share of signal against the predicted probability, before and after calibration",
        "Reliability of the probabilities, in this sample's own mixture.",
    ),
}
"""What is seen in a picture, and what stands below it; others are named after their file."""


@dataclass(frozen=True)
class EvaluatedSet:
    """What ``hepllm eval`` left about one set.

    Attributes:
        name: of the set.
        metrics: the content of ``metrics.json``.
        curves: the content of ``curves.json``; None where there is none.
        pictures: PNG files.
    """

    name: str
    metrics: Tree
    curves: SampleCurves | None
    pictures: Sequence[Path]


def set_section(found: EvaluatedSet) -> Section:
    """Everything about one set.

    Raises:
        OSError: if a picture cannot be read.
        KeyError: if the metrics are of an older version and lack something.
    """
    tree = found.metrics
    parts = []
    if "search" in tree:
        shown = [file for file in _in_order(found.pictures) if _of_search(file)]
        pictures = [_picture(one, found.name) for one in shown]
        parts.append(search_section(_read_search(tree["search"]), found.name, pictures))
    if "cascade" in tree:
        parts.append(cascade_section(tree["cascade"]))
    if has_labels(tree):
        parts.append(_detail_section(tree))
    parts.append(_probability_section(tree["calibration"]))
    others = [file for file in _in_order(found.pictures) if not _of_search(file)]
    return Section(
        title=f"Results on {found.name}",
        texts=[_sentences(tree)],
        facts=[
            ("evaluated", shown_date(tree["made"]["date"])),
            ("command", tree["made"]["command"]),
        ],
        tables=[result_table(tree)] if has_labels(tree) else [],
        pictures=[_picture(file, found.name) for file in others],
        sections=parts,
    )


def _read_search(tree: Tree) -> Submission | NoSearch:
    kind = NoSearch if "problem" in tree else Submission
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise KeyError(".".join(map(str, ("search", *error.errors()[0]["loc"])))) from None


def _detail_section(tree: Tree) -> Section:
    tables = (difference_table(tree), view_table(tree), cut_table(tree))
    return Section(
        "Differences, mixtures and cuts", tables=[table for table in tables if table is not None]
    )


def _sentences(tree: Tree) -> str:
    sentences = [f"{events_text(tree)}."]
    if tree.get("n_excluded_as_seen"):
        sentences.append(
            f"{tree['n_excluded_as_seen']} further events were seen in training or validation "
            "and are left out."
        )
    if isinstance(tree.get("stack"), str):
        sentences.append(tree["stack"])
    if not has_labels(tree):
        sentences.append("Without labels there is nothing to compare the scores with.")
    return " ".join(sentences)


def _probability_section(calibration: Tree) -> Section:
    facts = [("calibration", str(calibration["method"])), ("prior", str(calibration["prior"]))]
    if "prior_assumption" in calibration:
        facts.append(("the estimate", str(calibration["prior_assumption"])))
    if "ece" in calibration:
        facts += [
            ("calibration error", f"{calibration['ece']:.4f}"),
            ("uncalibrated", f"{calibration['ece_uncalibrated']:.4f}"),
            ("if probabilities held exactly", f"{calibration['ece_if_perfect']:.4f}"),
        ]
    table = top_table(calibration)
    return Section("Probabilities", facts=facts, tables=[] if table is None else [table])


def _in_order(files: Sequence[Path]) -> list[Path]:
    """Pictures that are known first, in their order, then the others by name."""
    place = {name: index for index, name in enumerate((*_PICTURES, *SEARCH_PICTURES))}
    return sorted(files, key=lambda file: (place.get(file.name, len(place)), file.name))


def _of_search(file: Path) -> bool:
    return file.name in SEARCH_PICTURES


def _picture(file: Path, sample: str) -> Picture:
    words = file.stem.replace("_", " ").replace("-", " ")
    other = (f"{words}, as drawn by the evaluation", words)
    alt, caption = {**_PICTURES, **SEARCH_PICTURES}.get(file.name, other)
    return stored(file, f"{alt}; {sample}", caption)
