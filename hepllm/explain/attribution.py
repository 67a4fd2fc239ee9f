"""Attributes the difference of the scores of an event and a reference to the features.

Integrated gradients (Sundararajan, Taly and Yan, arXiv:1703.01365) follow the straight line from a
reference to an event, both in the standardised numbers of the adapter and in the embeddings of the
prompt's tokens. Their sum is the difference of the two scores, up to the error of the numerical
integral and of the model's arithmetic, which ``Attribution.gap`` states.

The only module that imports captum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor, nn

from hepllm.arrays import Floats
from hepllm.explain.alignment import AlignedPrompts, align_prompts
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis
from hepllm.model.adapter.embedding import Standardizer
from hepllm.model.adapter.particles import ParticleEncoder
from hepllm.model.backbone import causal_model
from hepllm.model.checkpointing import checkpointed
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import forward_prompts

STEPS = (16, 32, 64, 128, 256)
"""Points of the integral, tried in turn until it is complete."""

POINTS = 16
"""Points in one forward pass at most."""

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 0.02, 0.05
"""Allowed gap: share of the difference of the scores, or logits; the larger one counts."""


@dataclass(frozen=True)
class FeatureAttribution:
    """What one feature adds to the score.

    Attributes:
        name: name of the feature.
        number: its part through the adapter.
        text: its part through the tokens that print it.
    """

    name: str
    number: float
    text: float

    @property
    def total(self) -> float:
        """Sum of both parts."""
        return self.number + self.text


@dataclass(frozen=True)
class TokenAttribution:
    """What one token of the prompt adds to the score.

    Attributes:
        text: text of the token; empty for a soft token, which counts with the numbers.
        feature: feature that the token prints; empty for words that all events share.
        value: its part of the score.
    """

    text: str
    feature: str
    value: float


@dataclass(frozen=True)
class Attribution:
    """How a score differs from that of a reference; made by ``attribute``.

    Attributes:
        score: score of the event.
        reference_score: score of the reference.
        features: attributions of the features, in the order of the model.
        tokens: attributions of the prompt's tokens, in order.
        n_steps: points of the integral.
        unaligned: features whose text could not be compared with that of the reference.
        particles: what the constituents of the jets add, all together; None: not read.
    """

    score: float
    reference_score: float
    features: tuple[FeatureAttribution, ...]
    tokens: tuple[TokenAttribution, ...]
    n_steps: int
    unaligned: tuple[str, ...]
    particles: float | None = None

    @property
    def difference(self) -> float:
        """Score of the event minus score of the reference."""
        return self.score - self.reference_score

    @property
    def total(self) -> float:
        """Sum of all attributions, with the words that belong to no feature."""
        numbers = sum(feature.number for feature in self.features)
        return numbers + sum(token.value for token in self.tokens) + (self.particles or 0.0)

    @property
    def gap(self) -> float:
        """Sum of all attributions minus the difference."""
        return self.total - self.difference

    @property
    def tolerance(self) -> float:
        """Allowed gap in logits."""
        return max(RELATIVE_TOLERANCE * abs(self.difference), ABSOLUTE_TOLERANCE)

    @property
    def is_complete(self) -> bool:
        """Whether the gap is within the tolerance."""
        return abs(self.gap) <= self.tolerance


def attribute(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    names: Sequence[str],
    row: Floats,
    reference: Floats,
    *,
    hypothesis: Hypothesis = OPEN,
    particles: NDArray[np.float32] | None = None,
    background: NDArray[np.float32] | None = None,
    points: int = POINTS,
    checkpointing: bool = False,
) -> Attribution:
    """Attributes the difference of the scores of an event and a reference to the features.

    If only one of them lacks a value, the path blends the adapter's embedding of the value into
    that of a missing value.

    Args:
        classifier: the model; its train or eval mode is restored.
        encoder: writes and tokenises prompts.
        names: the F features.
        row: shape (F,), the event; NaN where missing.
        reference: shape (F,), the reference; NaN where missing.
        hypothesis: what both are scored under, in the layout ``question``.
        particles: shape (1, 2, 1 + K, 4), the jets of the event with their constituents, for a
            model that reads them.
        background: shape (M, 2, 1 + K, 4), those of background events, whose mean soft tokens are
            the reference.
        points: of the integral per forward pass.
        checkpointing: whether the backward pass computes activations again, to save memory.
    """
    event, other = (dict(zip(names, one.tolist(), strict=True)) for one in (row, reference))
    prompts = align_prompts(encoder, event, other, hypothesis)
    stated = np.array([hypothesis], dtype=object)
    asked = ModelInputs(row[np.newaxis], particles, hypothesis=stated)
    path = _Path(classifier, encoder, prompts, asked, _Reference(reference, background))
    was_training = classifier.training
    classifier.eval()
    try:
        with checkpointed(classifier.language_model) if checkpointing else nullcontext():
            return _integrate(path, names, prompts, points)
    finally:
        classifier.train(was_training)


def _integrate(
    path: _Path, names: Sequence[str], prompts: AlignedPrompts, points: int
) -> Attribution:
    with torch.no_grad():
        score, reference_score = (float(path.score(*ends)) for ends in path.ends)

    def collected(parts: Mapping[str, Floats], n_steps: int) -> Attribution:
        owned = _by_owner(names, prompts, parts)
        jets = None
        if path.reads_particles:
            jets = float(parts["particles"].sum()) if "particles" in parts else 0.0
        return Attribution(score, reference_score, *owned, n_steps, prompts.unaligned, jets)

    found = collected({}, 0)
    if not path.kinds:
        return found
    gradients = IntegratedGradients(path.score)
    for n_steps in STEPS:
        parts = gradients.attribute(*path.ends, n_steps=n_steps, internal_batch_size=points)
        named = {
            kind: part[0].detach().double().cpu().numpy()
            for kind, part in zip(path.kinds, parts, strict=True)
        }
        found = collected(named, n_steps)
        if found.is_complete:
            break
    return found


def _by_owner(
    names: Sequence[str], prompts: AlignedPrompts, parts: Mapping[str, Floats]
) -> tuple[tuple[FeatureAttribution, ...], tuple[TokenAttribution, ...]]:
    """Sums the attributions to the inputs of the path by feature and by token."""
    nothing = np.zeros(len(names))
    numbers = parts.get("standard", nothing) + parts.get("missing", nothing)
    words = np.zeros(len(prompts.tokens))
    if "embeddings" in parts:
        words = parts["embeddings"].sum(axis=-1)
    tokens = tuple(
        TokenAttribution(text, feature, float(value))
        for text, feature, value in zip(prompts.texts, prompts.features, words, strict=True)
    )
    by_feature = {
        name: sum(token.value for token in tokens if token.feature == name) for name in names
    }
    features = tuple(
        FeatureAttribution(name, float(number), float(by_feature[name]))
        for name, number in zip(names, numbers, strict=True)
    )
    return features, tokens


@dataclass(frozen=True, eq=False)
class _Reference:
    """What an event is compared with: a row of features, and jets of background events."""

    row: Floats
    background: NDArray[np.float32] | None


class _Path:
    """The score as a function of the inputs between a reference and an event.

    Attributes:
        kinds: the inputs that differ: ``standard`` and ``missing`` (F,) of the adapter,
            ``embeddings`` (L, H) of the prompt, ``particles`` (P, H), their soft tokens.
        ends: these inputs of the event and of the reference, with a leading axis of length 1.
    """

    def __init__(
        self,
        classifier: EventClassifier,
        encoder: PromptEncoder,
        prompts: AlignedPrompts,
        asked: ModelInputs,
        reference: _Reference,
    ) -> None:
        self._classifier, self._encoder, self._event = classifier, encoder, asked
        self._words = causal_model(classifier.language_model).get_input_embeddings()
        device = classifier.device
        self._token_ids = torch.tensor([prompts.tokens], device=device)
        self._positions = torch.tensor([prompts.soft], device=device) if prompts.soft else None
        self._number_ends: dict[str, tuple[Tensor, Tensor]] = {}
        nfa = classifier.nfa
        if nfa is not None and nfa.numbers is not None:
            self._number_ends = _number_ends(
                nfa.numbers.standardizer, asked.numbers[0], reference.row, device
            )
        inputs = dict(self._number_ends)
        self.reads_particles = nfa is not None and nfa.particles is not None
        if nfa is not None and nfa.particles is not None:
            inputs["particles"] = _particle_ends(
                nfa.particles, asked.particles, reference.background
            )
        if prompts.differ:
            ids = (prompts.tokens, prompts.reference)
            with torch.no_grad():
                event, other = (self._words(torch.tensor([one], device=device)) for one in ids)
            inputs["embeddings"] = (event.float(), other.float())
        # Equal inputs get no attribution.
        inputs = {kind: ends for kind, ends in inputs.items() if not torch.equal(*ends)}
        self.kinds = tuple(inputs)
        first, second = (tuple(ends[side] for ends in inputs.values()) for side in (0, 1))
        self.ends = (first, second)

    def score(self, *inputs: Tensor) -> Tensor:
        """Returns the logit of signal minus that of background, shape (B,)."""
        named = dict(zip(self.kinds, inputs, strict=True))
        n_points = len(inputs[0]) if inputs else 1

        def repeated(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.expand(n_points, *tensor.shape[1:])

        with ExitStack() as stack:
            if "embeddings" in named:
                stack.enter_context(_replaced(self._words, named["embeddings"].to))
            events = self._event.take(np.zeros(n_points, dtype=np.intp))
            nfa = self._classifier.nfa
            if nfa is not None and nfa.particles is not None and "particles" in named:
                stack.enter_context(_replaced(nfa.particles, named["particles"].to))
            if nfa is not None and nfa.numbers is not None:
                numbers = nfa.numbers
                values = {
                    kind: named.get(kind, ends[0].expand(n_points, -1))
                    for kind, ends in self._number_ends.items()
                }
                soft = numbers.tokens_of(
                    values["standard"], values["missing"], numbers.stated(events)
                )
                stack.enter_context(_replaced(numbers, soft.to))
            if self._encoder.reads_hypotheses:
                logits = forward_prompts(self._classifier, self._encoder.encode(events), events)
            else:
                logits = self._classifier(
                    repeated(self._token_ids), None, repeated(self._positions), events
                )
        score: Tensor = logits[:, 1] - logits[:, 0]
        return score


@contextmanager
def _replaced(module: nn.Module, output: Callable[[torch.dtype], Tensor]) -> Iterator[None]:
    """Replaces the output of a module inside the ``with`` block, in the same precision."""
    hook = module.register_forward_hook(lambda _module, _inputs, own: output(own.dtype))
    try:
        yield
    finally:
        hook.remove()


def _particle_ends(
    encoder: ParticleEncoder,
    particles: NDArray[np.float32] | None,
    background: NDArray[np.float32] | None,
) -> tuple[Tensor, Tensor]:
    """Returns the soft tokens of an event's jets, and the mean ones of background events."""
    if particles is None or background is None:
        raise ValueError("this model reads particles: pass those of the event and of background")
    with torch.no_grad():
        own, others = (
            encoder.encode(ModelInputs(np.empty((len(jets), 0)), jets))
            for jets in (particles, background)
        )
    return own, others.mean(dim=0, keepdim=True)


def _number_ends(
    standardizer: Standardizer, row: Floats, reference: Floats, device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns standardised numbers and the mask of missing ones, for the event and the reference.

    Where one of the two lacks a number, only the mask differs.
    """
    with torch.no_grad():
        standard, missing = standardizer(torch.from_numpy(np.stack([row, reference])).to(device))
    lacking = missing.any(dim=0)
    present = torch.where(missing, 0.0, standard).sum(dim=0)
    standard = torch.where(lacking, present, standard)
    return {
        "standard": (standard[:1], standard[1:]),
        "missing": (missing[:1].float(), missing[1:].float()),
    }
