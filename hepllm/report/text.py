"""Pages, chapters and tables as plain text for the terminal, at most 120 columns wide.

Pictures and listings are left out. A wider table is split into several blocks of columns, each with
the names of the rows.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hepllm.report.page import Cell, Chapter, Group, Page, Table

WIDTH = 120

_NAME_WIDTH = 48
_GAP = 2
_RULES = "=-~"
_ASCII = str.maketrans({"ε": "eps", "√": "sqrt", "≥": ">=", "≤": "<=", "–": "-"})  # noqa: RUF001


def as_text(part: Page | Chapter | Table) -> str:
    """Writes lines of at most 120 characters, without a line break at the end."""
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Chapter):
        return "\n\n".join(_chapter(part, 0))
    blocks = [_heading(part.title, 0), *_facts(part.facts)]
    return "\n\n".join([*blocks, *(block for one in part.chapters for block in _chapter(one, 1))])


def _chapter(chapter: Chapter, level: int) -> Iterator[str]:
    yield _heading(chapter.title, level)
    for text in chapter.texts:
        yield "\n".join(_wrap(text))
    yield from _facts(chapter.facts)
    for table in chapter.tables:
        yield _table(table)
    for part in chapter.chapters:
        yield from _chapter(part, level + 1)


def _heading(title: str, level: int) -> str:
    lines = _wrap(title)
    return "\n".join([*lines, _RULES[min(level, len(_RULES) - 1)] * max(map(len, lines))])


def _facts(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Writes names with values as one block; nothing if there are none."""
    if not facts:
        return
    indent = min(_NAME_WIDTH, max(len(_plain(name)) for name, _ in facts)) + _GAP
    lines = [
        line
        for name, value in facts
        for line in _wrap(f"{_plain(name).ljust(indent - 1)} {value}", " " * indent)
    ]
    yield "\n".join(lines)


@dataclass(frozen=True)
class _Column:
    """A column of cells, each of several lines, aligned to the left or to the right."""

    head: str
    cells: Sequence[Sequence[str]]
    is_left: bool = False

    @property
    def width(self) -> int:
        return max(
            len(line) for line in (self.head, *(line for cell in self.cells for line in cell))
        )

    def aligned(self, line: str) -> str:
        return line.ljust(self.width) if self.is_left else line.rjust(self.width)


def _table(table: Table) -> str:
    names = _names(table)
    room = WIDTH - names.width
    columns = [
        _columns(table, place, head, room - _GAP) for place, head in enumerate(table.heads[1:])
    ]
    blocks = [_block(table.groups, [names, *chosen]) for chosen in _fitting(columns, room)]
    remarks = [line for text in table.remarks() for line in _wrap(text)]
    return "\n".join([*_wrap(table.caption), "\n\n".join(blocks), *remarks])


def _names(table: Table) -> _Column:
    """Makes the column of the names of rows, indented under a heading."""
    cells = [
        textwrap.wrap(
            _plain(row.name), _NAME_WIDTH, initial_indent=indent, subsequent_indent=indent
        )
        or [""]
        for group in table.groups
        for indent in ("  " if group.title else "",)
        for row in group.rows
    ]
    return _Column(_plain(table.heads[0]), cells, is_left=True)


def _columns(table: Table, place: int, head: str, limit: int) -> list[_Column]:
    """Makes a column of numbers with their intervals, and one of their notes if there are any."""
    cells = [row.cells[place] for group in table.groups for row in group.rows]
    words = [_plain(cell.note) for cell in cells]
    unit = _common_word(words)
    notes = _Column(unit, [[word.removeprefix(unit).lstrip()] for word in words])
    parts = [notes] if any(words) else []
    limit -= sum(part.width + _GAP for part in parts)
    marks = table.marks()
    numbers = [textwrap.wrap(_shown(cell, marks), limit) or [""] for cell in cells]
    is_left = all(cell.value is None for cell in cells) and any(cell.text for cell in cells)
    return [_Column(_plain(head), numbers, is_left), *parts]


def _shown(cell: Cell, marks: Mapping[str, str]) -> str:
    """Writes a number with its interval, and a dash for each that is undefined."""
    dash = f"-{marks.get(cell.reason, '')}"
    interval = f"[{dash}]" if cell.text and cell.is_missing else cell.interval
    return f"{_plain(cell.text) or dash} {interval}".rstrip()


def _common_word(notes: Sequence[str]) -> str:
    """Finds the common first word of all notes, such as N_b; empty if there is none."""
    words = {note.partition(" ")[0] for note in notes if " " in note}
    return words.pop() if len(words) == 1 and all(" " in note for note in notes if note) else ""


def _fitting(columns: Iterable[list[_Column]], room: int) -> Iterator[list[_Column]]:
    """Groups columns that fit side by side in ``room`` characters."""
    chosen: list[_Column] = []
    for parts in columns:
        if chosen and sum(one.width + _GAP for one in (*chosen, *parts)) > room:
            yield chosen
            chosen = []
        chosen = [*chosen, *parts]
    yield chosen


def _block(groups: Sequence[Group], columns: Sequence[_Column]) -> str:
    head = _line(columns, [column.head for column in columns])
    width = sum(column.width for column in columns) + _GAP * (len(columns) - 1)
    lines, place = [head, "-" * width], 0
    for group in groups:
        lines += [f"{_plain(group.title)}{':' if group.rows else ''}"] if group.title else []
        for _ in group.rows:
            cells = [column.cells[place] for column in columns]
            for number in range(max(map(len, cells))):
                lines.append(
                    _line(columns, [cell[number] if number < len(cell) else "" for cell in cells])
                )
            place += 1
    return "\n".join(lines)


def _line(columns: Sequence[_Column], cells: Sequence[str]) -> str:
    padded = (column.aligned(cell) for column, cell in zip(columns, cells, strict=True))
    return (" " * _GAP).join(padded).rstrip()


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(_plain(text), WIDTH, subsequent_indent=indent) or [""]


def _plain(text: str) -> str:
    return text.translate(_ASCII)
