"""Pictures of events: what is drawn, and where."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Circle

from hepllm.pictures import event_display as module
from hepllm.pictures.event_display import DisplayedJet, DisplayedParticles, jets_of, plot_event

JETS = [DisplayedJet("jet1", 1400.0, 0.3, 3.0, 480.0), DisplayedJet("jet2", 1350.0, -0.9, -0.2, 95)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(module, "save_figure", lambda figure, path: figures.append(figure))
    return figures


def circles(axes: Axes) -> list[Circle]:
    return [patch for patch in axes.patches if isinstance(patch, Circle)]


def test_a_jet_at_the_edge_goes_on_at_the_other_one(drawn: list[Figure], tmp_path: Path) -> None:
    plot_event(JETS, None, 1.0, "An event", tmp_path / "event.png")
    axes = drawn[0].axes[0]
    visible = {
        (round(circle.center[0], 6), round(circle.center[1], 6))
        for circle in circles(axes)
        if abs(circle.center[1]) - circle.radius < math.pi
    }
    edge = round(3.0 - 2 * math.pi, 6)
    assert visible == {(0.3, 3.0), (0.3, edge), (-0.9, -0.2)}
    assert {circle.radius for circle in circles(axes)} == {1.0}
    assert axes.get_ylim() == (-math.pi, math.pi)
    assert axes.get_aspect() == 1.0


def test_areas_are_in_proportion_to_pt(drawn: list[Figure], tmp_path: Path) -> None:
    particles = DisplayedParticles(
        pt=np.array([10.0, 100.0, 400.0]),
        eta=np.array([0.0, 2.9, -0.4]),
        phi=np.array([0.1, 0.2, 0.3]),
        jet=np.array([0, 1, 2]),
        complete=True,
    )
    plot_event(JETS, particles, 0.8, "An event", tmp_path / "event.png")
    axes = drawn[0].axes[0]
    (points,) = axes.collections
    sizes = np.sort(points.get_sizes())
    np.testing.assert_allclose(sizes / sizes[-1], [10 / 400, 100 / 400, 1])
    assert axes.get_xlim()[1] > 2.9


def test_the_picture_is_a_file(tmp_path: Path) -> None:
    plot_event(JETS, None, 1.0, "An event", tmp_path / "event.png")
    assert min(imread(tmp_path / "event.png").shape[:2]) > 300


def test_jets_without_a_direction_are_left_out() -> None:
    features = {"jet1_eta": 0.1, "jet1_phi": 2.0, "jet1_pt": 900.0, "jet2_eta": 0.4}
    (jet,) = jets_of(features)
    assert (jet.name, jet.eta, jet.phi) == ("jet1", 0.1, 2.0)
    assert math.isnan(jet.mass)
    assert jets_of({"jet_mass_light": 90.0}) == []
