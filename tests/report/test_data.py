"""A dataset in tables: every count and every feature, also where a class or a value is missing."""

from __future__ import annotations

from hepllm.data.manifest import CutFlowStep, SourceFile
from hepllm.data.summary import DatasetSummary, FeatureByClass, FeatureSummary
from hepllm.report.data import dataset_chapter
from hepllm.report.text import as_text

_NONE = FeatureSummary(median=None, low=None, high=None, missing=1.0)
_SOME = FeatureSummary(median=3500.25, low=3400.0, high=3612.5, missing=0.125)
_SUMMARY = DatasetSummary(
    dataset="data/rnd",
    digest="d1g",
    n_events=90,
    counts={
        split: {"signal": 0, "background": number, "unknown": 0}
        for split, number in {"train": 40, "val": 30, "test": 20, "all": 90}.items()
    },
    duplicate_events=7,
    sources=[SourceFile(name="rnd", file="rnd.h5", size=4711, sha256="ab" * 32, events=95)],
    cut_flow=[CutFlowStep(name="events read", events=95), CutFlowStep(name="two jets", events=90)],
    features={
        "m_jj": FeatureByClass(unit="GeV", mass_like=True, classes={"background": _SOME}),
        "jet1_tau21": FeatureByClass(unit="", mass_like=False, classes={"background": _NONE}),
    },
    page=None,
)


def _rows(summary: DatasetSummary, split: str | None = None) -> list[list[str]]:
    text = as_text(dataset_chapter(summary, "Dataset", split))
    return [line.split() for line in text.splitlines()]


def test_counts_sources_and_cut_flow_are_told() -> None:
    rows = _rows(_SUMMARY)
    assert ["rnd.h5", "95", "4711", "ab" * 32] in rows
    assert ["two", "jets", "90"] in rows
    assert ["split", "background"] in rows  # only labels that occur
    assert ["val", "30"] in rows
    assert ["more", "than", "once", "in", "a", "source", "7", "events"] in rows


def test_features_are_told_with_what_is_missing() -> None:
    rows = _rows(_SUMMARY)
    assert ["m_jj*", "[GeV]", "3500.2", "[3400,", "3612.5]", "12.5%"] in rows
    assert ["jet1_tau21", "-", "100.0%"] in rows
    assert ["Features,", "train"] in _rows(_SUMMARY, "train")


def test_a_class_that_a_split_lacks_is_a_dash() -> None:
    everywhere = {split: {"signal": 1, "background": 9, "unknown": 0} for split in _SUMMARY.counts}
    rows = _rows(_SUMMARY.model_copy(update={"counts": everywhere}))
    assert ["m_jj*", "[GeV]", "-a", "3500.2", "[3400,", "3612.5]", "12.5%"] in rows


def test_what_is_printed_as_json_has_every_key() -> None:
    tree = _SUMMARY.tree()
    assert tree["sources"][0]["masterkey"] is None
    assert tree["features"]["jet1_tau21"]["classes"]["background"] == {
        "median": None,
        "low": None,
        "high": None,
        "missing": 1.0,
    }
    assert tree["page"] is None
