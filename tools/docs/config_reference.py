"""Makes docs/config.md, the reference of all settings, from their declarations in hepllm.config.

python tools/docs/config_reference.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hepllm.config.reference import Setting, section_paths, settings_of, summary_of

PAGE = Path(__file__).parents[2] / "docs" / "config.md"

_INTRODUCTION = """\
# Settings

<!-- made by tools/docs/config_reference.py; change hepllm/config/*.py and run it again -->

A configuration is one YAML file for all commands; each takes it as `--config FILE`, and single
settings as `--set section.key=value`, which come on top. What is not given has its default.

    hepllm config                                  # every setting as it is in effect, with comments
    hepllm config --config my.yaml --section train # one section of a file, resolved
    hepllm config --init lhco-rnd > my.yaml        # a commented file to begin with
    hepllm config --json                           # the same for programs

Files are in `configs/`; a run, a dataset and a simulation keep theirs beside their output. In this
page, `[]` in a path stands for each item of a list, and `*` for each key of a mapping.
"""


def reference_page() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *map(_table, *zip(*section_paths(), strict=True))])


def _table(path: str, section: type) -> str:
    summary = _cell(summary_of(section))
    rows = [_row(setting) for setting in settings_of(section)]
    head = "| setting | values | default | unit | meaning |\n|---|---|---|---|---|"
    title = f"## `{path}`" if path else "## Top level"
    return "\n".join([f"{title}\n\n{summary}.\n", head, *rows, ""])


def _row(setting: Setting) -> str:
    default = "(required)" if setting.is_required else f"`{json.dumps(setting.default)}`"
    cells = [f"`{setting.name}`", setting.kind, default, setting.unit, setting.description]
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """A text that Markdown leaves as it is."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def main() -> None:
    """Writes the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(reference_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
