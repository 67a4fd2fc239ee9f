"""Pictures as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from matplotlib.figure import Figure

from hepllm.evaluation.html.page import Picture


def drawn(figure: Figure, alt: str, caption: str) -> Picture:
    """A figure as vectors, which stay sharp in print."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(_uri("image/svg+xml", buffer.getvalue()), alt, caption)


def drawn_small(figure: Figure, alt: str, caption: str) -> Picture:
    """A figure as pixels, where there are many."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "hepllm"})
    return Picture(_uri("image/png", buffer.getvalue()), alt, caption)


def stored(file: Path, alt: str, caption: str) -> Picture:
    """A PNG file.

    Raises:
        OSError: if it cannot be read.
    """
    return Picture(_uri("image/png", file.read_bytes()), alt, caption)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
