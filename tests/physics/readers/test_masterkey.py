"""Keys of black boxes, and every wrong one with one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepllm.errors import InputError
from hepllm.physics.readers.masterkey import read_masterkey


def test_masterkey_of_the_official_form(tmp_path: Path) -> None:
    path = tmp_path / "bb.masterkey"
    path.write_text("0.0\n1.0\n0.0\n2.0\n")
    assert read_masterkey(path, 4).tolist() == [0, 1, 0, 2]


def test_the_real_masterkey(reference_data: Path) -> None:
    path = reference_data / "lhco" / "events_LHCO2020_BlackBox1.masterkey"
    key = read_masterkey(path, 1_000_000)
    assert (key == 1).sum() == 834
    with pytest.raises(InputError, match="1000000 labels for 5000 events"):
        read_masterkey(path, 5000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0.0\n1.0\n", "2 labels for 3 events"),
        ("0.0\n1.0\n0.0\n0.0\n", "4 labels for 3 events"),
        ("", "0 labels for 3 events"),
        ("0.0\nsignal\n0.0\n", "entry 2: expected 0.0 or 1.0, found 'signal'"),
        ("0.0\n1.0\n0.5\n", "entry 3: expected 0.0 or 1.0, found 0.5"),
        ("0.0\n-1\n0\n", "entry 2: expected 0.0 or 1.0, found -1"),
        ("0.0\nnan\n0\n", "entry 2: expected 0.0 or 1.0, found nan"),
        ("3\n0\n0\n", "entry 1: expected 0.0 or 1.0, found 3"),
    ],
)
def test_wrong_masterkeys(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bb.masterkey"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_masterkey(path, 3)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_missing_masterkey(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such master key"):
        read_masterkey(tmp_path / "absent", 3)
