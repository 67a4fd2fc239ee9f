"""Parses single events of HepMC text files, versions 2 (IO_GenEvent) and 3 (Asciiv3).

An event is a line ``E``, then lines of units (``U``), weights and their names (``W``, ``N``),
vertices (``V``) and particles (``P``). Only final particles are wanted, so no graph is built: a
library that builds one fails for some valid files, and crashes for others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hepllm.arrays import Floats

_LISTING = re.compile(rb"^HepMC::(\w+)-START_EVENT_LISTING", re.MULTILINE)


class _Layout(NamedTuple):
    """Places in the lines of particles.

    Attributes:
        pid: place of the PDG code, which px, py and pz follow.
        status: place of the generator's status.
        least: smallest number of words.
    """

    pid: int
    status: int
    least: int


_LAYOUTS = {2: _Layout(pid=2, status=8, least=13), 3: _Layout(pid=3, status=9, least=10)}


@dataclass(frozen=True)
class GeneratedEvent:
    """What is read of an event.

    Attributes:
        pid: PDG codes of the N final particles (status 1), shape (N,).
        momentum: their px, py, pz in GeV, shape (3, N).
        weights: of the event.
        weight_names: their names, if the file has any.
    """

    pid: Floats
    momentum: Floats
    weights: tuple[float, ...]
    weight_names: tuple[str, ...]

    def weight(self, wanted: str | int) -> float | None:
        """A weight by its name or place; None if there is none."""
        if isinstance(wanted, int):
            place = wanted
        else:
            place = self.weight_names.index(wanted) if wanted in self.weight_names else -1
        return self.weights[place] if 0 <= place < len(self.weights) else None


def version_of(head: bytes) -> int | None:
    """The version of the format, 2 or 3, from the head of a file; None if it is another one."""
    listing = _LISTING.search(head)
    return {b"IO_GenEvent": 2, b"Asciiv3": 3}.get(listing[1]) if listing else None


def names_in_head(head: bytes) -> tuple[str, ...]:
    """Names of the weights in the head of a file of version 3."""
    line = next((line for line in head.splitlines() if line.startswith(b"W ")), b"W ")
    plain = re.sub(rb"\\(.)", lambda found: b"\n" if found[1] == b"|" else found[1], line[2:])
    return tuple(name.decode(errors="replace") for name in plain.split(b"\n") if name)


def parse_event(text: bytes, version: int, names: tuple[str, ...]) -> GeneratedEvent:
    """Parses an event.

    Args:
        text: its lines, from ``E`` on; they end at a line ``HepMC::``.
        version: of the format.
        names: of the weights, as the head of the file states them.

    Raises:
        ValueError: the event is damaged or cut short.
    """
    text = text.partition(b"\nHepMC::")[0]
    particles: list[list[bytes]] = []
    others: list[list[bytes]] = []
    for line in text.split(b"\n"):
        (particles if line.startswith(b"P ") else others).append(line.split())
    first = {words[0]: words for words in reversed(others) if words}
    count = _count_2(others) if version == 2 else int(first[b"E"][3])
    layout = _LAYOUTS[version]
    if len(particles) != count or any(len(words) < layout.least for words in particles):
        raise ValueError(f"{len(particles)} particles, expected {count}")
    final = [words for words in particles if words[layout.status] == b"1"]
    first_word, last_word = layout.pid, layout.pid + 4
    numbers = [[float(word) for word in words[first_word:last_word]] for words in final]
    pid, px, py, pz = np.array(numbers, dtype=np.float64).reshape(-1, 4).T
    in_mev = first.get(b"U", [b"U", b"GEV"])[1] == b"MEV"
    if version == 2:
        weights, names = _weights_2(first[b"E"]), _names_2(text)
    else:
        weights = tuple(map(float, first.get(b"W", [])[1:]))
    momentum = np.stack([px, py, pz]) * (1e-3 if in_mev else 1.0)
    return GeneratedEvent(pid, momentum, weights, names)


def _count_2(lines: Sequence[Sequence[bytes]]) -> int:
    """The number of particles that the vertices of version 2 state."""
    vertices = [words for words in lines if words and words[0] == b"V"]
    stated = int(lines[0][8])
    if len(vertices) != stated:
        raise ValueError(f"{len(vertices)} vertices, expected {stated}")
    return sum(int(words[7]) + int(words[8]) for words in vertices)


def _weights_2(words: Sequence[bytes]) -> tuple[float, ...]:
    """Weights at the end of the line ``E``, after the states of random generators."""
    place = 12 + int(words[11])
    weights = words[place + 1 : place + 1 + int(words[place])]
    if len(weights) != int(words[place]):
        raise ValueError("fewer weights than stated")
    return tuple(map(float, weights))


def _names_2(text: bytes) -> tuple[str, ...]:
    line = re.search(rb"^N \d+(.*)$", text, re.MULTILINE)
    quoted = re.findall(rb'"([^"]*)"', line[1]) if line else []
    return tuple(name.decode(errors="replace") for name in quoted)
