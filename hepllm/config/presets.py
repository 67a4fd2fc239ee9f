"""The configuration files of the package, one per experiment.

They are in ``configs/`` of the source folder, and in ``hepllm/presets/`` of an installed package.
"""

from __future__ import annotations

from pathlib import Path

from hepllm.errors import ConfigError, nearest_name

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "presets", _PACKAGE.parent / "configs")


def preset_files() -> dict[str, Path]:
    """Files by preset name, in alphabetical order."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def suite_files() -> dict[str, Path]:
    """Files of suites of experiments by name, in alphabetical order."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {file.stem: file for file in sorted((folder / "suites").glob("*.yaml"))}


def preset_file(name: str) -> Path:
    """The file of a preset.

    Raises:
        ConfigError: there is no preset of this name.
    """
    files = preset_files()
    if name not in files:
        hint = nearest_name(name, files)
        raise ConfigError(f"no preset '{name}'{hint}; there are {', '.join(files)}")
    return files[name]
