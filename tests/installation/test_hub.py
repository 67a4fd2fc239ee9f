from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from hepllm.installation.hub import (
    Weights,
    cached_snapshot,
    check_hub,
    check_model,
    find_weights,
)

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
ON_HUB = Weights(MISTRAL, None, 14.5e9)


def fake_snapshot(cache: Path, name: str, files: dict[str, str]) -> Path:
    """Files as Hugging Face's cache keeps them."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = cache / f"models--{name.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    folder = repo / "snapshots" / commit
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    return folder


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})


def test_a_whole_download_is_found(tmp_path: Path) -> None:
    files = {"config.json": "{}", "model.safetensors.index.json": INDEX}
    shards = {"model-1.safetensors": "12", "model-2.safetensors": "345"}
    folder = fake_snapshot(tmp_path, MISTRAL, files | shards)
    assert cached_snapshot(MISTRAL, tmp_path) == folder
    found = find_weights(MISTRAL, tmp_path)
    assert (found.folder, found.n_bytes, found.to_download) == (folder, 5, 0)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"config.json": "{}"},
        {"config.json": "{}", "model.safetensors.index.json": INDEX, "model-1.safetensors": "1"},
    ],
)
def test_a_broken_off_download_is_none(tmp_path: Path, files: dict[str, str]) -> None:
    fake_snapshot(tmp_path, MISTRAL, files)
    found = find_weights(MISTRAL, tmp_path)
    assert found.folder is None
    assert found.to_download == 14.5e9
    finding = check_model(found)
    assert finding.level == "ok"
    assert "not downloaded yet (14.5 GB)" in finding.found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 1e9),
        ("meta-llama/Llama-3.1-8B", 16e9),
        ("HuggingFaceTB/SmolLM2-135M", 0.27e9),
        ("openai-community/gpt2", 0),
    ],
)
def test_the_size_follows_from_the_name(tmp_path: Path, name: str, expected: float) -> None:
    assert find_weights(name, tmp_path).to_download == expected


def test_built_in_models_and_folders_are_here(tmp_path: Path) -> None:
    tiny = find_weights("tiny-random", tmp_path)
    assert tiny.folder is not None
    assert tiny.n_bytes > 1e6
    assert check_model(tiny).level == "ok"
    assert find_weights(str(tiny.folder), tmp_path).n_bytes == tiny.n_bytes


def test_a_folder_without_a_model_is_a_problem(tmp_path: Path) -> None:
    for name in (str(tmp_path), str(tmp_path / "gone")):
        finding = check_model(find_weights(name, tmp_path))
        assert finding.level == "problem"
        assert finding.remedy


def refuse(error: Exception) -> object:
    def ask(_: str) -> float:
        raise error

    return ask


def response() -> object:
    httpx = pytest.importorskip("httpx2")
    return httpx.Response(403, request=httpx.Request("HEAD", "https://huggingface.co"))


def hub(error: Exception, *, logged_in: bool = False) -> tuple[str, str, str]:
    finding, weights = check_hub(
        ON_HUB,
        is_logged_in=lambda: logged_in,
        ask=refuse(error),  # type: ignore[arg-type]
    )
    assert weights == ON_HUB
    return finding.level, finding.found, finding.remedy


def test_a_gated_model_without_login_is_a_problem() -> None:
    level, found, remedy = hub(GatedRepoError("gated", response=response()))  # type: ignore[arg-type]
    assert level == "problem"
    assert "gated" in found
    assert "not logged in" in found
    assert f"https://huggingface.co/{MISTRAL}" in remedy
    assert "hf auth login" in remedy


def test_a_model_that_is_not_there_is_a_problem() -> None:
    level, found, _ = hub(RepositoryNotFoundError("404", response=response()), logged_in=True)  # type: ignore[arg-type]
    assert level == "problem"
    assert "there is no" in found
    assert "; logged in" in found


@pytest.mark.parametrize(
    "error", [OfflineModeIsEnabled("offline"), TimeoutError("5 s"), RuntimeError("proxy")]
)
def test_without_a_network_it_says_that_it_does_not_know(error: Exception) -> None:
    level, found, remedy = hub(error)
    assert level == "warning"
    assert "could not be checked" in found
    assert remedy


def test_the_hubs_own_size_counts() -> None:
    finding, weights = check_hub(ON_HUB, is_logged_in=lambda: True, ask=lambda _: 3e9)
    assert finding.level == "ok"
    assert weights.to_download == 3e9


def test_nothing_is_asked_where_the_model_is_here(tmp_path: Path) -> None:
    here = Weights("tiny-random", tmp_path, 1e6)
    finding, _ = check_hub(
        here,
        is_logged_in=lambda: False,
        ask=refuse(AssertionError("asked")),  # type: ignore[arg-type]
    )
    assert finding.level == "ok"


def test_a_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    finding, _ = check_hub(ON_HUB, ask=lambda _: 1.0)
    assert "; logged in" in finding.found
    assert "secret" not in str(finding)
