"""Records in files: the keys side by side, what is unset, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hepllm.errors import InputError
from hepllm.records import At, Events, FileRecord, Quantity


class Estimate(Quantity):
    value: float | None
    """The number."""

    interval: tuple[float, float] | None
    """Its interval."""


class Result(FileRecord):
    schema_version: int = 3
    n_events: Events
    """Events."""

    auc: Estimate
    """Area."""

    sic_at: At[Estimate]
    """SIC."""

    note: str | None = None
    """If there is one."""


RESULT = Result(
    n_events=3,
    auc=Estimate(value=0.9, interval=(0.8, 1.0)),
    sic_at={"0.1": Estimate(value=None, interval=None), "0.5": Estimate(value=2.0, interval=None)},
)
TREE: dict[str, Any] = {
    "schema_version": 3,
    "n_events": 3,
    "auc": 0.9,
    "auc_interval": [0.8, 1.0],
    "sic_at_0.1": None,
    "sic_at_0.1_interval": None,
    "sic_at_0.5": 2.0,
    "sic_at_0.5_interval": None,
}


def test_keys_stand_side_by_side_and_are_read_back(tmp_path: Path) -> None:
    assert list(RESULT.tree().items()) == list(TREE.items())
    RESULT.write(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text()) == TREE
    assert Result.read(tmp_path / "result.json", "mend it") == RESULT


def test_every_field_has_its_sentence() -> None:
    assert Result.model_fields["auc"].description == "Area."
    assert Estimate.model_fields["interval"].description == "Its interval."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version is 2, expected 3; mend it"),
        ({"schema_version": None}, "schema_version is None"),
        ({"auc_interval": "wide"}, r"auc\.interval .*; mend it"),
        ({"n_events": None}, "n_events"),
        ({"sic_at_0.5": float("nan")}, r"sic_at\.0\.5\.value"),
    ],
)
def test_other_files_are_refused_in_one_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(TREE | change))
    with pytest.raises(InputError, match=message) as caught:
        Result.read(file, "mend it")
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"half'])
def test_broken_files_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    with pytest.raises(InputError, match="not readable"):
        Result.read(file, "mend it")
    file.write_text(text)
    with pytest.raises(InputError, match="not readable"):
        Result.read(file, "mend it")


def test_missing_keys_are_named_and_further_ones_ignored(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps(TREE | {"later": 1}))
    assert Result.read(file, "") == RESULT
    file.write_text(json.dumps({key: TREE[key] for key in TREE if key != "auc_interval"}))
    with pytest.raises(InputError, match=r"auc\.interval \(Field required\)"):
        Result.read(file, "")


def test_records_are_frozen_and_finite() -> None:
    with pytest.raises(ValidationError):
        RESULT.n_events = 4  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Estimate(value=float("inf"), interval=None)
