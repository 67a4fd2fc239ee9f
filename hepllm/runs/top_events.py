"""Event displays of the highest scores of a set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hepllm.arrays import Floats
from hepllm.pictures.event_display import jets_of, plot_event
from hepllm.runs.picked_events import raw_particles
from hepllm.runs.samples import EvaluationSet

N_SHOWN = 3

_JETS = tuple(f"jet{n}_{what}" for n in (1, 2, 3) for what in ("pt", "eta", "phi", "mass"))


def draw_top_events(chosen: EvaluationSet, scores: Floats, folder: Path) -> list[Path]:
    """Draws the events with the highest scores, with their particles.

    Nothing is drawn of events whose particles are not known, which is so where the files that the
    dataset was made from are gone, or never had any.

    Args:
        chosen: the set.
        scores: (N,) scores of its events.
        folder: folder of the pictures.
    """
    dataset = chosen.dataset
    files: list[Path] = []
    for place in range(N_SHOWN):
        (folder / _name(place)).unlink(missing_ok=True)
    names = tuple(name for name in (*_JETS, "m_jj") if name in dataset.manifest.features)
    best = np.argsort(-scores, kind="stable")[:N_SHOWN]
    if not {"jet1_eta", "jet1_phi"} <= set(names):
        return []
    table = chosen.reread(names, labels=False).take(best)
    radius = float(dataset.manifest.config["preprocess"]["jets"]["radius"])
    for place, row in enumerate(table.features):
        source, number = str(table.source[place]), int(table.event_id[place])
        particles = raw_particles(dataset, source, number, int(table.event_digest[place]))
        if particles is None:
            return files
        features = dict(zip(names, row.tolist(), strict=True))
        mass = features.get("m_jj", np.nan)
        title = f"{chosen.name}, event {number} of {source}: score {scores[best[place]]:+.2f}"
        title += f", $m_{{jj}}$ = {mass:.0f} GeV" if np.isfinite(mass) else ""
        files.append(folder / _name(place))
        plot_event(jets_of(features), particles, radius, title, files[-1])
    return files


def _name(place: int) -> str:
    return f"top_event_{place + 1}.png"
