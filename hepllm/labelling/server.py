"""Predictions of an OpenAI-compatible server that gives log-probabilities (vLLM, llama.cpp, ...).

A prompt is sent as it is, and the most probable next tokens come back. Both names of the labels
should be among them; one that is not has at most the probability of the last one listed, which is
taken.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import ServerConfig
from hepllm.errors import InputError, RunError
from hepllm.labelling.connection import Connection
from hepllm.labelling.predictions import Context, Request
from hepllm.labelling.wording import Wording

LOG = logging.getLogger(__name__)

_MOST_BLIND, _FEWEST_BLIND = 0.2, 5
"""Share, and number, of predictions without either label from which the labels would be noise."""
_SHORTEST_PIECE = 3
"""Letters of a token that counts as the beginning of a name, or the whole name."""
_GROWTH = 1.2
"""Twice the labelled events must make a prompt longer by this factor, or it was cut."""


class ServerModel:
    """Asks a server; several prompts at the same time.

    Args:
        wording: text of the prompts.
        url: address up to ``/v1``.
        config: model, interface, limits.
        serial: one request at a time.

    Raises:
        InputError: the server or its model cannot be used.
        RunError: it does not answer.
    """

    def __init__(self, wording: Wording, url: str, config: ServerConfig, *, serial: bool) -> None:
        self._wording = wording
        self._config = config
        self._parallel = 1 if serial else config.parallel
        self._connection = Connection(url, config)
        self.name, self._context = _choose_model(self._connection, url, config)
        self.n_read = self.n_bounded = self.n_blind = 0

    def log_odds(self, requests: Sequence[Request]) -> list[Floats]:
        """Returns log P(1) / P(0) of the targets of each request."""
        prompts = [prompt for request in requests for prompt in self._wording.prompts(request)]
        with ThreadPoolExecutor(self._parallel) as pool:
            try:
                answers = list(pool.map(self._ask, prompts))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        values = iter([self._read(answer) for answer in answers])
        return [np.array([next(values) for _ in request.targets]) for request in requests]

    def check_fit(self, size: int) -> None:
        """Sends the longest prompt, and one of half as many labelled items.

        Raises:
            InputError: the server refuses it, or it is longer than the model reads, or was cut.
        """
        order = np.argsort([-len(text) for text in self._wording.items], kind="stable").tolist()
        half = self._n_tokens(order, size // 2)
        whole = self._n_tokens(order, size)
        if whole is None or half is None:
            LOG.warning("the server does not count tokens; whether it cuts prompts is not known")
            return
        if self._context is not None and whole >= self._context:
            each = (whole - half) / max(1, size - size // 2)
            fits = max(0, int(size - (whole + 1 - self._context) / max(each, 1e-9)) - 1)
            raise InputError(
                f"label.context: {size} labelled events and one more make up to {whole} tokens, "
                f"and {self.name} reads {self._context}; set label.context={max(1, fits)}"
            )
        if size >= 4 and whole < _GROWTH * half:
            raise InputError(
                f"label.context: {size} labelled events make {whole} tokens and {size // 2} make "
                f"{half}: the server cuts prompts; set label.context={size // 4}, or start it "
                "with a longer context"
            )

    def _n_tokens(self, order: Sequence[int], size: int) -> int | None:
        target, *others = order
        shown = [others[place % len(others)] for place in range(size)]
        longest = int(len(self._wording.words[1]) > len(self._wording.words[0]))
        request = Request(Context(tuple(shown), (longest,) * size), (target,))
        answer = self._ask(self._wording.prompts(request)[0])
        usage = answer.get("usage") if isinstance(answer, dict) else None
        found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return found if isinstance(found, int) else None

    def _ask(self, prompt: str) -> Any:
        body: dict[str, Any] = {"model": self.name, "max_tokens": 1, "temperature": 0}
        if self._config.interface == "chat":
            body |= {"logprobs": True, "top_logprobs": self._config.top}
            body["messages"] = [{"role": "user", "content": prompt}]
            return self._connection.post("chat/completions", body)
        body |= {"logprobs": self._config.top, "prompt": prompt}
        return self._connection.post("completions", body)

    def _read(self, answer: Any) -> float:
        listed = top_tokens(answer)
        if not listed:
            raise RunError(
                f"{self.name}: the server gives no log-probabilities of tokens; start it with "
                "them, or set label.server.interface to the other one of completions and chat"
            )
        self.n_read += 1
        names = tuple(word.strip() for word in self._wording.words)
        found = [_log_probability(name, other, listed) for name, other in (names, names[::-1])]
        background, signal = found
        if background is None and signal is None:
            self.n_blind += 1
            if self.n_blind >= max(_FEWEST_BLIND, _MOST_BLIND * self.n_read):
                likely = ", ".join(repr(token) for token, _ in listed[:5])
                raise RunError(
                    f"{self.name}: neither {names[0]} nor {names[1]} is among the "
                    f"{len(listed)} most probable tokens of {self.n_blind} of {self.n_read} "
                    f"answers (they begin with {likely}); raise label.server.top, or choose "
                    "label.names that the model would say"
                )
            return 0.0
        if background is None or signal is None:
            self.n_bounded += 1
            if self.n_bounded == 1:
                LOG.warning(
                    "%s: only one of %s and %s is among the %d most probable tokens of an answer; "
                    "the other is taken to be as probable as the last one listed; "
                    "label.server.top asks for more",
                    self.name,
                    *names,
                    len(listed),
                )
        least = min(value for _, value in listed)
        return (least if signal is None else signal) - (least if background is None else background)


def top_tokens(answer: Any) -> list[tuple[str, float]]:
    """Most probable tokens of an answer with their log-probabilities, the likeliest first.

    Completions list them as a mapping, chats and some servers as objects; other answers have none.
    """
    try:
        found = answer["choices"][0]["logprobs"]
        if found.get("content"):
            pairs = [(one["token"], one["logprob"]) for one in found["content"][0]["top_logprobs"]]
        else:
            first = found["top_logprobs"][0]
            pairs = list(first.items() if isinstance(first, Mapping) else _pairs(first))
    except (KeyError, IndexError, TypeError, AttributeError):
        return []
    finite = [
        (str(token), float(value))
        for token, value in pairs
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    return sorted(finite, key=lambda pair: -pair[1])


def _pairs(listed: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    return [(one["token"], one["logprob"]) for one in listed]


def _log_probability(name: str, other: str, listed: Sequence[tuple[str, float]]) -> float | None:
    """Log-probability that an answer begins with a name; None where it is not listed."""
    values = [
        value for token, value in listed if _begins(token, name) and not _begins(token, other)
    ]
    return float(np.logaddexp.reduce(values)) if values else None


def _begins(token: str, name: str) -> bool:
    """Whether a token is the name or its beginning, in any case and with any mark of a space."""
    piece = token.replace("\u2581", " ").replace("\u0120", " ").strip().casefold()
    whole = name.casefold()
    return len(piece) >= min(_SHORTEST_PIECE, len(whole)) and whole.startswith(piece)


def _choose_model(connection: Connection, url: str, config: ServerConfig) -> tuple[str, int | None]:
    """Name of the model and the tokens that it reads, as settings or the server say."""
    try:
        listed = connection.get("models")
    except InputError as error:
        if config.model is None:
            raise InputError(f"{error}; name the model in label.server.model") from None
        return config.model, config.context
    entries = listed.get("data") if isinstance(listed, dict) else None
    known = {
        one["id"]: one.get("max_model_len")
        for one in entries or ()
        if isinstance(one, dict) and isinstance(one.get("id"), str)
    }
    name = config.model
    if name is None:
        if len(known) != 1:
            names = ", ".join(sorted(known)[:10]) or "none"
            raise InputError(f"{url}: has the models {names}; name one in label.server.model")
        (name,) = known
    elif known and name not in known:
        raise InputError(
            f"label.server.model: {url} has no {name}; it has {', '.join(sorted(known)[:10])}"
        )
    length = known.get(name)
    return name, config.context or (length if isinstance(length, int) else None)
