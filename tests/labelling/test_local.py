"""Models on this machine: packed predictions are those of one prompt at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hepllm.config import LabelConfig, load_config
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.labelling.local import LocalModel, backbone_model, run_model
from hepllm.labelling.predictions import NO_CONTEXT, Context, Request
from hepllm.labelling.wording import write_items
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.runs.folder import open_run
from hepllm.runs.questions import fill

NAMES = ("jet_mass_light", "tau21_light", "delta_eta")
REQUESTS = [
    Request(NO_CONTEXT, (0, 5, 3)),
    Request(Context((1, 2, 4), (1, 0, 1)), (0, 3, 5)),
    Request(Context((1, 2, 4), (0, 1, 0)), (0,)),
]


def numbers(n_events: int = 6, n_features: int = 3) -> np.ndarray:
    found = np.random.default_rng(5).gamma(4.0, 30.0, (n_events, n_features))
    found[1, 0] = np.nan
    return found


def plain(*, serial: bool, layout: str = "full", **changes: object) -> LocalModel:
    config = load_config(None, ["backbone.name=tiny-random", "backbone.dtype=float32"])
    settings = LabelConfig.model_validate({"layout": layout, **changes})
    wording = write_items(numbers(), NAMES, settings, parse_hypothesis("Z' to 500 and 100 GeV"))
    return backbone_model(config.backbone, wording, seed=1, serial=serial)


@pytest.mark.parametrize("layout", ["compact", "full"])
def test_packed_predictions_are_those_of_single_prompts(layout: str) -> None:
    packed, alone = (plain(serial=serial, layout=layout) for serial in (False, True))
    for one, other in zip(packed.log_odds(REQUESTS), alone.log_odds(REQUESTS), strict=True):
        assert_allclose(one, other, atol=1e-5)
        assert np.abs(other).max() > 1e-3


def test_labels_before_a_target_matter_and_exchanged_names_exchange_the_odds() -> None:
    model, exchanged = plain(serial=False), plain(serial=False, names=("signal", "background"))
    nothing, first, second = model.log_odds(REQUESTS)
    assert abs(first[0] - second[0]) > 1e-4
    assert_allclose(exchanged.log_odds(REQUESTS[:1])[0], -nothing, atol=1e-5)


def test_a_prompt_that_does_not_fit_is_refused_with_its_size() -> None:
    model = plain(serial=False)
    model.check_fit(5)
    model._most = model.n_tokens(3) + 1
    with pytest.raises(InputError, match=r"5 labelled events .* set label\.context=3$"):
        model.check_fit(5)
    with pytest.raises(InputError, match="begin with the same token"):
        plain(serial=False, names=("signal", "signal-like"))


def of_run(folder: Path, *, serial: bool, names: tuple[str, str], hypothesis=OPEN):
    run = open_run(folder)
    classifier, encoder = run.load_classifier()
    features = run.config.train.feature_names()
    inputs = ModelInputs(numbers(6, len(features)))
    if hypothesis is not OPEN:
        inputs = ModelInputs(inputs.numbers, hypothesis=fill(hypothesis, 6))
    model = run_model(classifier, encoder, inputs, names, features, serial=serial, name=str(folder))
    return model, score_events(classifier, encoder, inputs, batch_size=None)


def test_without_labelled_events_a_run_predicts_its_scores(tiny_run: Path) -> None:
    everything = [Request(NO_CONTEXT, tuple(range(6)))]
    model, scores = of_run(tiny_run, serial=False, names=("background", "signal"))
    assert_allclose(model.log_odds(everything)[0], scores, atol=1e-4)
    exchanged, _ = of_run(tiny_run, serial=True, names=("signal", "background"))
    assert_allclose(exchanged.log_odds(everything)[0], -scores, atol=1e-4)
    with pytest.raises(InputError, match=r"label\.names: a run knows background and signal"):
        of_run(tiny_run, serial=True, names=("yes", "no"))


def test_a_run_reads_soft_tokens_of_labelled_events(tiny_run: Path) -> None:
    names = ("background", "signal")
    packed, alone = (of_run(tiny_run, serial=serial, names=names)[0] for serial in (False, True))
    for one, other in zip(packed.log_odds(REQUESTS), alone.log_odds(REQUESTS), strict=True):
        assert_allclose(one, other, atol=1e-4)
    none, first, _ = alone.log_odds(REQUESTS)
    assert abs(none[0] - first[0]) > 1e-5
