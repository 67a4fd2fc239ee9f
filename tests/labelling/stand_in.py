"""A small server that speaks the protocol of OpenAI's completions, with faults to order."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StandIn:
    """What the server does, and what it was asked.

    Attributes:
        faults: status codes, or ``"hang"``, of the next requests to predict; then it works.
        context: tokens (words) that it reads, as told by ``/v1/models``; None: not told.
        limit: words above which it refuses a prompt.
        cuts: words to which it cuts a prompt in silence.
        key: key that it wants.
        style: ``mapping`` or ``content``, the two forms in which servers list tokens.
        tokens: most probable tokens; None: the names, by a rule of the prompt.
        fails_after: predictions after which it answers 503 for good; None: never.
        bodies: what it was asked to predict.
        headers: headers of all requests.
    """

    faults: list[int | str] = field(default_factory=list)
    context: int | None = None
    limit: int | None = None
    cuts: int | None = None
    key: str | None = None
    style: str = "mapping"
    tokens: dict[str, float] | None = None
    models: tuple[str, ...] = ("stand-in",)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    fails_after: int | None = None
    url: str = ""

    def predict(self, prompt: str) -> dict[str, float]:
        """More signal after more of it among the labelled events, and for larger masses."""
        if self.tokens is not None:
            return self.tokens
        *shown, target = re.split(r"\nevent ", prompt)[1:]
        mass = re.search(r"\bm=(\d+)", target)
        assert mass is not None
        said = sum("signal" in one for one in shown) - sum("background" in one for one in shown)
        odds = 0.1 * said + float(mass[1]) / 100 - 1.0
        return {" signal": -1.0 + odds / 2, " backg": -1.0 - odds / 2, " the": -3.0}


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        stand_in = self.stand_in
        stand_in.headers.append(dict(self.headers))
        entries = [{"id": name} for name in stand_in.models]
        if stand_in.context is not None:
            entries = [{**one, "max_model_len": stand_in.context} for one in entries]
        self._send(200, {"object": "list", "data": entries})

    def do_POST(self) -> None:
        stand_in = self.stand_in
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stand_in.headers.append(dict(self.headers))
        if stand_in.key and self.headers.get("Authorization") != f"Bearer {stand_in.key}":
            self._send(401, {"error": {"message": "no such key"}})
            return
        if stand_in.fails_after is not None and len(stand_in.bodies) >= stand_in.fails_after:
            stand_in.faults = [503]
        if stand_in.faults:
            fault = stand_in.faults.pop(0)
            if fault == "hang":
                threading.Event().wait(0.6)
                return
            self._send(int(fault), {"error": {"message": "busy"}}, {"Retry-After": "0"})
            return
        stand_in.bodies.append(body)
        is_chat = self.path.endswith("/chat/completions")
        prompt = body["messages"][0]["content"] if is_chat else body["prompt"]
        n_words = len(prompt.split())
        if stand_in.limit is not None and n_words > stand_in.limit:
            message = f"maximum context length is {stand_in.limit} tokens, found {n_words}"
            self._send(400, {"error": {"message": message}})
            return
        n_read = n_words if stand_in.cuts is None else min(n_words, stand_in.cuts)
        listed = stand_in.predict(prompt)
        logprobs: dict[str, Any] = {"top_logprobs": [listed]}
        if is_chat or stand_in.style == "content":
            several = [{"token": token, "logprob": value} for token, value in listed.items()]
            logprobs = {"content": [{"top_logprobs": several}]}
        answer = {"choices": [{"logprobs": logprobs}], "usage": {"prompt_tokens": n_read}}
        self._send(200, answer)

    def _send(self, status: int, tree: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(tree).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextmanager
def running(stand_in: StandIn) -> Iterator[StandIn]:
    """Runs the server inside the ``with`` block, at ``stand_in.url``."""
    handler = type("Handler", (_Handler,), {"stand_in": stand_in})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
