"""Options of several commands, and the configuration that results from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from hepllm.config import Config, load_config, override_config, settings_by_path
from hepllm.config.presets import preset_files
from hepllm.errors import ConfigError, InputError
from hepllm.logs import configure_logging

Command = TypeVar("Command", bound=Callable[..., None])

DATASET = Path("data/processed/rnd")
"""The dataset that commands take by default, unless there is only one and it is another."""

RAW = Path("data/raw")

PATH = click.Path(path_type=Path)
WORKERS = click.IntRange(min=0)
SPLIT = click.Choice(["train", "val", "test"])


class ManyValues(click.Command):
    """A command whose ``--against`` takes all values up to the next option, as from a glob."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeats the option before each of its values, which click can read."""
        repeated: list[str] = []
        collecting = False
        for place, arg in enumerate(args):
            if arg == "--":
                repeated += args[place:]
                break
            if arg == "--against":
                collecting = True
                if place + 1 == len(args) or args[place + 1].startswith("-"):
                    raise click.UsageError("--against needs at least one RUN", ctx)
            elif arg.startswith("-") and len(arg) > 1:
                collecting = False
                repeated.append(arg)
            else:
                repeated += ["--against", arg] if collecting else [arg]
        return super().parse_args(ctx, repeated)


@dataclass(frozen=True)
class Settings:
    """Options of every command.

    Attributes:
        file: the configuration file, if one was given.
        overrides: changes by ``--set`` and ``--seed``, such as ``train.lr=1e-4``.
    """

    file: Path | None
    overrides: tuple[str, ...]

    def load(self, **options: Any) -> Config:
        """The configuration with the command's own options on top; see ``as_overrides``."""
        return load_config(self.file, [*self.overrides, *as_overrides(options)])

    def on_top_of(self, config: Config, **options: Any) -> Config:
        """Another configuration with ``--set``, ``--seed`` and the command's own options."""
        return override_config(config, [*self.overrides, *as_overrides(options)])

    def refuse_others(self, read: Sequence[str], command: str) -> None:
        """Refuses changes by ``--set`` of what a command on a finished run does not read.

        Args:
            read: settings, or sections with a final dot, that it reads.
            command: its name.

        Raises:
            ConfigError: a setting would be ignored.
        """
        paths = [override.partition("=")[0].strip() for override in self.overrides]
        known = settings_by_path(Config())
        for path in paths:
            is_known = any(one == path or one.startswith(f"{path}.") for one in known)
            if is_known and not path.startswith((*read, "seed")):
                raise ConfigError(
                    f"--set {path}: not read by 'hepllm {command}', since the run was trained with "
                    f"its own; it reads {', '.join(one + '*' * one.endswith('.') for one in read)} "
                    "and seed"
                )


OF_SCORING = ("evaluation.", "train.threads")
"""Settings that commands read which score a dataset by a run."""

OF_READING = (*OF_SCORING, "preprocess.")
"""The same for commands that also read event files."""


def dataset_or_only(named: Path | None) -> Path:
    """The dataset that a command takes: the one that was named, the default, or the only one.

    Raises:
        InputError: there are several, and none has the default name.
    """
    if named is not None or DATASET.exists():
        return named or DATASET
    found = sorted(file.parent for file in DATASET.parent.glob("*/manifest.json"))
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise InputError(f"{DATASET}: no such dataset; name one of {names}")
    return found[0] if found else DATASET


def file_or_preset(text: str) -> Path:
    """The configuration file of this name, or else the preset."""
    return Path(text) if Path(text).exists() else preset_files().get(text, Path(text))


def default(path: str) -> str:
    """The default of a setting, for the help of an option that changes it."""
    value = settings_by_path(Config())[path]
    return f"[{value:,}]" if isinstance(value, int) and value > 999 else f"[{value}]"


hypothesis_option = click.option(
    "--hypothesis", metavar="TEXT", help="Signal to look for, in words [none is stated]."
)


def number_or_word(text: str) -> float | str:
    """The value of an option that may be a number or a word."""
    try:
        return float(text)
    except ValueError:
        return text


def path_or_none(text: str) -> Path | Literal["none"]:
    """The value of an option that names a file, or none; a file of this name is ``./none``."""
    return "none" if text == "none" else Path(text)


def as_overrides(options: Mapping[str, Any]) -> list[str]:
    """Options as texts like ``train.lr=1e-4``; ``__`` in a name is a dot, None is left out."""
    return [
        f"{path.replace('__', '.')}={json.dumps(value)}"
        for path, value in options.items()
        if value is not None
    ]


def print_reports(reports: Sequence[Any], trees: Mapping[str, Any], *, as_json: bool) -> None:
    """Prints reports, each with ``text`` and ``files``, or their trees as one JSON document."""
    if as_json:
        click.echo(json.dumps(trees, indent=1))
        return
    for report in reports:
        click.echo(report.text)
        for file in report.files:
            click.echo(f"  {file}")
        click.echo()


def common(command: Command) -> Command:
    """Adds the options of every command and passes them as ``settings``."""

    @click.option(
        "--config",
        "file",
        type=file_or_preset,
        metavar="FILE|PRESET",
        help=f"YAML configuration of all stages, or one of {', '.join(preset_files())}.",
    )
    @click.option(
        "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting."
    )
    @click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of everything random [1]."
    )
    @click.option("-v", "--verbose", count=True, help="Log more.")
    @click.option("-q", "--quiet", is_flag=True, help="Log only warnings.")
    @wraps(command)
    def with_settings(
        *args: Any,
        file: Path | None,
        overrides: Sequence[str],
        seed: int | None,
        verbose: int,
        quiet: bool,
        **options: Any,
    ) -> None:
        configure_logging(-1 if quiet else verbose)
        chosen = (*overrides, *as_overrides({"seed": seed}))
        command(*args, settings=Settings(file, chosen), **options)

    return with_settings  # type: ignore[return-value]
