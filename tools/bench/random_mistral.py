"""Writes model folders with the architecture and tokenizer of Mistral-7B, and random weights.

    python tools/bench/random_mistral.py build/random-mistral-7b   # 14.5 GB

A folder is made in pieces of a gigabyte, so that a machine without room for the model can make it.
On the values of the weights neither memory nor speed depend. The tokenizer needs mistral-common's
file: see tools/bench/prompt_tokens.py.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from memory_table import mistral_7b
from prompt_tokens import mistral_tokenizer
from safetensors.torch import save_file
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

SHARD = 10**9
"""Bytes of a file of weights, and so about the memory that making them takes."""
_SIGMA = 0.02
"""Standard deviation of the weights, as Mistral's own initialisation has it."""
_N_DRAWN = 2**24 - 3
"""Random numbers that weights repeat from different places on, for drawing billions takes minutes.
It is a prime number, so that no rows of a matrix are the same."""


def random_mistral(
    folder: Path, architecture: MistralConfig | None = None, *, shard: int = SHARD
) -> Path:
    """Makes the folder if it is not there; it appears complete or not at all.

    Args:
        folder: that ``backbone.name`` can be.
        architecture: with the vocabulary of Mistral's tokenizer; None: Mistral-7B.
        shard: bytes of a file of weights.

    Raises:
        click.ClickException: if the folder is there, and is no complete model.
    """
    if folder.exists():
        if not is_complete(folder):
            raise click.ClickException(f"{folder}: not a complete model; remove it")
        return folder
    click.echo(f"making random weights in {folder}", err=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        mistral_tokenizer().save_pretrained(aside)
        _write_weights(aside, architecture or mistral_7b(), shard)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether the folder has a configuration and every file of weights that its index names."""
    try:
        index = json.loads((folder / SAFE_WEIGHTS_INDEX_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = {"config.json", "tokenizer_config.json", *index["weight_map"].values()}
    return all((folder / name).is_file() for name in files)


def _write_weights(folder: Path, architecture: MistralConfig, shard: int) -> None:
    with torch.device("meta"):
        sketch = MistralForCausalLM(architecture).to(torch.bfloat16)
    sketch.config.architectures = [type(sketch).__name__]
    sketch.config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(1)
    drawn = _SIGMA * torch.randn(_N_DRAWN, generator=generator).to(torch.bfloat16)
    places: dict[str, str] = {}
    pieces = list(_pieces(sketch.state_dict(), shard))
    for number, piece in enumerate(pieces, 1):
        name = f"model-{number:05d}-of-{len(pieces):05d}.safetensors"
        made = {key: _filled(weight, drawn, generator) for key, weight in piece.items()}
        save_file(made, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(piece, name))
    total = sum(weight.nbytes for weight in sketch.state_dict().values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=1), encoding="utf-8")


def _filled(weight: Tensor, drawn: Tensor, generator: torch.Generator) -> Tensor:
    """Returns random numbers in the shape of a weight; of one of a norm, ones."""
    if weight.ndim == 1:
        return torch.ones(weight.shape, dtype=weight.dtype)
    first = int(torch.randint(len(drawn), (1,), generator=generator))
    times = -(-(first + weight.numel()) // len(drawn))
    return drawn.repeat(times)[first : first + weight.numel()].reshape(weight.shape).contiguous()


def _pieces(weights: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    """Splits weights, in their order, where a piece would be larger than ``size`` bytes."""
    piece: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if piece and sum(one.nbytes for one in piece.values()) + weight.nbytes > size:
            yield piece
            piece = {}
        piece[name] = weight
    yield piece


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Makes Mistral-7B with random weights in FOLDER."""
    random_mistral(folder)


if __name__ == "__main__":
    main()
