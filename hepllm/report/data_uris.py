"""Pictures as data URIs."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from hepllm.pictures.style import drawn_as
from hepllm.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawn(figure: Figure, alt: str, caption: str) -> Picture:
    """Draws a figure as SVG, which stays sharp in print."""
    return Picture(_uri("image/svg+xml", drawn_as(figure, "svg")), alt, caption)


def drawn_small(figure: Figure, alt: str, caption: str) -> Picture:
    """Draws a figure as PNG, for pages with many figures."""
    return Picture(_uri("image/png", drawn_as(figure, "png")), alt, caption)


def stored(file: Path, alt: str, caption: str) -> Picture:
    """Reads a PNG file.

    Raises:
        OSError: if it cannot be read.
    """
    return Picture(_uri("image/png", file.read_bytes()), alt, caption)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
