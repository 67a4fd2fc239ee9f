"""The hypotheses of a run: whether its events are shown with them, and what it may be asked."""

from __future__ import annotations

from hepllm.config import Config, override_config
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth, signal_truth
from hepllm.errors import InputError

_FEWEST = 2
"""Different signals, or decays, of which a hypothesis tells one from another."""


def training_truth(dataset: Dataset, table: EventTable, config: Config) -> SignalTruth | None:
    """Returns the true signals of training events; None to show all with the open hypothesis.

    Args:
        dataset: the training dataset.
        table: its training events.
        config: ``train.hypothesis.enabled`` decides; ``auto`` needs at least two signals and a
            prompt that has a hypothesis.

    Raises:
        InputError: if hypotheses are demanded, or examples of them, and the events have no two
            known signals.
    """
    enabled = config.train.hypothesis.enabled
    is_read = config.prompt_layout == "question"
    if enabled is False or (enabled == "auto" and not is_read):
        return None
    truth = signal_truth(dataset, table)
    if len(truth.signals) >= _FEWEST:
        return truth
    needs = "train.examples" if config.train.examples.most else "train.hypothesis.enabled"
    if enabled is not True and not config.train.examples.most:
        return None
    raise InputError(
        f"{dataset.folder}: {needs} needs training events of at least {_FEWEST} "
        f"signals with known masses, found {len(truth.signals)}; make them with "
        "'hepllm simulate --grid', and preprocess grid.h5 with grid.points.json beside it"
    )


def with_hypotheses(config: Config, truth: SignalTruth | None) -> Config:
    """The settings with decisions in place of ``auto``, as a run keeps them.

    Args:
        config: settings as they were given.
        truth: true signals that training shows as hypotheses; None: it shows none.
    """
    decided = {"train.hypothesis.enabled": truth is not None}
    if config.fusion.decays == "auto":
        signals = () if truth is None else truth.signals
        decays = {one.decay for signal in signals for one in signal.products} - {None}
        decided["fusion.decays"] = len(decays) >= _FEWEST
    return override_config(config, [f"{path}={str(on).lower()}" for path, on in decided.items()])
