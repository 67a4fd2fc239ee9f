"""The command that shows settings and their meaning."""

from __future__ import annotations

import json

import click

from hepllm import __version__
from hepllm.cli.options import Settings, common
from hepllm.config import Config, load_config
from hepllm.config.presets import preset_file, preset_files
from hepllm.config.reference import commented_yaml, settings_tree


@click.command(name="config")
@click.option("--defaults", is_flag=True, help="Show the defaults, and ignore --config and --set.")
@click.option("--section", default="", metavar="PATH", help="Show a part, such as train.loss.")
@click.option("--init", "preset", metavar="PRESET", help=f"Begin from {', '.join(preset_files())}.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of YAML.")
@common
def config(
    settings: Settings, *, defaults: bool, section: str, preset: str | None, as_json: bool
) -> None:
    """Show every setting with its value, meaning, unit and range.

    The output is a configuration file: hepllm config --init demo > my.yaml
    """
    if preset is not None and (defaults or settings.file is not None):
        raise click.UsageError("give --init, or --defaults, or --config")
    if preset is not None:
        shown = load_config(preset_file(preset), settings.overrides)
    else:
        shown = Config() if defaults else settings.load()
    if as_json:
        click.echo(json.dumps(settings_tree(shown, section), indent=1))
        return
    origin = f", from the preset {preset}" if preset is not None else ""
    head = (
        f"# Settings of hepllm {__version__}{origin}; settings that are left out have defaults.\n"
    )
    click.echo(head + commented_yaml(shown, section), nl=False)
