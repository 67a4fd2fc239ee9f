"""The documentation: links that lead somewhere, short pages, named files that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
REFERENCES = ("config.md", "metrics.md")
"""Made by a tool from the code; as long as the code makes them."""

LONGEST = 150

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"```.*?```", re.DOTALL)
_FILE = re.compile(
    r"(?<![\w./-])((?:hepllm|tests|tools|docs|configs|pipelines)/(?:[\w-]+/)*(?:[\w-]+\.\w+)?)"
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(
        r"^#+ (.*)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in _LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A *b* c\n[a](gone.md) [b](#a-b-c) [c](#gone) [d](https://example.org)\n")
    assert broken_links(page) == ["gone.md", "#gone"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_are_short(page: Path) -> None:
    n_lines = len(page.read_text(encoding="utf-8").splitlines())
    assert n_lines < LONGEST or page.name in REFERENCES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page: Path) -> None:
    named = set(_FILE.findall(page.read_text(encoding="utf-8")))
    assert sorted(file for file in named if not (ROOT / file).exists()) == []


def test_every_page_is_on_the_front_page() -> None:
    front = ROOT / "docs" / "README.md"
    linked = {(front.parent / link).resolve() for link in _LINK.findall(front.read_text("utf-8"))}
    results = ROOT / "docs" / "results"  # its pages are listed by docs/results.md
    pages = {page for page in PAGES if front.parent in page.parents and results not in page.parents}
    assert pages - linked == {front}


def test_the_map_names_every_folder_of_the_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = [file.parent.name for file in (ROOT / "hepllm").glob("*/__init__.py")]
    assert len(folders) > 15
    assert [one for one in folders if f"`hepllm/{one}/`" not in text] == []


def test_the_layers_are_those_that_lint_imports_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    lines = [
        "    " + " · ".join(one.removeprefix("hepllm.") for one in re.split(r" [|:] ", layer))
        for layer in layers
    ]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = text.partition("checks this):\n\n")[2].partition("\n\n")[0].splitlines()
    assert [set(one.split()) for one in told] == [set(one.split()) for one in lines]
