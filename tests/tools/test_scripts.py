"""Every script: its docstring says the command that runs it, and ``--help`` says its options."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    str(file.relative_to(ROOT))
    for file in sorted((ROOT / "tools").glob("*/*.py"))
    if '\nif __name__ == "__main__":' in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_how_it_is_run(
    script: str,
    load_tool: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool = load_tool(Path(script).stem)
    assert tool.__doc__ is not None
    assert re.search(rf"^ *python {re.escape(script)}\b", tool.__doc__, re.MULTILINE)
    if isinstance(tool.main, click.Command):
        asked = CliRunner().invoke(tool.main, ["--help"])
        assert asked.exit_code == 0, asked.output
        return
    monkeypatch.setattr("sys.argv", [script, "--help"])
    with pytest.raises(SystemExit) as stop:
        tool.main()
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_scripts_are_found() -> None:
    assert len(SCRIPTS) > 60
