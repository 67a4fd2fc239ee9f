"""Checks of the weights of the language model: on this machine, or available for download."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hepllm.errors import InputError
from hepllm.installation.findings import Finding

MISTRAL_7B_BYTES = 14.5e9
"""Size of the 16-bit weights of Mistral-7B."""

_PATIENCE = 5.0
"""Seconds to wait for an answer of the hub."""

_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
"""Files that transformers downloads; a repository may contain other copies as well."""


@dataclass(frozen=True)
class Weights:
    """The place of the weights of a model.

    Attributes:
        name: name of the model, as configured.
        folder: folder of the weights; None where they still have to be downloaded.
        n_bytes: size of the weights; 0 where unknown.
        fault: why the weights are not available at all.
    """

    name: str
    folder: Path | None
    n_bytes: float
    fault: str = ""

    @property
    def to_download(self) -> float:
        """Bytes that still have to be downloaded."""
        return self.n_bytes if self.folder is None and not self.fault else 0.0


def find_weights(name: str, hub_cache: Path) -> Weights:
    """Looks for the weights of a model on this machine; builds those that come with a package.

    ``name`` is a built-in model, a folder, or a model of the hub.
    """
    from hepllm.model.sources import locate_model

    try:
        place = Path(locate_model(name))
    except InputError as error:
        return Weights(name, None, 0.0, str(error))
    if place.is_dir():
        if not (place / "config.json").is_file():
            return Weights(name, None, 0.0, f"{name}: no model folder; it has no config.json")
        return Weights(name, place, _size(place))
    snapshot = cached_snapshot(name, hub_cache)
    size = _expected_bytes(name) if snapshot is None else _size(snapshot)
    return Weights(name, snapshot, size)


def cached_snapshot(name: str, hub_cache: Path) -> Path | None:
    """Returns the folder of a hub model in the cache, if it contains all weights."""
    from huggingface_hub import try_to_load_from_cache

    def cached(file: str) -> Path | None:
        found = try_to_load_from_cache(name, file, cache_dir=hub_cache)
        return Path(found) if isinstance(found, str) else None

    config, index = cached("config.json"), cached("model.safetensors.index.json")
    if config is None:
        return None
    shards = {"model.safetensors"}
    if index is not None:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return config.parent if all(cached(shard) for shard in shards) else None


def ask_hub(name: str) -> float:
    """Returns the size of the weights of a model in bytes, if this user may read it.

    Raises:
        Exception: from huggingface_hub or the network, if there is no access or no answer.
    """
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    about = HfApi().model_info(name, timeout=_PATIENCE, files_metadata=True)
    # The description of a gated model is public; only a file shows whether there is access.
    get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_PATIENCE)
    files = about.siblings or []
    return float(sum(file.size or 0 for file in files if _WEIGHTS.fullmatch(file.rfilename)))


def login() -> bool:
    """Whether there is a token for the hub."""
    from huggingface_hub import get_token

    return get_token() is not None


def check_model(weights: Weights) -> Finding:
    """Checks whether the configured model is on this machine."""
    if weights.fault:
        found, _, remedy = weights.fault.partition("; ")
        return Finding("model", "problem", found, remedy or "set backbone.name to another model")
    size = f"{weights.n_bytes / 1e9:.1f} GB" if weights.n_bytes else "size unknown"
    if weights.folder is None:
        return Finding("model", "ok", f"{weights.name}: not downloaded yet ({size})")
    return Finding("model", "ok", f"{weights.name}: {size} in {weights.folder}")


def check_hub(
    weights: Weights,
    *,
    is_logged_in: Callable[[], bool] = login,
    ask: Callable[[str], float] = ask_hub,
) -> tuple[Finding, Weights]:
    """Checks whether the model can be downloaded, where it has to be.

    Returns:
        The finding, and the weights with their size according to the hub.
    """
    state = "logged in" if is_logged_in() else "not logged in"
    if weights.folder is not None or weights.fault:
        return Finding("hub", "ok", f"not needed for {weights.name}; {state}"), weights
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    page = f"https://huggingface.co/{weights.name}"
    try:
        size = ask(weights.name)
    except GatedRepoError:
        remedy = f"accept its terms at {page}, then: hf auth login"
        found = f"{weights.name} is gated and you have no access; {state}"
        return Finding("hub", "problem", found, remedy), weights
    except RepositoryNotFoundError:
        remedy = "check backbone.name; if the model is private: hf auth login"
        found = f"there is no {weights.name} on the hub, or it is private; {state}"
        return Finding("hub", "problem", found, remedy), weights
    except Exception as error:  # a network can raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        remedy = f"go online, or copy the model here and set backbone.name to its folder ({page})"
        found = f"could not be checked whether {weights.name} can be read ({reason}); {state}"
        return Finding("hub", "warning", found, remedy), weights
    known = Weights(weights.name, None, size or weights.n_bytes)
    return Finding("hub", "ok", f"{weights.name} can be downloaded; {state}"), known


def _expected_bytes(name: str) -> float:
    """Returns the size of 16-bit weights by the number of parameters in a model's name, or 0."""
    short = name.rpartition("/")[2].lower()
    if "mistral-7b" in short:
        return MISTRAL_7B_BYTES
    billions = re.search(r"(?<![\d.a-z])(\d+(?:\.\d+)?)b(?![a-z])", short)
    millions = re.search(r"(?<![\d.a-z])(\d+)m(?![a-z])", short)
    if billions:
        return 2e9 * float(billions[1])
    return 2e6 * float(millions[1]) if millions else 0.0


def _size(folder: Path) -> float:
    return float(sum(file.stat().st_size for file in folder.glob("*.safetensors")))
