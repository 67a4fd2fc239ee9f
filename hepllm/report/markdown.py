"""Pages, chapters and tables as Markdown (GitHub's), without pictures and listings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hepllm.report.page import Cell, Chapter, Page, Table

_SPECIAL = re.compile(r"([\\`*\[<|~$&]|(?<!\w)_|_(?!\w)|^[#>]|^[-+](?=\s)|(?<=^\d)[.)](?=\s))")


def as_markdown(part: Page | Chapter | Table) -> str:
    """Writes paragraphs, lists and pipe tables, without a line break at the end."""
    if isinstance(part, Table):
        return "\n\n".join(_table(part))
    if isinstance(part, Chapter):
        return "\n\n".join(_chapter(part, 1))
    blocks = [f"# {_escaped(part.title)}", *_facts(part.facts)]
    return "\n\n".join([*blocks, *(block for one in part.chapters for block in _chapter(one, 2))])


def _chapter(chapter: Chapter, level: int) -> Iterator[str]:
    yield f"{'#' * min(level, 6)} {_escaped(chapter.title)}"
    for text in chapter.texts:
        yield _escaped(text)
    yield from _facts(chapter.facts)
    for table in chapter.tables:
        yield from _table(table)
    for part in chapter.chapters:
        yield from _chapter(part, level + 1)


def _facts(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Writes a list of names with values; nothing if it is empty."""
    if facts:
        yield "\n".join(f"- {_escaped(name)}: {_escaped(value)}" for name, value in facts)


def _table(table: Table) -> Iterator[str]:
    yield f"**{_escaped(table.caption)}**"
    marks = table.marks()
    lines = [_row(map(_escaped, table.heads)), _row(["---", *["---:"] * (len(table.heads) - 1)])]
    for group in table.groups:
        if group.title:
            lines.append(_row([f"*{_escaped(group.title)}*", *[""] * (len(table.heads) - 1)]))
        lines += [
            _row([_escaped(row.name), *(_cell(cell, marks) for cell in row.cells)])
            for row in group.rows
        ]
    yield "\n".join(lines)
    for text in table.remarks():
        yield _escaped(text)


def _cell(cell: Cell, marks: dict[str, str]) -> str:
    dash = f"-{marks.get(cell.reason, '')}"
    interval = f"[{dash}]" if cell.text and cell.is_missing else cell.interval
    note = f"({_escaped(cell.note)})" if cell.note else ""
    return " ".join(filter(None, (_escaped(cell.text) or dash, interval, note)))


def _row(cells: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Escapes all markup and joins lines."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
