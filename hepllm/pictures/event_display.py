"""A picture of one event in the eta-phi plane: jets as circles, particles as points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.pictures.style import COLOURS, save_figure

_WIDTH = 6.2
"""Width of the plane in inches."""

_MARGINS = (0.85, 0.6, 2.9, 0.4)
"""Margins in inches: left, below, right (with the legend), above."""

_LEAST_REACH = 3.0
"""Smallest range in eta on each side, so that the picture is never narrow."""

_LARGEST = 400.0
"""Area of the hardest particle in square points."""

_SMALLEST = 2.0
_KEY_PT = (10.0, 100.0, 1000.0)
_GREY = "0.6"


@dataclass(frozen=True)
class DisplayedJet:
    """A jet of one event; GeV, radians, mass NaN where unknown."""

    name: str
    pt: float
    eta: float
    phi: float
    mass: float


@dataclass(frozen=True, eq=False)
class DisplayedParticles:
    """Particles of one event.

    Attributes:
        pt: (P,) in GeV.
        eta: (P,).
        phi: (P,) in radians.
        jet: (P,) number of the jet, from 1; 0 for none.
        complete: whether these are all particles, not only the hardest of each jet.
    """

    pt: Floats
    eta: Floats
    phi: Floats
    jet: NDArray[np.integer]
    complete: bool


def jets_of(features: Mapping[str, float]) -> list[DisplayedJet]:
    """Returns the jets whose direction is among the features."""
    jets = []
    for number in (1, 2, 3):
        pt, eta, phi, mass = (
            features.get(f"jet{number}_{what}", math.nan) for what in ("pt", "eta", "phi", "mass")
        )
        if not (math.isnan(eta) or math.isnan(phi)):
            jets.append(DisplayedJet(f"jet{number}", pt, eta, phi, mass))
    return jets


def plot_event(
    jets: Sequence[DisplayedJet],
    particles: DisplayedParticles | None,
    radius: float,
    title: str,
    path: Path,
) -> None:
    """Draws an event.

    Args:
        jets: drawn as circles; at least one.
        particles: drawn as points with an area in proportion to pT; None where not known.
        radius: radius of the jets.
        title: title of the picture.
        path: PNG file, written whole or not at all.
    """
    reach = max(_LEAST_REACH, *(abs(jet.eta) + radius + 0.4 for jet in jets))
    if particles is not None and len(particles.pt):
        reach = max(reach, float(np.abs(particles.eta).max()) + 0.2)
    height = _WIDTH * math.pi / reach
    left, below, right, above = _MARGINS
    size = (left + _WIDTH + right, below + height + above)
    figure = Figure(figsize=size)
    axes = figure.add_axes((left / size[0], below / size[1], _WIDTH / size[0], height / size[1]))
    for index, jet in enumerate(jets):
        _draw_jet(axes, jet, radius, COLOURS[index])
    if particles is not None and len(particles.pt):
        _draw_particles(axes, particles)
    axes.set(xlim=(-reach, reach), ylim=(-math.pi, math.pi))
    axes.set_aspect("equal")
    axes.set_xlabel(r"pseudorapidity $\eta$")
    axes.set_ylabel(r"azimuth $\phi$ [rad]")
    axes.set_yticks(
        [-math.pi, -math.pi / 2, 0, math.pi / 2, math.pi],
        [r"$-\pi$", r"$-\pi/2$", "0", r"$\pi/2$", r"$\pi$"],
    )
    axes.grid(visible=True, color="0.93")
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10)
    _legend(axes, jets, particles)
    save_figure(figure, path)


def _draw_jet(axes: Axes, jet: DisplayedJet, radius: float, colour: str) -> None:
    # A jet at the edge in azimuth continues at the opposite edge.
    for turn in (-2 * math.pi, 0.0, 2 * math.pi):
        centre = (jet.eta, jet.phi + turn)
        axes.add_patch(Circle(centre, radius, color=colour, alpha=0.1, linewidth=0))
        axes.add_patch(Circle(centre, radius, fill=False, edgecolor=colour))
    axes.plot(jet.eta, jet.phi, marker="+", color=colour, markersize=9, zorder=4)


def _area(pt: Floats | float, hardest: float) -> Floats:
    return np.maximum(_SMALLEST, _LARGEST * np.asarray(pt, dtype=np.float64) / hardest)


def _draw_particles(axes: Axes, particles: DisplayedParticles) -> None:
    hardest = float(particles.pt.max())
    order = np.argsort(-particles.pt, kind="stable")  # small points lie above large ones
    colours = [COLOURS[number - 1] if number else _GREY for number in particles.jet[order].tolist()]
    eta, phi, area = particles.eta[order], particles.phi[order], _area(particles.pt[order], hardest)
    axes.scatter(eta, phi, s=area, c=colours, alpha=0.55, linewidths=0, zorder=3)


def _legend(axes: Axes, jets: Sequence[DisplayedJet], particles: DisplayedParticles | None) -> None:
    point: dict[str, Any] = {"marker": "o", "linestyle": ""}
    handles = [
        Line2D([], [], color=COLOURS[index], fillstyle="none", label=_jet_label(jet), **point)
        for index, jet in enumerate(jets)
    ]
    if particles is not None and len(particles.pt):
        hardest = float(particles.pt.max())
        what = "particle" if particles.complete else "particle (hardest of each jet)"
        shown = [pt for pt in _KEY_PT if pt <= hardest] or [hardest]
        point |= {"color": _GREY, "markeredgewidth": 0}
        for pt in shown:
            size, label = float(np.sqrt(_area(pt, hardest))), f"{what}, {pt:.3g} GeV"
            handles.append(Line2D([], [], markersize=size, label=label, **point))
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    axes.legend(handles=handles, frameon=False, fontsize=9, labelspacing=1.0, **place)


def _jet_label(jet: DisplayedJet) -> str:
    parts = [f"$p_T$ {jet.pt:.0f} GeV"] if not math.isnan(jet.pt) else []
    parts += [f"m {jet.mass:.0f} GeV"] if not math.isnan(jet.mass) else []
    return f"{jet.name}: {', '.join(parts)}" if parts else jet.name
