"""The files in ``configs/``, which the package ships as presets."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepllm.config.presets import preset_file, preset_files
from hepllm.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def test_every_file_is_a_preset() -> None:
    assert [file.read_text() for file in preset_files().values()] == [
        file.read_text() for file in CONFIGS
    ]
    assert list(preset_files()) == [file.stem for file in CONFIGS]


def test_an_unknown_preset_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no preset 'demos' \(did you mean 'demo'\?\)"):
        preset_file("demos")


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_key_has_a_comment_that_says_why(file: Path) -> None:
    silent, parent = [], ""
    for line in file.read_text().splitlines():
        if line.partition("#")[0].rstrip().endswith(":"):
            parent = line.strip()
        # The columns of a table are explained above them.
        elif "#" not in line and not parent.startswith("columns: #"):
            silent.append(line)
    assert not silent
