"""CPU seconds of an epoch of soft labels, from predictions that are drawn at random.

python tools/bench/bench_soft_labels.py --events 1600 --tuples 32000
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from hepllm.config import SoftLabelConfig
from hepllm.labelling.soft_labels import fit_soft_labels
from hepllm.labelling.tuples import Tuples


def drawn_tuples(n_events: int, n_tuples: int, size: int, per_context: int, seed: int) -> Tuples:
    """Tuples of the right shape; what they predict does not change the time."""
    random = np.random.default_rng(seed)
    n_contexts = n_tuples // per_context
    chosen = np.stack([random.permutation(n_events) for _ in range(n_contexts)])
    return Tuples(
        context=np.repeat(np.arange(n_contexts), per_context),
        target=chosen[:, size : size + per_context].ravel(),
        log_odds=random.normal(size=n_contexts * per_context),
        event=chosen[:, :size].ravel(),
        label=random.integers(0, 2, n_contexts * size),
        row=np.repeat(np.arange(n_contexts), size),
        n_events=n_events,
    )


def main() -> None:
    """Prints the CPU seconds of an epoch for both optimisers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1600)
    parser.add_argument("--tuples", type=int, default=32_000)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--per-context", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tuples = drawn_tuples(options.events, options.tuples, options.context, options.per_context, 1)
    prior = np.random.default_rng(2).normal(size=options.events)
    for optimizer in ("adamw", "lbfgs"):
        config = SoftLabelConfig.model_validate(
            {"optimizer": optimizer, "epochs": options.epochs, "patience": options.epochs}
        )
        fit_soft_labels(tuples, prior, config.model_copy(update={"epochs": 2}), 0.5, seed=1)
        few = config.model_copy(update={"epochs": 1, "patience": 1})
        spent = []
        for one in (few, config):
            started = time.process_time()
            fit_soft_labels(tuples, prior, one, 0.5, seed=1)
            spent.append(time.process_time() - started)
        each = (spent[1] - spent[0]) / (options.epochs - 1)
        print(
            f"{optimizer}: {each:.4f} CPU s an epoch, {options.events} labels, "
            f"{len(tuples)} tuples of {options.context} events"
        )


if __name__ == "__main__":
    main()
