"""The event classifier: prompt tokens and soft tokens in, one logit per class out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hepllm.config import FusionConfig
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.model.backbone import Backbone, causal_model
from hepllm.model.devices import free_cached
from hepllm.model.embeddings import (
    check_embeddings_suffice,
    embedding_rms,
    keep_output_rows,
)
from hepllm.model.inputs import ModelInputs
from hepllm.model.packed_pass import encode_packed, prepare_packing
from hepllm.model.packing import PackedPrompts
from hepllm.model.prefix import encode_prefix, obstacle_to_sharing, sharing_pays

LOG = logging.getLogger(__name__)


class EventClassifier(nn.Module):
    """A language model with LoRA weights that reads prompt tokens and the NFA's soft tokens.

    Multiplies only the last position with the output matrix, and only with the rows of the label
    words; the other rows are freed, unless they are embeddings too. It generates no text, so no
    answer needs parsing.

    Args:
        backbone: the language model.
        nfa: makes soft tokens; None for text only.
        label_tokens: token ids of the label words, background first.
    """

    def __init__(
        self, backbone: Backbone, nfa: NumericFusionAdapter | None, label_tokens: Sequence[int]
    ) -> None:
        super().__init__()
        self.language_model = backbone.model
        self.nfa = nfa
        self.autocast_dtype = backbone.autocast_dtype
        self.label_tokens = tuple(label_tokens)
        self._output_rows = keep_output_rows(causal_model(backbone.model), self.label_tokens)
        self._fusion_gain = 1.0
        self._said: set[str] = set()
        self._is_prepared = False
        # Listed now: training may freeze them for a while.
        self._lora = {
            name: weight
            for name, weight in self.language_model.named_parameters()
            if weight.requires_grad
        }

    @contextmanager
    def silenced_fusion(self) -> Iterator[None]:
        """Sets the soft tokens to zero inside the ``with`` block, for an ablation."""
        self._fusion_gain = 0.0
        try:
            yield
        finally:
            self._fusion_gain = 1.0

    @property
    def device(self) -> torch.device:
        """Device that holds the model."""
        return next(self.language_model.parameters()).device

    def forward(
        self,
        token_ids: Tensor,
        attention_mask: Tensor | None = None,
        fusion_positions: Tensor | None = None,
        inputs: ModelInputs | None = None,
        n_shared: int = 0,
    ) -> Tensor:
        """Classifies a batch.

        Args:
            token_ids: shape (B, L), padded on the right; soft tokens replace the ids at the fusion
                positions.
            attention_mask: shape (B, L), 0 on padding; None where no event is padded.
            fusion_positions: shape (B, n_tokens), where the soft tokens go.
            inputs: the same events for the adapter; not needed without one.
            n_shared: first tokens that all events share, before any soft token; encoded once for
                the batch where that is faster.

        Returns:
            Logits of background and signal, shape (B, 2), float32.
        """
        return self.read(
            self.last_states(token_ids, attention_mask, fusion_positions, inputs, n_shared)
        )

    def last_states(
        self,
        token_ids: Tensor,
        attention_mask: Tensor | None = None,
        fusion_positions: Tensor | None = None,
        inputs: ModelInputs | None = None,
        n_shared: int = 0,
    ) -> Tensor:
        """Returns hidden states after last tokens, (B, hidden size); arguments as ``forward``."""
        causal = causal_model(self.language_model)
        embeddings = self._embed(token_ids, fusion_positions, inputs)
        n_events, n_tokens = token_ids.shape
        n_cached = n_shared if self._shares_prefix(n_shared, n_tokens, n_events) else 0
        with torch.autocast(
            token_ids.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None
        ):
            cache = None
            if n_cached:
                cache = encode_prefix(causal.base_model, embeddings[:1, :n_cached], n_events)
            # No mask: the last token attends to nothing to its right, where the padding is.
            hidden = causal.base_model(
                inputs_embeds=embeddings[:, n_cached:],
                past_key_values=cache,
                use_cache=cache is not None,
            ).last_hidden_state
        if attention_mask is None:
            states: Tensor = hidden[:, -1]
        else:
            last = attention_mask.sum(1) - 1 - n_cached
            states = hidden[torch.arange(len(hidden), device=hidden.device), last]
        return states

    def _embed(
        self, token_ids: Tensor, fusion_positions: Tensor | None, inputs: ModelInputs | None
    ) -> Tensor:
        """Returns the embeddings of the tokens, with soft tokens at the fusion positions."""
        embeddings: Tensor = causal_model(self.language_model).get_input_embeddings()(token_ids)
        if self.nfa is None:
            return embeddings
        if inputs is None or fusion_positions is None:
            raise ValueError(
                "this classifier has an adapter: pass inputs and fusion_positions to forward"
            )
        soft = (self._fusion_gain * self.nfa(inputs)).to(embeddings.dtype)
        index = fusion_positions.unsqueeze(-1).expand_as(soft)
        return embeddings.scatter(1, index, soft)

    def prepare_packing(self) -> None:
        """Chooses an attention that keeps packed events apart, once.

        Raises:
            InputError: if the language model has none.
        """
        if not self._is_prepared:
            prepare_packing(causal_model(self.language_model), self.autocast_dtype)
            self._is_prepared = True

    def answer(self, prompts: PackedPrompts, inputs: ModelInputs) -> Tensor:
        """Classifies events that are packed behind their questions.

        Args:
            prompts: questions and B events.
            inputs: the same events for the adapter, and then those of ``prompts.examples``.

        Returns:
            Logits of background and signal, shape (B, 2), float32, as of one event at a time.

        Raises:
            InputError: if the language model cannot keep packed events apart.
        """
        return self.read(self.last_states_of_packed(prompts, inputs))

    def last_states_of_packed(self, prompts: PackedPrompts, inputs: ModelInputs) -> Tensor:
        """Returns hidden states after last tokens, (B, hidden size); arguments as ``answer``."""
        if self.nfa is None:
            raise ValueError("packed events are soft tokens, and this classifier has no adapter")
        self.prepare_packing()
        parts = [(prompts.fusion_places.flatten(), self.nfa(inputs).flatten(0, 1))]
        if len(prompts.masses):
            masses = self.nfa.encode_masses(prompts.masses.to(self.device))
            parts.append((prompts.mass_places, masses))
        return self._packed_states(prompts, parts)

    def read_packed(
        self, prompts: PackedPrompts, soft_tokens: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Classifies packed events whose soft tokens are given; after ``prepare_packing``.

        Args:
            prompts: questions and B events.
            soft_tokens: places, shape (M,), and the vectors that go there, shape (M, hidden size).

        Returns:
            Logits of background and signal, shape (B, 2), float32.
        """
        return self.read(self._packed_states(prompts, soft_tokens))

    def _packed_states(
        self, prompts: PackedPrompts, soft_tokens: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        device, causal = self.device, causal_model(self.language_model)
        words = causal.get_input_embeddings()(prompts.token_ids.to(device))
        embeddings = self.with_soft_tokens(words.flatten(0, 1), soft_tokens)
        hidden = encode_packed(
            causal, embeddings.view_as(words), prompts, self.autocast_dtype
        ).flatten(0, 1)
        return hidden[prompts.last_places.to(device)]

    def read_sequence(
        self, token_ids: Tensor, soft_tokens: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Classifies one sequence of tokens, shape (L,), at its last one; logits of shape (1, 2).

        ``soft_tokens`` are those of ``read_packed``.
        """
        causal = causal_model(self.language_model)
        words = causal.get_input_embeddings()(token_ids.to(self.device))
        embeddings = self.with_soft_tokens(words, soft_tokens).unsqueeze(0)
        with torch.autocast(
            self.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None
        ):
            hidden = causal.base_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        return self.read(hidden[:, -1])

    def with_soft_tokens(
        self, embeddings: Tensor, soft_tokens: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Puts soft tokens in place of embeddings, shape (T, hidden size)."""
        for places, soft in soft_tokens:
            index = places.to(self.device).unsqueeze(1).expand_as(soft)
            silenced = (self._fusion_gain * soft).to(embeddings.dtype)
            embeddings = embeddings.scatter(0, index, silenced)
        return embeddings

    def read(self, hidden: Tensor) -> Tensor:
        """Returns the logits of the label words after last tokens, shape (B, 2), float32."""
        output = causal_model(self.language_model).get_output_embeddings().weight
        logits: Tensor = hidden.float() @ output[list(self._output_rows)].float().T
        return logits

    def _shares_prefix(self, n_shared: int, n_tokens: int, n_events: int) -> bool:
        if not sharing_pays(n_shared, n_tokens, n_events):
            return False
        causal = causal_model(self.language_model)
        obstacle = obstacle_to_sharing(causal, training=self.training)
        if obstacle is not None and obstacle not in self._said:
            self._said.add(obstacle)
            LOG.info(
                "all prompts share their first %d tokens, but each event encodes them again: %s",
                n_shared,
                obstacle,
            )
        return obstacle is None

    def lora_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the LoRA weights of the language model by name, frozen or not."""
        return dict(self._lora)

    def nfa_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the adapter's weights by name; none for text only."""
        return self.nfa.weights() if self.nfa is not None else {}

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Returns LoRA and NFA weights, named ``lora.<name>`` and ``nfa.<name>``."""
        lora = {f"lora.{name}": weight for name, weight in self._lora.items()}
        return lora | {f"nfa.{name}": weight for name, weight in self.nfa_parameters().items()}


def build_classifier(
    backbone: Backbone,
    label_tokens: Sequence[int],
    names: Sequence[str],
    fusion: FusionConfig,
    seed: int,
    *,
    reads_hypotheses: bool = False,
) -> EventClassifier:
    """Joins a backbone with a fresh adapter, unless fusion is off.

    Only ``seed`` decides the adapter's initial weights; ``PromptEncoder`` finds ``label_tokens``.
    With ``reads_hypotheses`` the adapter encodes the masses of hypotheses.

    Raises:
        InputError: if the language model reads more of a word than its embedding.
    """
    nfa, causal = None, causal_model(backbone.model)
    check_embeddings_suffice(causal, backbone.autocast_dtype)
    if fusion.enabled:
        hidden_size = causal.get_input_embeddings().weight.shape[1]
        rms = embedding_rms(causal)
        torch.manual_seed(seed)
        nfa = NumericFusionAdapter(
            names, hidden_size, rms, fusion, reads_hypotheses=reads_hypotheses
        )
        nfa.to(backbone.device)
    classifier = EventClassifier(backbone, nfa, label_tokens)
    free_cached(backbone.device)
    return classifier
