"""Counts the tokens of each prompt layout and writes them into docs/explanation/prompts.md.

    python tools/bench/prompt_tokens.py           # prints the table
    python tools/bench/prompt_tokens.py --write   # puts it into docs/explanation/prompts.md

The tokenizer of Mistral-7B-Instruct-v0.3 is the file that PyPI's mistral-common carries. That
package must not be importable (transformers would want all that it needs), so it lies apart:

    pip install --no-deps --target .venv/share/mistral-common mistral-common==1.13.1
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from hepllm.config import Config, load_config
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.hypotheses.words import EXAMPLE
from hepllm.model.encoding import EncodedPrompts, PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts
from hepllm.model.sources import SMOLLM2, locate_model

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "prompts.md"
BEGIN, END = "<!-- made by tools/bench/prompt_tokens.py -->\n", "<!-- end -->\n"

MISTRAL_FILE = "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"
MISTRAL_TOKENS = 32768
# As the model's own tokenizer_config.json has it for a single turn.
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }}[/INST]{% endfor %}"
)
N_EVENTS = 300


def mistral_tokenizer() -> Any:
    """The tokenizer of Mistral-7B-Instruct-v0.3.

    Raises:
        FileNotFoundError: if mistral-common's file is not there.
    """
    named = os.environ.get("HEPLLM_MISTRAL_TOKENIZER")
    file = Path(named) if named else Path(sys.prefix) / "share" / "mistral-common" / MISTRAL_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; see the head of {__file__}")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(file, Path(folder) / "tokenizer.model")  # the name decides how it is read
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if len(tokenizer) != MISTRAL_TOKENS:
        raise RuntimeError(f"{file}: {len(tokenizer)} tokens were read, not {MISTRAL_TOKENS}")
    tokenizer.add_bos_token = True  # as its tokenizer_config.json on the hub has it
    tokenizer.chat_template = MISTRAL_TEMPLATE
    return tokenizer


def events(n_features: int) -> NDArray[np.float64]:
    """Events of every kind that a prompt must hold: small, huge, negative and missing values."""
    random = np.random.default_rng(1)
    rows = 10.0 ** random.uniform(-3, 5, (N_EVENTS, n_features))
    rows *= random.choice([1, 1, -1], rows.shape)
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[0], rows[1], rows[2] = 0.0, np.nan, 1e5
    return rows


def count(tokenizer: Any, config: Config) -> str:
    """Tokens of a prompt, soft ones included: one number, or from fewest to most."""
    names = config.train.feature_names()
    encoder = PromptEncoder(tokenizer, names, config.prompt, config.fusion)
    prompts = encoder.encode(ModelInputs(events(len(names))))
    if not isinstance(prompts, EncodedPrompts):
        raise TypeError(f"expected EncodedPrompts, found {type(prompts)}")
    length = prompts.token_ids.shape[1]
    if prompts.attention_mask is None:
        return str(length)
    return f"{int(prompts.attention_mask.sum(1).min())} to {length}"


def count_question(tokenizer: Any, config: Config, hypothesis: Hypothesis) -> str:
    """Tokens of a question, and those of an event."""
    names = config.train.feature_names()
    encoder = PromptEncoder(tokenizer, names, config.prompt, config.fusion)
    asked = np.full(1, hypothesis, dtype=object)
    prompts = encoder.encode(ModelInputs(np.ones((1, len(names))), hypothesis=asked))
    if not isinstance(prompts, PackedPrompts):
        raise TypeError(f"expected PackedPrompts, found {type(prompts)}")
    shared = prompts.longest_question
    return f"{shared} + {prompts.n_tokens_of_event - shared}"


def table() -> Iterator[str]:
    """The lines of the table."""
    tokenizers = [mistral_tokenizer(), AutoTokenizer.from_pretrained(locate_model(SMOLLM2))]
    yield "| layout | hypothesis or features | chat template | Mistral v3 | SmolLM2 |"
    yield "|---|---|---|---|---|"
    asked = {"open": OPEN, "two masses, both decays": parse_hypothesis(EXAMPLE)}
    for (name, hypothesis), template in product(asked.items(), (False, True)):
        config = load_config(overrides=[f"prompt.chat_template={str(template).lower()}"])
        counts = " | ".join(count_question(one, config, hypothesis) for one in tokenizers)
        yield f"| question | {name} | {'yes' if template else 'no'} | {counts} |"
    for layout, features, template in product(
        ("minimal", "compact", "full"), ("cathode", "search", "all"), (False, True)
    ):
        if layout == "minimal" and features != "search":
            continue  # it prints none
        config = load_config(
            overrides=[
                f"prompt.layout={layout}",
                f"train.features={features}",
                f"prompt.chat_template={str(template).lower()}",
            ]
        )
        counts = " | ".join(count(tokenizer, config) for tokenizer in tokenizers)
        shown = "none" if layout == "minimal" else f"{features} ({len(config.prompt_features())})"
        yield f"| {layout} | {shown} | {'yes' if template else 'no'} | {counts} |"


def with_table(page: str) -> str:
    """The page with a fresh table."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + "\n" + "\n".join(table()) + "\n\n" + END + after


def main() -> None:
    """Prints the table, or writes it."""
    parser = argparse.ArgumentParser(description="Tokens of each prompt layout.")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    if parser.parse_args().write:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n".join(table()))


if __name__ == "__main__":
    main()
