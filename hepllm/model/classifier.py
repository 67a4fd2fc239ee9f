"""The event classifier: prompt tokens and soft tokens in, one logit for each class out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hepllm.config import Config
from hepllm.model.backbone import Backbone, causal_model
from hepllm.model.fusion import NumericFusionAdapter


class EventClassifier(nn.Module):
    """A language model with LoRA weights that reads prompt tokens and the NFA's soft tokens.

    Only the last position meets the output matrix, and only its rows for the label words; nothing
    is generated, so there are no answers that cannot be read.

    Args:
        backbone: the language model.
        nfa: makes soft tokens; None for text only.
        label_tokens: token ids of the label words, background first.
    """

    def __init__(
        self,
        backbone: Backbone,
        nfa: NumericFusionAdapter | None,
        label_tokens: Sequence[int],
    ) -> None:
        super().__init__()
        self.language_model = backbone.model
        self.nfa = nfa
        self.autocast_dtype = backbone.autocast_dtype
        self.label_tokens = tuple(label_tokens)
        self._fusion_gain = 1.0
        # Named now: they may be frozen later for a while.
        self._lora = {
            name: weight
            for name, weight in self.language_model.named_parameters()
            if weight.requires_grad
        }

    @contextmanager
    def silenced_fusion(self) -> Iterator[None]:
        """Sets the soft tokens to zero for a while, to see what the model does without them."""
        self._fusion_gain = 0.0
        try:
            yield
        finally:
            self._fusion_gain = 1.0

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.language_model.parameters()).device

    def forward(
        self,
        token_ids: Tensor,
        attention_mask: Tensor | None = None,
        fusion_positions: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:
        """Classifies a batch.

        Args:
            token_ids: shape (B, L), padded on the left; whatever stands at the fusion positions is
                replaced.
            attention_mask: shape (B, L), 0 on padding; None where no event is padded.
            fusion_positions: shape (B, n_tokens), where the soft tokens go.
            numbers: shape (B, F), float64, NaN where missing.

        Returns:
            Logits of background and signal, shape (B, 2), float32.
        """
        causal = causal_model(self.language_model)
        embeddings = causal.get_input_embeddings()(token_ids)
        if self.nfa is not None:
            if numbers is None or fusion_positions is None:
                msg = "this classifier has an adapter and needs numbers and their positions"
                raise ValueError(msg)
            soft = (self._fusion_gain * self.nfa(numbers)).to(embeddings.dtype)
            index = fusion_positions.unsqueeze(-1).expand_as(soft)
            embeddings = embeddings.scatter(1, index, soft)
        # Padding on the left shifts positions; the model must count from the first real token.
        position_ids = None
        if attention_mask is not None:
            position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
        with torch.autocast(
            token_ids.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None
        ):
            hidden = causal.base_model(
                inputs_embeds=embeddings,
                attention_mask=attention_mask,
                position_ids=position_ids,
                use_cache=False,
            ).last_hidden_state[:, -1]
        rows = causal.get_output_embeddings().weight[list(self.label_tokens)]
        logits: Tensor = hidden.float() @ rows.float().T
        return logits

    def lora_parameters(self) -> dict[str, nn.Parameter]:
        """LoRA weights of the language model, by name, frozen or not."""
        return dict(self._lora)

    def nfa_parameters(self) -> dict[str, nn.Parameter]:
        """Weights of the adapter, by name; none for text only."""
        return dict(self.nfa.named_parameters()) if self.nfa is not None else {}

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """LoRA and NFA weights by name, each prefixed with its group."""
        groups = {"lora": self.lora_parameters(), "nfa": self.nfa_parameters()}
        return {
            f"{group}.{name}": weight
            for group, weights in groups.items()
            for name, weight in weights.items()
        }


def build_classifier(
    backbone: Backbone, label_tokens: Sequence[int], config: Config
) -> EventClassifier:
    """Joins a backbone with a fresh adapter, if the configuration has one.

    The adapter's initial weights depend on ``config.seed`` alone.
    """
    nfa = None
    if config.fusion.enabled:
        embeddings = causal_model(backbone.model).get_input_embeddings().weight
        rms = float(embeddings.detach().float().square().mean().sqrt())
        torch.manual_seed(config.seed)
        nfa = NumericFusionAdapter(
            config.train.feature_names(), embeddings.shape[1], rms, config.fusion
        )
        nfa.to(backbone.device)
    return EventClassifier(backbone, nfa, label_tokens)
