"""One table as HTML, plain text and Markdown: nothing lost, nothing too wide, nothing as markup."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.report.html import as_html
from hepllm.report.markdown import as_markdown
from hepllm.report.page import Cell, Chapter, Group, Page, Row, Table
from hepllm.report.text import WIDTH, as_text

SIC = Table(
    "Classifiers",
    ("", "AUC", "SIC(0.5)"),
    [
        Group(
            "",
            [
                Row(
                    "llm",
                    [
                        Cell("0.979", 0.979, "[0.970, 0.987]"),
                        Cell("9.7", 9.71, "[7.3, 20.2]", "N_b 13"),
                    ],
                ),
                Row(
                    "cut", [Cell(reason="no signal events"), Cell(note="N_b 3", reason="N_b < 10")]
                ),
            ],
        ),
        Group("llm with less", [Row("text_only", [Cell("0.5", 0.5), Cell(reason="N_b < 10")])]),
    ],
    ["SIC(x) = ε_S / √(ε_B) at the tightest cut with ε_S ≥ x."],
)

NUMBERS = st.builds(
    Cell,
    text=st.text("0123456789.+-eE abc", max_size=90),
    interval=st.sampled_from(["", "[0.1, 0.2]", "[-10.25, 1234.5]"]),
    note=st.sampled_from(["", "N_b 7", "N_b 1234567", "37 of 771"]),
    reason=st.sampled_from(["", "too few", "no labels"]),
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n_columns = draw(st.integers(0, 12))
    row = st.builds(
        Row,
        st.text("xyz _-/", max_size=150),
        st.lists(NUMBERS, min_size=n_columns, max_size=n_columns),
    )
    group = st.builds(Group, st.sampled_from(["", "a title"]), st.lists(row, max_size=4))
    heads = draw(
        st.lists(st.text("HED", max_size=12), min_size=n_columns + 1, max_size=n_columns + 1)
    )
    groups = draw(st.lists(group, max_size=3))
    return Table("what it tells " * draw(st.integers(1, 20)), heads, groups, ["a note " * 40])


def test_plain_text_aligns_numbers_and_tells_reasons() -> None:
    assert as_text(SIC).splitlines() == [
        "Classifiers",
        "                              AUC         SIC(0.5)  N_b",
        "-------------------------------------------------------",
        "llm          0.979 [0.970, 0.987]  9.7 [7.3, 20.2]   13",
        "cut                            -a               -b    3",
        "llm with less:",
        "  text_only                   0.5               -b",
        "SIC(x) = eps_S / sqrt(eps_B) at the tightest cut with eps_S >= x.",
        "-a: no signal events; -b: N_b < 10.",
    ]


@given(tables())
def test_plain_text_is_narrow_and_whole(table: Table) -> None:
    text = as_text(table)
    assert max(map(len, text.splitlines())) <= WIDTH
    words = set(text.split())
    for group in table.groups:
        for row in group.rows:
            for cell in row.cells:
                shown = (cell.text, cell.interval) if cell.text.strip() else ()
                assert all(
                    word in words for part in shown for word in part.split() if len(word) < 20
                )


def test_a_wide_table_becomes_blocks_with_all_names() -> None:
    cells = [Cell("1.00", 1.0, "[0.99, 1.01]", "N_b 5")] * 7
    rows = [Row(name, cells) for name in ("first", "second")]
    heads = ("", *(f"column {place}" for place in range(7)))
    text = as_text(Table("wide", heads, [Group("", rows)]))
    assert text.count("second") > 1
    assert all(text.count(head) == 1 for head in heads[1:])
    assert text.count("[0.99, 1.01]") == 14


@pytest.mark.parametrize(
    "nasty", ["a | b", "<b>x</b>", "_y_ *z* `w`", "[t](http://u)", "# h", "$x$"]
)
def test_markdown_shows_what_stands_there(nasty: str) -> None:
    table = Table(
        nasty, ("", nasty), [Group(nasty, [Row(nasty, [Cell(nasty, note=nasty)])])], [nasty]
    )
    chapter = Chapter(nasty, [nasty], [(nasty, nasty)], [table])
    text = as_markdown(Page(nasty, [], [chapter]))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}
    assert not re.search(r"(?<!\\)(<b>|\[t]|`w`|\*z\*|\$x)", text)
    assert text.startswith("# ")


def test_markdown_has_pipe_tables_with_reasons() -> None:
    assert as_markdown(SIC).splitlines()[2:] == [
        "|  | AUC | SIC(0.5) |",
        "| --- | ---: | ---: |",
        "| llm | 0.979 [0.970, 0.987] | 9.7 [7.3, 20.2] (N_b 13) |",
        "| cut | -a | -b (N_b 3) |",
        "| *llm with less* |  |  |",
        "| text_only | 0.5 | -b |",
        "",
        r"SIC(x) = ε_S / √(ε_B) at the tightest cut with ε_S ≥ x.",
        "",
        r"-a: no signal events; -b: N_b \< 10.",
    ]


@pytest.mark.parametrize("n_cells", [1, 3])
def test_a_table_has_a_cell_for_each_heading(n_cells: int) -> None:
    with pytest.raises(ValueError, match=f"counts: {n_cells} cells in 'row', and 3 headings"):
        Table("counts", ("name", "a", "b"), [Group("", [Row("row", [Cell("1")] * n_cells)])])


def test_sections_nest_in_every_form() -> None:
    page = Page(
        "report",
        [("run", "runs/demo")],
        [
            Chapter(
                "Results", ["A paragraph."], [("prior", "1:1")], [SIC], chapters=[Chapter("Cuts")]
            )
        ],
    )
    text, markdown, html = as_text(page), as_markdown(page), as_html(page)
    assert (
        "report\n======\n\nrun  runs/demo\n\nResults\n-------\n\nA paragraph.\n\nprior  1:1" in text
    )
    assert text.endswith("\n\nCuts\n~~~~")
    assert "# report\n\n- run: runs/demo\n\n## Results\n\nA paragraph.\n\n- prior: 1:1" in markdown
    assert markdown.endswith("\n\n### Cuts")
    assert "<h3>Cuts</h3>" in html
    assert '<td class="none" title="N_b &lt; 10">' in html
