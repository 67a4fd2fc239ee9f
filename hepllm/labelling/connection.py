"""Requests to an OpenAI-compatible server: time-outs, tries, a rate limit, and the key.

The key is read from an environment variable and goes to the named server alone: redirects are not
followed, ``.netrc`` is not read, and without encryption it goes to this machine only.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import requests

from hepllm.config import ServerConfig
from hepllm.data.download import Patience
from hepllm.errors import InputError, RunError

LOG = logging.getLogger(__name__)

_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_LONGEST_REASON = 300


class Connection:
    """Sends JSON to a server and returns its answers; may be used by several threads.

    Args:
        url: address up to ``/v1``.
        config: time-outs, tries, rate and name of the key's variable.

    Raises:
        InputError: the address is none, or the key would be sent where it must not.
    """

    def __init__(self, url: str, config: ServerConfig) -> None:
        self._url = url.rstrip("/")
        self._config = config
        self._patience = Patience(config.tries, config.wait, config.longest_wait, config.timeout)
        self._key = _read_key(self._url, config.key_variable)
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def get(self, path: str) -> Any:
        """Answer to a GET request; see ``post``."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Answer to a POST request, as a JSON tree.

        Raises:
            InputError: the server refuses the request, the key or the path.
            RunError: it does not answer, or not in JSON, after all tries.
        """
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        where, reason = f"{self._url}/{path}", ""
        for n_failed in range(1, self._config.tries + 1):
            self._wait_for_turn()
            asked = 0.0
            try:
                answer = self._session().request(
                    method,
                    where,
                    json=body,
                    timeout=self._config.timeout,
                    allow_redirects=False,
                )
            except (requests.ConnectionError, requests.Timeout) as error:
                reason = _cause(error)
            except requests.RequestException as error:
                raise InputError(f"label.backend: {where}: {_cause(error)}") from None
            else:
                if answer.status_code not in _TRY_AGAIN:
                    return self._read(where, answer)
                reason = f"status {answer.status_code}: {_message(answer)}"
                asked = _retry_after(answer)
            if n_failed < self._config.tries:
                LOG.info("%s: %s; trying again", where, reason)
                self._patience.sleep(n_failed, asked)
        tries = "1 try" if self._config.tries == 1 else f"{self._config.tries} tries"
        raise RunError(
            f"{where}: no answer in {tries}: {reason}; predictions so far are "
            "kept, so run the same command again when the server answers"
        )

    def _read(self, where: str, answer: requests.Response) -> Any:
        status = answer.status_code
        if status in {401, 403}:
            state = "was refused" if self._key else "is not set"
            raise InputError(
                f"{where}: status {status}: the key in the environment variable "
                f"{self._config.key_variable} {state} (label.server.key_variable names another)"
            )
        if 300 <= status < 400:
            raise InputError(
                f"{where}: redirects to {answer.headers.get('Location', 'nowhere')}, which is not "
                "followed; name the server itself in label.backend"
            )
        if status >= 400:
            raise InputError(f"{where}: status {status}: {_message(answer)}")
        try:
            return answer.json()
        except ValueError:
            raise RunError(f"{where}: the answer is not JSON: {answer.text[:80]!r}") from None

    def _session(self) -> requests.Session:
        found: requests.Session | None = getattr(self._threads, "session", None)
        if found is None:
            found = requests.Session()
            found.auth = self._authorise  # also keeps requests from reading .netrc
            self._threads.session = found
        return found

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _wait_for_turn(self) -> None:
        """Waits until the rate limit allows one more request."""
        if self._config.per_minute is None:
            return
        with self._lock:
            start = max(self._next, time.monotonic())
            self._next = start + 60.0 / self._config.per_minute
        time.sleep(max(0.0, start - time.monotonic()))


def _read_key(url: str, variable: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname:
        raise InputError(f"label.backend: {url}: names no server")
    if parts.username or parts.password:
        raise InputError(
            f"label.backend: the address of {parts.hostname} has a key or password in it; put the "
            f"key into the environment variable {variable}"
        )
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"{variable}: has characters that no key has")
    if key and parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise InputError(
            f"label.backend: {url}: without encryption the key in {variable} could be read by "
            "others; use https://, or unset the variable"
        )
    return key


def _retry_after(answer: requests.Response) -> float:
    """Seconds that a busy server asks to wait; 0 where it asks for nothing."""
    try:
        return max(0.0, float(answer.headers.get("Retry-After", "0")))
    except ValueError:  # a date
        return 0.0


def _message(answer: requests.Response) -> str:
    """What a server says of an error, on one line."""
    try:
        tree = answer.json()
        error = tree.get("error", tree) if isinstance(tree, dict) else tree
        text = error.get("message", error) if isinstance(error, dict) else error
    except ValueError:
        text = answer.text
    return " ".join(str(text).split())[:_LONGEST_REASON] or "no reason given"


def _cause(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer within label.server.timeout"
    inner = getattr(error.args[0], "reason", None) if error.args else None
    # urllib3 wraps the reason in its retries, and names its connection before it.
    text = str(error) if inner is None else str(inner).partition("): ")[2] or str(inner)
    return " ".join(text.split())[:_LONGEST_REASON]
