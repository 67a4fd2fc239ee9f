"""Without a network, a hub name is one line after a few seconds, or the copy on this machine."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import constants

from hepllm.config import BackboneConfig
from hepllm.errors import InputError
from hepllm.model import hub
from hepllm.model.backbone import load_backbone, load_tokenizer, lora_state
from hepllm.model.sources import identify_model

MakeFamily = Callable[[str], Path]
NAME = "somebody/a-model"


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    hub.hub_options.cache_clear()
    yield
    hub.hub_options.cache_clear()


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def no_network(*_: object, **__: object) -> NoReturn:
    raise OSError("[Errno -3] Temporary failure in name resolution\nmore")


@pytest.fixture
def copy_of_a_model(hub_cache: Path, make_family: MakeFamily) -> Path:
    """A model in the cache of the hub's client."""
    commit = "0123456789" * 4
    folder = hub_cache / f"models--{NAME.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(commit)
    (folder / "snapshots").mkdir()
    (folder / "snapshots" / commit).symlink_to(make_family("qwen2"))
    return folder


@pytest.mark.parametrize("load", [load_tokenizer, lambda config: load_backbone(config, 1)])
def test_no_network_is_one_line(
    load: Callable[[BackboneConfig], object], hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "get_hf_file_metadata", no_network)
    with pytest.raises(InputError, match=r"name resolution more\); go online, or copy") as refused:
        load(BackboneConfig(name=NAME, device="cpu"))
    assert "\n" not in str(refused.value)


def test_a_hub_that_never_answers_is_given_up_soon(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets that are dropped without a word, as by many firewalls of clusters."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub, "_PATIENCE", 0.3)
        started = time.perf_counter()
        with pytest.raises(InputError, match="the model hub cannot be asked"):
            hub.hub_options(NAME)
    assert time.perf_counter() - started < 3


def test_without_a_network_the_copy_is_loaded(
    copy_of_a_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub, "get_hf_file_metadata", no_network)
    monkeypatch.setattr("huggingface_hub.file_download.get_hf_file_metadata", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    with caplog.at_level(logging.WARNING):
        backbone = load_backbone(BackboneConfig(name=NAME, device="cpu"), 1)
        assert lora_state(backbone.model)
        assert identify_model(NAME)["source"] == {"hub": NAME, "commit": "0123456789" * 4}
    told = [record for record in caplog.records if record.name.startswith("hepllm")]
    assert [record.getMessage() for record in told] == [
        f"{NAME}: the model hub does not answer; taking the copy on this machine"
    ]


def test_who_is_offline_on_purpose_is_not_asked(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_ask", lambda _: pytest.fail("asked"))
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        hub.hub_options(NAME)


def test_a_name_that_cannot_be_one_is_told(hub_cache: Path) -> None:
    with pytest.raises(InputError, match="no such folder, and no name on the hub"):
        load_tokenizer(BackboneConfig(name="a/b/c"))
