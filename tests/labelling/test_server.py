"""Predictions of a server: answers, faults, limits, and where the key goes."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hepllm.config import LabelConfig, ServerConfig
from hepllm.errors import InputError, RunError
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.labelling.predictions import NO_CONTEXT, Context, Request
from hepllm.labelling.server import ServerModel, top_tokens
from hepllm.labelling.wording import write_items
from hepllm.stages.label import label as run_stage

_SPEC = importlib.util.spec_from_file_location("stand_in", Path(__file__).parent / "stand_in.py")
assert _SPEC is not None
assert _SPEC.loader is not None
stand_in = importlib.util.module_from_spec(_SPEC)
sys.modules["stand_in"] = stand_in
_SPEC.loader.exec_module(stand_in)
StandIn, running = stand_in.StandIn, stand_in.running

MASSES = np.array([[50.0], [150.0], [300.0], [80.0], [90.0], [120.0]])
WORDING = write_items(MASSES, ("jet_mass_light",), LabelConfig(), OPEN)
REQUESTS = [
    Request(NO_CONTEXT, (0, 1, 2)),
    Request(Context((3, 4), (1, 1)), (1,)),
    Request(Context((3, 4), (0, 0)), (1, 5)),
]


def connect(server: Any, *, serial: bool = False, **settings: Any) -> ServerModel:
    quick = {"wait": 0.01, "longest_wait": 0.05, "timeout": 0.3, **settings}
    return ServerModel(WORDING, server.url, ServerConfig(**quick), serial=serial)


@pytest.mark.parametrize("interface", ["completions", "chat"])
@pytest.mark.parametrize("style", ["mapping", "content"])
def test_log_odds_are_those_of_the_names(interface: str, style: str) -> None:
    with running(StandIn(style=style)) as server:
        found = connect(server, interface=interface).log_odds(REQUESTS)
        asked = server.bodies[0]
    assert_allclose(found[0], MASSES[:3, 0] / 100 - 1)
    assert_allclose(found[1], [0.5 + 0.2])
    assert_allclose(found[2], [0.5 - 0.2, 0.2 - 0.2], atol=1e-12)
    assert (asked["model"], asked["max_tokens"], asked["temperature"]) == ("stand-in", 1, 0)


def test_a_prompt_is_head_labelled_events_and_target() -> None:
    (prompt,) = WORDING.prompts(REQUESTS[1])
    assert prompt == (
        WORDING.head + f"{WORDING.items[3]} signal\n{WORDING.items[4]} signal\n{WORDING.items[1]}"
    )
    assert WORDING.items[1].startswith("event m=0150")
    assert WORDING.items[1].endswith("class:")


@pytest.mark.parametrize("faults", [[429, 503], ["hang"], [500, "hang", 429]])
def test_a_busy_server_is_tried_again(faults: list[Any]) -> None:
    with running(StandIn(faults=faults)) as server:
        found = connect(server, serial=True).log_odds(REQUESTS[:1])
    assert_allclose(found[0], MASSES[:3, 0] / 100 - 1)


def test_tries_end() -> None:
    with running(StandIn(faults=[503] * 9)) as server:
        model = connect(server, serial=True, tries=3)
        with pytest.raises(RunError, match="no answer in 3 tries: status 503: busy"):
            model.log_odds([Request(NO_CONTEXT, (0,))])
        assert len(server.faults) == 6
    with pytest.raises(
        RunError, match=r"no answer in 2 tries: Failed to establish .* Connection refused"
    ):
        connect(server, tries=2)


def test_a_rate_limit_is_kept() -> None:
    with running(StandIn()) as server:
        model = connect(server, per_minute=600.0, parallel=3)
        started = time.monotonic()
        model.log_odds(REQUESTS)
        assert time.monotonic() - started > 0.45  # six requests, 0.1 s apart


def test_keys_come_from_the_environment_and_go_to_one_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(StandIn(key="secret")) as server:
        with pytest.raises(InputError, match="environment variable HEPLLM_API_KEY is not set"):
            connect(server).log_odds(REQUESTS[:1])
        monkeypatch.setenv("MY_KEY", "secret")
        model = connect(server, key_variable="MY_KEY")
        assert len(model.log_odds(REQUESTS[:1])[0]) == 3
        monkeypatch.setenv("MY_KEY", "wrong")
        with pytest.raises(InputError, match="MY_KEY was refused") as refused:
            connect(server, key_variable="MY_KEY").log_odds(REQUESTS[:1])
        assert "wrong" not in str(refused.value).replace("was refused", "")
        monkeypatch.setenv("MY_KEY", "sec\nret")
        with pytest.raises(InputError, match="characters that no key has"):
            connect(server, key_variable="MY_KEY")
    monkeypatch.setenv("MY_KEY", "secret")
    for url, reason in (
        ("http://example.org/v1", "without encryption"),
        ("https://me:secret@example.org/v1", "has a key or password in it"),
        ("http:///v1", "names no server"),
    ):
        with pytest.raises(InputError, match=reason) as refused:
            ServerModel(WORDING, url, ServerConfig(key_variable="MY_KEY"), serial=True)
        assert "secret" not in str(refused.value)


def test_redirects_are_not_followed() -> None:
    with running(StandIn(faults=[307])) as server:
        model = connect(server)
        with pytest.raises(InputError, match="redirects to nowhere, which is not followed"):
            model.log_odds([Request(NO_CONTEXT, (0,))])


def test_long_prompts_are_refused_with_their_size() -> None:
    with running(StandIn(context=36)) as server:
        model = connect(server)
        model.check_fit(2)
        with pytest.raises(InputError, match=r"5 labelled events .* reads 36; set label\.context="):
            model.check_fit(5)
    with running(StandIn(limit=30)) as server:
        model = connect(server)
        with pytest.raises(InputError, match="maximum context length is 30 tokens"):
            model.check_fit(5)
    with running(StandIn(cuts=25)) as server:
        model = connect(server)
        with pytest.raises(InputError, match="the server cuts prompts"):
            model.check_fit(5)


def test_names_that_are_not_listed_are_bounded_or_refused() -> None:
    with running(StandIn(tokens={" signal": -0.5, " the": -2.0})) as server:
        model = connect(server)
        found = model.log_odds(REQUESTS[:1])[0]
        assert_allclose(found, -0.5 + 2.0)
        assert model.n_bounded == 3
    with running(StandIn(tokens={" the": -0.5, " s": -1.0})) as server:
        model = connect(server)
        with pytest.raises(RunError, match="neither background nor signal is among the 2 most"):
            model.log_odds([Request(NO_CONTEXT, tuple(range(6)))])


def test_models_are_chosen_by_name() -> None:
    with running(StandIn(models=("one", "two"))) as server:
        assert connect(server, model="two").name == "two"
        with pytest.raises(InputError, match="has the models one, two; name one in"):
            connect(server)
        with pytest.raises(InputError, match="has no three; it has one, two"):
            connect(server, model="three")


@pytest.mark.parametrize(
    "answer",
    [{}, [], {"choices": []}, {"choices": [{"logprobs": None}]}, {"choices": [{"text": "signal"}]}],
)
def test_answers_without_log_probabilities_list_no_tokens(answer: Any) -> None:
    assert top_tokens(answer) == []


def test_tokens_of_no_probability_are_left_out() -> None:
    listed = {" signal": -0.1, " background": -math.inf, " no": None}
    assert top_tokens({"choices": [{"logprobs": {"top_logprobs": [listed]}}]}) == [
        (" signal", -0.1)
    ]


def test_a_labelling_goes_on_when_its_server_is_back(
    tiny_data: Path, tiny_config: Any, tmp_path: Path
) -> None:
    dataset, output = tiny_data / "data" / "rnd", tmp_path / "labels.parquet"

    def run(url: str, file: Path) -> Any:
        settings = (
            *("label.pool=16", "label.context=4", "label.blocks=4", f"label.backend={url}"),
            *("label.server.tries=2", "label.server.wait=0.01", "label.server.parallel=1"),
        )
        return run_stage(dataset, tiny_config(*settings), file).record

    with running(StandIn()) as server:
        whole = run(server.url, tmp_path / "whole.parquet")
        n_whole = len(server.bodies)
        # The pool is the same, so the server is asked the same again; it fails on the way.
        server.bodies.clear()
        server.fails_after = 30
        with pytest.raises(RunError, match="no answer in 2 tries: status 503"):
            run(server.url, output)
        assert not output.exists()
        server.fails_after, server.faults = None, []
        again = run(server.url, output)
        assert n_whole <= len(server.bodies) < n_whole + 30
    assert again.n_predictions == whole.n_predictions
    assert (again.n_signal, again.n_background) == (whole.n_signal, whole.n_background)
    assert again.backend == f"stand-in at {server.url}"
