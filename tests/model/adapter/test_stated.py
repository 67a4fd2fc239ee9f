"""What hypotheses state, as numbers of the adapter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hepllm.config import FusionConfig
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.hypotheses.signal import DECAYS, MOST_PRONGS
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.model.adapter.stated import DECAY_COLUMNS, Stated
from hepllm.model.inputs import ModelInputs

NAMES = ("jet_mass_light", "jet_mass_delta", "tau21_light")
MASSES = "a 400 GeV and a 90 GeV particle"


def test_the_heavier_comes_first_and_prongs_may_stand_alone() -> None:
    texts = ["Y of 90 GeV to two b quarks, X of 400 GeV to three prongs", f"Z' to {MASSES}"]
    found = Stated.of([*map(parse_hypothesis, texts), OPEN], torch.device("cpu"))
    assert found.masses[0].tolist() == [400.0, 90.0]
    assert found.decays.shape == (3, DECAY_COLUMNS)
    heavier, lighter = found.decays[0].view(2, -1)
    expected = torch.zeros(2, len(DECAYS) + MOST_PRONGS)
    expected[0, len(DECAYS) + 2] = 1
    expected[1, [DECAYS.index("bb"), len(DECAYS) + 1]] = 1
    assert torch.equal(torch.stack([heavier, lighter]), expected)
    assert not found.decays[1:].any()
    assert found.masses[2].isnan().all()


def adapter(**settings: object) -> NumericFusionAdapter:
    torch.manual_seed(0)
    config = FusionConfig.model_validate({"hidden_size": 16, **settings})
    return NumericFusionAdapter(NAMES, 12, 0.5, config, reads_hypotheses=True)


def tokens(made: NumericFusionAdapter, asked: Hypothesis | str | None) -> Tensor:
    """Soft tokens of one event under a hypothesis."""
    if isinstance(asked, str):
        asked = parse_hypothesis(asked)
    hypothesis = None if asked is None else np.array([asked], dtype=object)
    made_tokens: Tensor = made(ModelInputs(np.array([[90.0, 300.0, 0.3]]), hypothesis=hypothesis))
    return made_tokens


@pytest.mark.parametrize("per_jet", [True, False])
@pytest.mark.parametrize("decays", [True, False])
def test_a_decay_changes_tokens_only_with_the_setting_and_once_it_is_trained(
    decays: bool, per_jet: bool
) -> None:
    made = adapter(decays=decays, per_jet=per_jet)
    masses, two, three = f"Z' to {MASSES}", f"{MASSES}, both to qq", f"{MASSES}, both to qqq"
    torch.testing.assert_close(tokens(made, two), tokens(made, masses))
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward(tokens(made, two).square()[..., 0].sum())
        optimizer.step()
    assert torch.allclose(tokens(made, two), tokens(made, masses), atol=1e-4) is not decays
    torch.testing.assert_close(tokens(made, three), tokens(made, masses))
    torch.testing.assert_close(tokens(made, OPEN), tokens(made, None))


def test_decays_are_read_where_no_masses_are_compared() -> None:
    torch.manual_seed(0)
    config = FusionConfig(hidden_size=16, decays=True)
    made = NumericFusionAdapter(("tau21_light",), 12, 0.5, config, reads_hypotheses=True)
    assert made.numbers is not None
    assert made.numbers.comparison is None
    with torch.no_grad():
        made.numbers.mlp[0].weight.normal_()  # type: ignore[index]
    event = np.array([[0.3]])
    two, three = (
        made(ModelInputs(event, hypothesis=np.array([parse_hypothesis(text)], dtype=object)))
        for text in ("two prongs", "three prongs")
    )
    assert not torch.allclose(two, three, atol=1e-3)


def test_the_setting_widens_one_layer_only() -> None:
    without, with_decays = adapter().stored(), adapter(decays=True).stored()
    differ = {name for name in without if without[name].shape != with_decays[name].shape}
    assert differ == {"mlp.0.weight"}
    assert with_decays["mlp.0.weight"].shape[1] - without["mlp.0.weight"].shape[1] == DECAY_COLUMNS
