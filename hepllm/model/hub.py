"""Asks the model hub once whether it answers, so that a machine without a network does not wait.

Its client tries each file of a model again and again, for minutes.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import logging as hub_logging

from hepllm.errors import InputError

LOG = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds to wait for an answer; names of machines alone may take longer without a network."""


@functools.cache
def hub_options(name: str) -> dict[str, Any]:
    """Returns the options with which transformers loads a model of the hub.

    Without a network, the copy in the cache is loaded, if there is one.

    Args:
        name: name of the model on the hub, as in ``mistralai/Mistral-7B-Instruct-v0.3``.

    Raises:
        InputError: if the model is neither on this machine nor can be downloaded.
    """
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it logs each attempt
    try:
        is_here = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        raise InputError(f"backbone.name: {name}: no such folder, and no name on the hub") from None
    if constants.is_offline_mode():
        if not is_here:
            raise _missing(name, "HF_HUB_OFFLINE is set")
        return {"local_files_only": True}
    page = f"https://huggingface.co/{name}"
    try:
        _ask(name)
    except GatedRepoError:
        fault = f"is gated; accept its terms at {page}, then: hf auth login"
    except RepositoryNotFoundError:
        fault = "is not on the hub, or it is private: check the name, or: hf auth login"
    except Exception as error:  # a network raises anything
        if not is_here:
            raise _missing(name, f"{type(error).__name__}: {error}") from error
        LOG.warning("%s: the model hub does not answer; taking the copy on this machine", name)
        return {"local_files_only": True}
    else:
        return {}
    if is_here:
        return {"local_files_only": True}
    raise InputError(f"backbone.name: {name}: {fault}")


@contextmanager
def no_requests() -> Iterator[None]:
    """Keeps the hub's client from asking inside the ``with`` block.

    transformers asks for some files even where it was told to take local ones only.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _ask(name: str) -> None:
    """Raises whatever keeps this user from a file of the model."""
    faults: list[BaseException] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_PATIENCE)
        except BaseException as error:  # told to the caller, which waits in another thread
            faults.append(error)

    # The look-up of the hub's address has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE + 1)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {_PATIENCE:g} s")
    if faults:
        raise faults[0]


def _missing(name: str, reason: str) -> InputError:
    return InputError(
        f"backbone.name: {name}: it is not on this machine, and the model hub cannot be asked "
        f"({' '.join(reason.split())[:150]}); go online, or copy the model here and set "
        "backbone.name to its folder; backbone.name=smollm2 needs no network"
    )
