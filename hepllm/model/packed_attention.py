"""Attention of packed events that computes only the pairs of tokens that may attend.

With a mask, attention computes all pairs of tokens in a row and throws nearly all of them away.
Here a question attends to itself, and each event to its question and to itself. transformers calls
attentions by name; this one is registered there, so that it serves every family that passes its
arguments on, and is exact for windows of latest tokens and for capped scores as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from hepllm.model.footprint import PACKED
from hepllm.model.packing import PackedPrompts


@dataclass(frozen=True)
class Arrangement:
    """Where the tokens of Q questions of at most P tokens, and of their events, stand.

    Places are counted through all rows; an unused one repeats any token.

    Attributes:
        questions: shape (Q, P).
        events: shape (Q, G, T), the T tokens of each of at most G events of a question.
        lengths: shape (Q,), tokens of each question.
        origin: shape (R * S,), for each place its number among all of ``questions``, then all of
            ``events``, then one zero for padding.
    """

    questions: Tensor
    events: Tensor
    lengths: Tensor
    origin: Tensor


def arrange(prompts: PackedPrompts, device: torch.device) -> Arrangement:
    """Finds the places of questions and events in packed prompts."""
    starts, lengths, counts = prompts.starts, prompts.lengths, prompts.counts
    own = prompts.n_tokens_of_event - prompts.longest_question
    n_copies, n_tokens, n_events = len(starts), int(lengths.max()), int(counts.max())
    place = torch.arange(n_tokens)
    is_used = place < lengths[:, None]
    questions = torch.where(is_used, starts[:, None] + place, 0)
    event, token = torch.arange(n_events), torch.arange(own)
    is_there = (event < counts[:, None])[:, :, None].expand(-1, -1, own)
    behind = (starts + lengths)[:, None, None] + own * event[:, None] + token
    events = torch.where(is_there, behind, 0)
    n_questions = n_copies * n_tokens
    origin = torch.full((prompts.token_ids.numel(),), n_questions + events.numel())
    origin[questions[is_used]] = torch.arange(n_questions).view_as(questions)[is_used]
    origin[events[is_there]] = (n_questions + torch.arange(events.numel()).view_as(events))[
        is_there
    ]
    parts = (questions, events, lengths, origin)
    return Arrangement(*(part.to(device) for part in parts))


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    arrangement: Arrangement | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Computes attention as transformers asks for it.

    Args:
        module: the layer.
        query: shape (R, heads, S, D).
        key: shape (R, key heads, S, D).
        value: shape (R, key heads, S, D).
        attention_mask: used without an arrangement only.
        scaling: factor on scores; None: one over the root of D.
        dropout: probability that a weight is dropped.
        softcap: largest score; None for any.
        sliding_window: positions that a token sees, its own included; None for all.
        arrangement: where the tokens stand; None for rows of one sequence each.
        others: what transformers passes to attentions of other kinds.

    Returns:
        Shape (R, S, heads, D), and nothing for the weights.
    """
    if arrangement is None:
        options = {"dropout": dropout, "scaling": scaling, "softcap": softcap, **others}
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return found
    rule = _Rule(scaling or query.shape[-1] ** -0.5, dropout, softcap, sliding_window)
    n_rows, n_heads, size, n_features = query.shape
    tokens = _Tokens(*(_flat(part.to(value.dtype)) for part in (query, key, value)))
    question = tokens.at(arrangement.questions)
    of_questions = _within_questions(rule, question)
    of_events = _of_events(rule, tokens.at(arrangement.events), question, arrangement.lengths)
    results = torch.cat(
        [
            of_questions.reshape(-1, n_heads * n_features),
            of_events.reshape(-1, n_heads * n_features),
            value.new_zeros(1, n_heads * n_features),
        ]
    )
    joined = results.index_select(0, arrangement.origin)
    return joined.view(n_rows, size, n_heads, n_features), None


@dataclass(frozen=True)
class _Rule:
    """How scores become weights."""

    scaling: float
    dropout: float
    softcap: float | None
    window: int | None

    def scores(self, products: Tensor) -> Tensor:
        """Scales, and caps, products of queries and keys."""
        scaled = products * self.scaling
        return scaled if self.softcap is None else self.softcap * (scaled / self.softcap).tanh()

    def weights(self, scores: Tensor, seen: Tensor) -> Tensor:
        """Returns weights over the last axis, in float32 until they are rounded."""
        hidden = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
        weights = hidden.softmax(-1, dtype=torch.float32).to(scores.dtype)
        return functional.dropout(weights, self.dropout) if self.dropout else weights

    def sees(self, distance: Tensor) -> Tensor:
        """Returns which tokens are seen, by how many positions they stand to the left."""
        seen = distance >= 0
        return seen if self.window is None else seen & (distance < self.window)


def _flat(part: Tensor) -> Tensor:
    """Turns (R, heads, S, D) into (R * S, heads, D)."""
    return part.transpose(1, 2).flatten(0, 1)


class _Tokens(NamedTuple):
    """Queries, keys and values of some tokens, shapes (Q, ..., heads, D)."""

    query: Tensor
    key: Tensor
    value: Tensor

    def at(self, places: Tensor) -> _Tokens:
        """Returns those at some places of the first axis."""
        index = places.flatten()
        return _Tokens(
            *(part.index_select(0, index).view(*places.shape, *part.shape[1:]) for part in self)
        )


def _within_questions(rule: _Rule, question: _Tokens) -> Tensor:
    """Returns the results of questions, shape (Q, P, heads, D)."""
    query, key, value = question
    n_questions, n_tokens, n_keys, n_features = key.shape
    # Heads that share a key stand beside each other: (Q, key heads, group, P, D).
    grouped = query.view(n_questions, n_tokens, n_keys, -1, n_features).permute(0, 2, 3, 1, 4)
    products = grouped.flatten(2, 3) @ key.permute(0, 2, 3, 1)
    scores = rule.scores(products.view(*grouped.shape[:-1], n_tokens))
    place = torch.arange(n_tokens, device=key.device)
    weights = rule.weights(scores, rule.sees(place[:, None] - place)).flatten(2, 3)
    results = (weights @ value.transpose(1, 2)).view_as(grouped)
    return results.permute(0, 3, 1, 2, 4)


def _of_events(rule: _Rule, event: _Tokens, question: _Tokens, lengths: Tensor) -> Tensor:
    """Returns the results of events, shape (Q, G, T, heads, D).

    ``lengths`` are the tokens of each question, shape (Q,).
    """
    n_questions, n_events, own, n_keys, n_features = event.key.shape
    n_tokens = question.key.shape[1]
    by_key = event.query.view(n_questions, n_events, own, n_keys, -1, n_features)
    grouped = by_key.permute(0, 3, 4, 1, 2, 5)  # (Q, key heads, group, G, T, D)
    products = grouped.flatten(2, 4) @ question.key.permute(0, 2, 3, 1)
    products = products.view(*grouped.shape[:-1], n_tokens)
    # An event has few tokens: products without a matrix product for each event.
    own_products = (by_key.unsqueeze(3) * event.key[:, :, None, :, :, None]).sum(-1)
    own_products = own_products.permute(0, 4, 5, 1, 2, 3)  # (Q, key heads, group, G, T, T)
    token, place = (torch.arange(n, device=lengths.device) for n in (own, n_tokens))
    to_question = (lengths[:, None] + token)[:, :, None] - place  # positions to the left, (Q, T, P)
    seen = torch.cat(
        [
            rule.sees(to_question) & (place < lengths[:, None, None]),
            rule.sees(token[:, None] - token).expand(n_questions, -1, -1),
        ],
        dim=-1,
    )
    scores = rule.scores(torch.cat([products, own_products], dim=-1))
    weights = rule.weights(scores, seen[:, None, None, None])
    of_question, of_own = weights[..., :n_tokens], weights[..., n_tokens:]
    results = (of_question.flatten(2, 4) @ question.value.transpose(1, 2)).view_as(grouped)
    of_own = of_own.permute(0, 3, 4, 5, 1, 2).unsqueeze(-1)
    own_results: Tensor = (of_own * event.value[:, :, None, :, :, None]).sum(3)
    return (results.permute(0, 3, 4, 1, 2, 5) + own_results).flatten(3, 4)


AttentionInterface.register(PACKED, packed_attention)
