"""What a result or a whole report consists of, before it becomes HTML, Markdown or plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase


@dataclass(frozen=True)
class Cell:
    """A number in a table.

    Attributes:
        text: as it is shown; empty where there is none.
        value: in full; None where there is none.
        interval: its uncertainty.
        note: such as the background events that it rests on; may stand without a number.
        reason: why there is no number, or no interval of it.
    """

    text: str = ""
    value: float | None = None
    interval: str = ""
    note: str = ""
    reason: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether the number or its interval does not exist, for a reason."""
        return bool(self.reason) and not (self.text and self.interval)


@dataclass(frozen=True)
class Row:
    """A row of a table: its name and a cell for each further column."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Group:
    """Rows under a heading of their own, which may be empty."""

    title: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Table:
    """A table with what its numbers mean.

    Attributes:
        caption: what it tells.
        heads: of the columns, that of the names included.
        groups: of rows.
        notes: conventions, below it.
    """

    caption: str
    heads: Sequence[str]
    groups: Sequence[Group]
    notes: Sequence[str] = ()

    def marks(self) -> dict[str, str]:
        """What is shown beside a dash, by the reason for it; empty where there is one reason."""
        cells = [cell for group in self.groups for row in group.rows for cell in row.cells]
        reasons = dict.fromkeys(cell.reason for cell in cells if cell.is_missing)
        if len(reasons) < 2:
            return dict.fromkeys(reasons, "")
        return {
            reason: ascii_lowercase[place % 26] * (1 + place // 26)
            for place, reason in enumerate(reasons)
        }

    def remarks(self) -> list[str]:
        """The notes, and why numbers are missing."""
        reasons = [f"-{mark}: {reason}" for reason, mark in self.marks().items()]
        return [*self.notes, *([f"{'; '.join(reasons)}."] if reasons else [])]


@dataclass(frozen=True)
class Picture:
    """A picture with its words.

    Attributes:
        uri: the picture itself, as a data URI.
        alt: what it shows, for those who do not see it.
        caption: below it.
    """

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Listing:
    """A long text that is shown on request.

    Attributes:
        title: what it is.
        text: as it stands in a file.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the page, in the order in which it is shown.

    Attributes:
        title: its heading.
        texts: paragraphs.
        facts: names with values.
        tables: of numbers.
        pictures: each of the full width.
        panels: small pictures side by side.
        panels_title: above them.
        listings: long texts.
        sections: parts of the part.
    """

    title: str
    texts: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    panels: Sequence[Picture] = ()
    panels_title: str = ""
    listings: Sequence[Listing] = ()
    sections: Sequence[Section] = ()


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: of the page.
        facts: when, by what and from what it was made.
        sections: its parts.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
