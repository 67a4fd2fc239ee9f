"""The scores of unlabelled events, and which of them a round of self-training labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.evaluation.scores import ScoredEvents
from hepllm.pictures.style import BACKGROUND_COLOUR, SIGNAL_COLOUR, save_figure, wide_canvas

_BINS = 60


def draw_round(
    score: Floats, chosen: tuple[Floats, Bools], held: ScoredEvents, prior: float, file: Path
) -> None:
    """Draws a round.

    Args:
        score: scores of the pool, shape (N,).
        chosen: scores of the K pseudo-labelled events and whether they count as signal, (K,) each.
        held: labelled validation events, drawn in the shares of the pool.
        prior: share of signal that is assumed.
        file: file to write.
    """
    figure, axes = wide_canvas("unlabelled events", f"prior {100 * prior:g} %")
    edges = np.histogram_bin_edges(np.concatenate([score, held.score]), bins=_BINS)
    counts, _ = np.histogram(score, edges)
    axes.stairs(counts, edges, color="black", label=f"all, N = {len(score)}")
    values, is_signal = chosen
    for name, is_class, of_held, share, colour in (
        ("background", ~is_signal, ~held.is_signal, 1 - prior, BACKGROUND_COLOUR),
        ("signal", is_signal, held.is_signal, prior, SIGNAL_COLOUR),
    ):
        counts, _ = np.histogram(values[is_class], edges)
        label = f"labelled {name}, N = {is_class.sum()}"
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.4, label=label)
        true, _ = np.histogram(held.score[of_held], edges)
        scale = share * len(score) / max(1, int(of_held.sum()))
        label = f"validation {name}, scaled to the prior"
        axes.stairs(scale * true, edges, color=colour, linestyle="--", label=label)
    axes.set(xlabel="score (logit)", ylabel="events per bin", yscale="log")
    axes.set_ylim(bottom=0.5)
    axes.legend(frameon=False, fontsize=9)
    save_figure(figure, file)
