"""What is decided of hypotheses before a training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hepllm.config import Config
from hepllm.data.signal_truth import SignalTruth
from hepllm.hypotheses.signal import Decay, Product, Signal
from hepllm.runs.hypotheses import with_hypotheses


def _truth(*decays: tuple[Decay | None, Decay | None]) -> SignalTruth:
    signals = tuple(
        Signal((Product(300.0 + i, first), Product(100.0, second)))
        for i, (first, second) in enumerate(decays)
    )
    return SignalTruth(signals, np.arange(len(signals)))


@pytest.mark.parametrize(
    ("truth", "wanted", "decays"),
    [
        (None, "auto", False),
        (_truth(("qq", "qq"), ("qq", "qq")), "auto", False),
        (_truth((None, None), ("qq", "qq")), "auto", False),
        (_truth(("qq", "bb"), ("qq", "bb")), "auto", True),
        (_truth(("qq", "qq"), ("tt", "tt")), "auto", True),
        (_truth(("qq", "qq"), ("tt", "tt")), "false", False),
        (_truth(("qq", "qq"), ("qq", "qq")), "true", True),
    ],
)
def test_the_adapter_gets_decays_where_they_differ(
    truth: SignalTruth | None, wanted: str, decays: bool, tiny_config: Callable[..., Config]
) -> None:
    kept = with_hypotheses(tiny_config(f"fusion.decays={wanted}"), truth)
    assert kept.fusion.decays is decays
    assert kept.train.hypothesis.enabled is (truth is not None)
