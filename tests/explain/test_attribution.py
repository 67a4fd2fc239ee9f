"""Attributions against known answers: linear scores, unused inputs, and completeness."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepllm.config import Config
from hepllm.explain import attribution as module
from hepllm.explain.attribution import Attribution, attribute
from hepllm.hypotheses.hypothesis import parse_hypothesis
from hepllm.model.adapter.numbers import Standardizer
from hepllm.model.backbone import causal_model
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.runs.folder import make_classifier

NAMES = ("jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy")
ROW = np.array([350.0, 90.0, 0.2, 0.7])
REFERENCE = np.array([60.0, 120.0, 0.55, 0.5])
WEIGHTS = torch.tensor([1.5, -0.5, 2.0, 0.0])
ABSENCE = torch.tensor([0.0, 3.0, 0.0, 0.0])


def trained(config: Config) -> tuple[EventClassifier, PromptEncoder]:
    """A random model whose numbers and words matter."""
    classifier, encoder = make_classifier(config)
    if classifier.nfa is not None:
        random = np.random.default_rng(1)
        rows = random.gamma(4.0, 30.0, (200, 4)) * [1, 1, 0.004, 0.004]
        classifier.nfa.fit(ModelInputs(rows))
        if classifier.nfa.numbers is not None and classifier.nfa.numbers.reads_decays:
            with torch.no_grad():  # they start without effect
                classifier.nfa.numbers.mlp[0].weight.normal_(0, 0.1)  # type: ignore[index]
    return classifier.eval(), encoder


class _LinearNumbers(nn.Module):
    """One soft token whose first entry is linear in what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.standardizer = Standardizer(NAMES)
        self.standardizer.mean.copy_(torch.tensor([4.0, 4.0, 0.5, 0.5]))
        self.standardizer.scale.copy_(torch.tensor([0.5, 0.5, 0.1, 0.1]))

    def stated(self, inputs: ModelInputs) -> None:
        return None

    def forward(self, values: Tensor) -> Tensor:
        standard, missing = self.standardizer(values)
        return self.tokens_of(standard, missing.float(), None)

    def tokens_of(self, standard: Tensor, missing: Tensor, stated: None) -> Tensor:
        return (standard * (1 - missing) @ WEIGHTS + missing @ ABSENCE)[:, None, None]


class _LinearClassifier(nn.Module):
    """Twice the soft token, plus the words' embeddings."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.nfa = SimpleNamespace(numbers=_LinearNumbers(), particles=None)
        self.words = nn.Embedding(60_000, 1)
        causal = SimpleNamespace(get_input_embeddings=lambda: self.words)
        self.language_model = SimpleNamespace(get_base_model=lambda: causal)

    def forward(
        self, token_ids: Tensor, mask: None, positions: Tensor, inputs: ModelInputs
    ) -> Tensor:
        soft = self.nfa.numbers(torch.from_numpy(inputs.numbers))
        logit = 2 * soft[:, 0, 0] + self.words(token_ids).sum((1, 2))
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


@pytest.fixture(scope="module")
def encoder(tiny_config: Callable[..., Config]) -> PromptEncoder:
    return make_classifier(tiny_config("train.features=cathode"))[1]


def test_a_linear_score_is_shared_out_exactly(encoder: PromptEncoder) -> None:
    classifier = _LinearClassifier()
    found = attribute(classifier, encoder, NAMES, ROW, REFERENCE)  # type: ignore[arg-type]
    standard = classifier.nfa.numbers.standardizer(torch.from_numpy(np.stack([ROW, REFERENCE])))[0]
    expected = 2 * WEIGHTS * (standard[0] - standard[1])
    np.testing.assert_allclose([one.number for one in found.features], expected, atol=1e-5)
    ids = encoder.encode(ModelInputs(np.stack([ROW, REFERENCE]))).token_ids
    words = classifier.words(ids)[..., 0].detach().numpy()
    np.testing.assert_allclose(
        [token.value for token in found.tokens], words[0] - words[1], atol=1e-5
    )
    assert found.features[3].number == 0
    assert found.gap == pytest.approx(0, abs=1e-4)
    for feature in found.features:
        tokens = [token.value for token in found.tokens if token.feature == feature.name]
        assert feature.text == pytest.approx(sum(tokens))
        assert feature.total == pytest.approx(feature.number + feature.text)


@pytest.mark.parametrize("missing_side", ["event", "reference"])
def test_a_missing_number_counts_by_its_absence(missing_side: str, encoder: PromptEncoder) -> None:
    classifier = _LinearClassifier()
    row, reference = ROW.copy(), REFERENCE.copy()
    (row if missing_side == "event" else reference)[1] = np.nan
    found = attribute(classifier, encoder, NAMES, row, reference)  # type: ignore[arg-type]
    standardizer = classifier.nfa.numbers.standardizer
    (present,) = standardizer(torch.tensor([[60.0, ROW[1], 0.5, 0.5]]))[0][:, 1]
    if missing_side == "event":
        (present,) = standardizer(torch.from_numpy(REFERENCE[None]))[0][:, 1]
    change = 2 * float(ABSENCE[1] - WEIGHTS[1] * present)
    assert found.features[1].number == pytest.approx(
        change if missing_side == "event" else -change, abs=1e-4
    )
    assert found.is_complete


def test_a_gap_is_told() -> None:
    one = module.FeatureAttribution("tau21_light", 1.0, 0.5)
    token = module.TokenAttribution("0", "tau21_light", 0.5)
    good = Attribution(2.0, 0.5, (one,), (token,), 16, ())
    assert (good.total, good.gap, good.is_complete) == (1.5, 0.0, True)
    bad = Attribution(3.0, 0.5, (one,), (token,), 16, ())
    assert bad.gap == -1.0
    assert not bad.is_complete


@pytest.mark.parametrize(
    ("layout", "fusion"),
    [("question", "true"), ("minimal", "true"), *product(["compact", "full"], ["true", "false"])],
)
def test_a_language_model_is_shared_out_completely(
    layout: str, fusion: str, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(
        f"prompt.layout={layout}",
        f"fusion.enabled={fusion}",
        "fusion.decays=true",
        "train.features=cathode",
    )
    classifier, encoder = trained(config)
    asked = parse_hypothesis("Z' to a 500 GeV particle and one of 0.1 TeV, both to bb")
    found = attribute(classifier, encoder, NAMES, ROW, REFERENCE, hypothesis=asked)
    rows = ModelInputs(
        np.stack([ROW, REFERENCE]), hypothesis=np.array([asked, asked], dtype=object)
    )
    scores = score_events(classifier, encoder, rows, batch_size=2)
    assert found.score == pytest.approx(scores[0], abs=1e-4)
    if layout != "full":  # there, the reference is printed with other digits
        assert found.reference_score == pytest.approx(scores[1], abs=1e-4)
    assert found.is_complete
    assert any(one.number for one in found.features) == (fusion == "true")
    assert any(one.text for one in found.features) == (layout in {"compact", "full"})
    assert all(token.value == 0 for token in found.tokens if not token.feature)
    assert not torch.is_grad_enabled() or all(
        weight.grad is None for weight in classifier.trained_parameters().values()
    )


@pytest.mark.parametrize("layout", ["question", "compact"])
def test_points_and_checkpointing_change_the_memory_and_not_the_result(
    layout: str, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(
        f"prompt.layout={layout}", "train.features=cathode", "backbone.lora.dropout=0.5"
    )
    classifier, encoder = trained(config)
    kept: list[int] = []

    def explained(points: int, *, checkpointing: bool) -> Attribution:
        saved = dict[int, int]()

        def keep(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found = attribute(
                classifier,
                encoder,
                NAMES,
                ROW,
                REFERENCE,
                points=points,
                checkpointing=checkpointing,
            )
        kept.append(sum(saved.values()))
        return found

    expected = explained(16, checkpointing=False)
    for points in (1, 5):
        found = explained(points, checkpointing=True)
        np.testing.assert_allclose(
            [one.total for one in found.features],
            [one.total for one in expected.features],
            atol=1e-4,
        )
    assert max(kept[1:]) < 0.8 * kept[0]
    assert not any(part.training for part in classifier.modules())
    assert not causal_model(classifier.language_model).is_activation_checkpointing


def test_an_input_without_weight_has_no_attribution(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config("prompt.layout=minimal", "train.features=cathode")
    classifier, encoder = trained(config)
    assert classifier.nfa is not None
    mlp = classifier.nfa.numbers.mlp
    first = next(part for part in mlp.modules() if isinstance(part, nn.Linear))
    size = first.in_features // len(NAMES)
    with torch.no_grad():
        first.weight[:, 2 * size : 3 * size] = 0
    found = attribute(classifier, encoder, NAMES, ROW, REFERENCE)
    numbers = [one.number for one in found.features]
    assert numbers[2] == 0
    assert all(numbers[place] for place in (0, 1, 3))


def test_an_event_that_is_the_reference_has_no_attribution(
    tiny_config: Callable[..., Config],
) -> None:
    classifier, encoder = trained(tiny_config("train.features=cathode"))
    found = attribute(classifier, encoder, NAMES, ROW, ROW)
    assert found.difference == 0
    assert found.total == 0
    assert found.n_steps == 0
