"""Masses as soft tokens, and a comparison that holds at masses never seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hepllm.config import FusionConfig
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.model.adapter.masses import MassEncoder
from hepllm.model.inputs import ModelInputs

BY_ORDER = ("jet_mass_light", "jet_mass_delta", "tau21_light")
BY_PT = ("jet1_mass", "jet2_mass", "tau21_light")
NAN = float("nan")


def adapter(names: tuple[str, ...] = BY_ORDER, **settings: object) -> NumericFusionAdapter:
    torch.manual_seed(0)
    config = FusionConfig.model_validate({"hidden_size": 16, "n_tokens": 2, **settings})
    made = NumericFusionAdapter(names, 12, 0.5, config, reads_hypotheses=True)
    random = np.random.default_rng(1)
    made.fit(ModelInputs(random.gamma(4.0, 40.0, (200, 3))))
    return made


def tokens(made: NumericFusionAdapter, rows: list[list[float]], text: str | None) -> Tensor:
    asked = None
    if text is not None:
        asked = np.full(len(rows), parse_hypothesis(text), dtype=object)
    return made(ModelInputs(np.array(rows), hypothesis=asked)).detach()


def test_soft_tokens_of_masses_have_the_size_of_words_and_change_smoothly() -> None:
    encoder = MassEncoder(64, 0.3, FusionConfig())
    masses = torch.tensor([5.0, 80.0, 80.1, 400.0, 4000.0, 0.0], dtype=torch.float64)
    found = encoder(masses).detach()
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.square().mean(1).sqrt(), torch.full((6,), 0.3), rtol=1e-3, atol=0
    )
    near, far = (found[1] - found[2]).norm(), (found[1] - found[3]).norm()
    assert near < 0.05 * far


def test_jets_ordered_by_pt_and_by_mass_are_compared_alike() -> None:
    text = "Z' to a 380 GeV and a 90 GeV particle"
    by_pt = adapter(BY_PT)
    by_pt.numbers.standardizer.mean.zero_()
    by_pt.numbers.standardizer.scale.fill_(1.0)
    with torch.no_grad():  # leaves the comparison alone
        for part in by_pt.numbers.mlp.modules():
            if isinstance(part, torch.nn.Linear) and part.in_features > 16:
                part.weight[:, : 3 * 16] = 0
    one, other = tokens(by_pt, [[100.0, 300.0, 0.5], [300.0, 100.0, 0.5]], text)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_only_ratios_of_masses_are_compared(factor: float) -> None:
    """The same event at another scale, of the jets and of the hypothesis, looks the same."""
    made = adapter()
    comparison = made.numbers.comparison
    assert comparison is not None
    standardizer = made.numbers.standardizer
    values = torch.tensor([[90.0, 300.0, 0.5]], dtype=torch.float64)
    stated = torch.tensor([[380.0, 90.0]], dtype=torch.float64)
    missing = torch.zeros(1, 3)

    def ratios(scale: float) -> Tensor:
        standard, _ = standardizer(values * torch.tensor([scale, scale, 1.0]))
        embedded = comparison(standardizer, standard, missing, stated * scale)
        return embedded[:, 2 * 16 :].detach()

    torch.testing.assert_close(ratios(factor), ratios(1.0), rtol=1e-3, atol=1e-4)
    assert (
        ratios(1.0)
        - comparison(standardizer, *standardizer(values)[:1], missing, stated * 2)[:, 2 * 16 :]
    ).abs().max() > 1e-2


def test_what_is_not_stated_or_missing_is_not_compared() -> None:
    made, row = adapter(), [[90.0, 300.0, 0.5]]
    without = tokens(made, row, None)
    torch.testing.assert_close(tokens(made, row, OPEN.text), without)
    heavy = tokens(made, row, "one jet of 390 GeV, the other unknown")
    assert (heavy - without).abs().max() > 1e-3
    lacking = [[NAN, NAN, 0.5]]
    torch.testing.assert_close(
        tokens(made, lacking, "one jet of 390 GeV, the other unknown"), tokens(made, lacking, None)
    )


def test_parts_can_be_left_out() -> None:
    row = [[90.0, 300.0, 0.5]]
    plain = adapter(compare=False)
    torch.testing.assert_close(
        tokens(plain, row, "one jet of 390 GeV, the other unknown"), tokens(plain, row, None)
    )
    no_masses = adapter(("tau21_light", "tau21_heavy", "jet1_tau32"))
    assert no_masses.numbers.comparison is None
    assert no_masses.encode_masses(torch.tensor([80.0], dtype=torch.float64)).shape == (1, 12)
    unasked = NumericFusionAdapter(BY_ORDER, 12, 0.5, FusionConfig())
    with pytest.raises(ValueError, match="without hypotheses"):
        unasked.encode_masses(torch.tensor([80.0]))


@pytest.mark.parametrize("per_jet", [False, True])
def test_all_weights_learn_and_are_stored_once(per_jet: bool) -> None:
    made = adapter(per_jet=per_jet)
    asked = np.array([parse_hypothesis("one jet of 390 GeV, the other unknown")], dtype=object)
    rows = np.array([[90.0, 300.0, 0.5], [NAN, NAN, NAN]])
    inputs = ModelInputs(rows, hypothesis=np.repeat(asked, 2))
    soft = made(inputs).square()[..., 0].sum()
    (soft + made.encode_masses(torch.tensor([390.0], dtype=torch.float64))[..., 0].sum()).backward()
    for name, weight in made.weights().items():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    stored = made.stored()
    assert len({tensor.data_ptr() for tensor in stored.values()}) == len(stored)
    other = adapter(per_jet=per_jet)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    other.load_stored(stored)
    torch.testing.assert_close(other(inputs), made(inputs))
