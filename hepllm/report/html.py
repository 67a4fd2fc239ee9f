"""A page as HTML.

The template escapes all text, and the page's content security policy forbids scripts and any
download, so that no text of a configuration can act.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from hepllm.report.page import Page


def as_html(page: Page) -> str:
    """Writes the page as HTML that needs no other file."""
    loader = PackageLoader(__package__ or __name__.rpartition(".")[0])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(page=page)
