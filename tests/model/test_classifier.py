from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hepllm.config import Config
from hepllm.model.backbone import causal_model, load_backbone
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import embed_events, score_events
from hepllm.runs.folder import make_classifier

Loaded = tuple[EventClassifier, PromptEncoder, Config]


def load(config: Config) -> Loaded:
    classifier, encoder = make_classifier(config)
    return classifier.eval(), encoder, config


@pytest.fixture(scope="module")
def loaded(tiny_config: Callable[..., Config]) -> Loaded:
    return load(tiny_config())


def rows(config: Config, n_events: int = 3) -> ModelInputs:
    n_features = len(config.train.feature_names())
    return ModelInputs(np.random.default_rng(2).gamma(4.0, 10.0, (n_events, n_features)))


def test_logits_are_those_of_the_whole_model_at_the_last_position(loaded: Loaded) -> None:
    classifier, encoder, config = loaded
    values = rows(config)
    prompts = encoder.encode(values)
    with torch.inference_mode():
        got = classifier(prompts.token_ids, None, prompts.fusion_positions, values)
        causal = causal_model(classifier.language_model)
        embeddings = causal.get_input_embeddings()(prompts.token_ids)
        assert classifier.nfa is not None
        assert prompts.fusion_positions is not None
        soft = classifier.nfa(values)
        for event, positions in enumerate(prompts.fusion_positions.tolist()):
            for token, position in enumerate(positions):
                embeddings[event, position] = soft[event, token]
        whole = causal_model(load_backbone(config.backbone, config.seed).model.eval())
        full = whole(inputs_embeds=embeddings).logits[:, -1]
    expected = full[:, list(classifier.label_tokens)]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_padding_on_the_right_changes_nothing(loaded: Loaded) -> None:
    classifier, encoder, config = loaded
    values = rows(config, 2)
    prompts = encoder.encode(values)
    assert prompts.attention_mask is None
    n_pad = 5
    filler = torch.full((2, n_pad), int(prompts.token_ids[0, 0]))
    mask = torch.cat([torch.ones_like(prompts.token_ids), torch.zeros(2, n_pad)], 1).long()
    with torch.inference_mode():
        plain = classifier(prompts.token_ids, None, prompts.fusion_positions, values)
        padded = classifier(
            torch.cat([prompts.token_ids, filler], 1), mask, prompts.fusion_positions, values
        )
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-5)


def test_numbers_reach_the_score_unless_silenced(loaded: Loaded) -> None:
    classifier, encoder, config = loaded
    values = rows(config, 4)
    prompts = encoder.encode(values)

    def score(inputs: ModelInputs) -> torch.Tensor:
        with torch.inference_mode():
            logits = classifier(prompts.token_ids, None, prompts.fusion_positions, inputs)
        return logits[:, 1] - logits[:, 0]

    exchanged_values = values.take(np.array([3, 2, 1, 0]))
    plain, exchanged = score(values), score(exchanged_values)
    assert (plain - exchanged).abs().max() > 1e-4
    with classifier.silenced_fusion():
        assert torch.equal(score(values), score(exchanged_values))
        assert not torch.equal(score(values), plain)
    assert torch.equal(score(values), plain)


def test_an_adapter_without_numbers_is_an_error(loaded: Loaded) -> None:
    classifier, encoder, config = loaded
    with pytest.raises(ValueError, match="pass inputs and fusion_positions"):
        classifier(encoder.encode(rows(config)).token_ids)


def test_text_only_builds_no_adapter(tiny_config: Callable[..., Config]) -> None:
    classifier, encoder, config = load(tiny_config("fusion.enabled=false"))
    assert classifier.nfa is None
    assert classifier.nfa_parameters() == {}
    prompts = encoder.encode(rows(config))
    assert prompts.fusion_positions is None
    assert classifier(prompts.token_ids).shape == (3, 2)


def test_both_groups_get_gradients(loaded: Loaded) -> None:
    classifier, encoder, config = loaded
    values = rows(config)
    prompts = encoder.encode(values)
    logits = classifier(prompts.token_ids, None, prompts.fusion_positions, values)
    (logits[:, 1] - logits[:, 0]).sum().backward()
    for group in (classifier.lora_parameters(), classifier.nfa_parameters()):
        norms = [float(p.grad.norm()) for p in group.values() if p.grad is not None]
        assert sum(norms) > 0
    classifier.zero_grad()


@pytest.mark.parametrize("layout", ["minimal", "question"])
def test_embeddings_are_what_the_class_is_read_from(
    tiny_config: Callable[..., Config], layout: str
) -> None:
    config = tiny_config(f"prompt.layout={layout}")
    classifier, encoder, _ = load(config)
    assert classifier.nfa is not None
    inputs = rows(config, 5)
    found = embed_events(classifier, encoder, inputs, batch_size=2)
    scores = score_events(classifier, encoder, inputs, batch_size=2)
    np.testing.assert_allclose(found.score, scores, rtol=1e-6)
    with torch.inference_mode():
        logits = classifier.read(torch.from_numpy(found.states).to(classifier.device)).cpu()
        soft = classifier.nfa(inputs).mean(1).cpu()
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.soft_tokens, soft, rtol=1e-4, atol=1e-6)


def test_embeddings_of_text_have_one_part(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config("fusion.enabled=false")
    classifier, encoder, _ = load(config)
    found = embed_events(classifier, encoder, rows(config), batch_size=2)
    assert found.soft_tokens is None
    assert list(found.named) == ["read-out state"]
