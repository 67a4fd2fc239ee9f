"""Parts of a result or a report, independent of HTML, Markdown and plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase


@dataclass(frozen=True)
class Cell:
    """A number in a table.

    Attributes:
        text: rounded number; empty where it is undefined.
        value: exact number; None where it is undefined.
        interval: uncertainty of the number.
        note: note, such as the background events that pass; shown also without a number.
        reason: why the number or its interval is undefined.
    """

    text: str = ""
    value: float | None = None
    interval: str = ""
    note: str = ""
    reason: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether the number or its interval is undefined."""
        return bool(self.reason) and not (self.text and self.interval)


@dataclass(frozen=True)
class Row:
    """A row of a table: its name and a cell for each further column."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Group:
    """Rows under a common heading, which may be empty."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Table:
    """A table with its conventions.

    Attributes:
        caption: title.
        heads: headings of the columns, including that of the names.
        groups: groups of rows.
        notes: conventions, shown below the table.
    """

    caption: str
    heads: Sequence[str]
    groups: Sequence[Group]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raises ValueError where a row has not one cell for each further heading."""
        for row in (row for group in self.groups for row in group.rows):
            if len(row.cells) != len(self.heads) - 1:
                raise ValueError(
                    f"{self.caption}: {len(row.cells)} cells in '{row.name}', and "
                    f"{len(self.heads)} headings"
                )

    def marks(self) -> dict[str, str]:
        """Letters shown beside a dash, by its reason; empty texts if there is one reason only."""
        cells = [cell for group in self.groups for row in group.rows for cell in row.cells]
        reasons = dict.fromkeys(cell.reason for cell in cells if cell.is_missing)
        if len(reasons) < 2:
            return dict.fromkeys(reasons, "")
        return {
            reason: ascii_lowercase[place % 26] * (1 + place // 26)
            for place, reason in enumerate(reasons)
        }

    def remarks(self) -> list[str]:
        """The notes, and why numbers are undefined."""
        reasons = [f"-{mark}: {reason}" for reason, mark in self.marks().items()]
        return [*self.notes, *([f"{'; '.join(reasons)}."] if reasons else [])]


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with its alternative text and caption."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Listing:
    """A long text that is shown on request."""

    title: str
    text: str


@dataclass(frozen=True)
class Chapter:
    """A part of a page; its parts are shown in this order.

    Attributes:
        title: heading.
        texts: paragraphs.
        facts: names with values.
        tables: tables.
        pictures: pictures of full width.
        panels: small pictures side by side.
        panels_title: title above the panels.
        listings: long texts.
        chapters: subsections.
    """

    title: str
    texts: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    panels: Sequence[Picture] = ()
    panels_title: str = ""
    listings: Sequence[Listing] = ()
    chapters: Sequence[Chapter] = ()


@dataclass(frozen=True)
class Page:
    """A report: title, facts about its origin, and chapters."""

    title: str
    facts: Sequence[tuple[str, str]]
    chapters: Sequence[Chapter]
