"""Fine-tuning a language model on labelled events as a first script does it, as a yardstick.

PEFT on a causal model in float32. The answer stands behind the prompt and the labels are the input
ids, so that every position is held against the whole vocabulary; batches are padded to their
longest text. In evaluation the model generates a few tokens, in which the class is looked for. It
shares no code with ``hepllm``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup

ANSWERS = (" background", " signal")
"""At the index of their label."""

_IGNORED = -100
_NEW_TOKENS = 4


class UsualRecipe:
    """A model with LoRA weights, its optimizer, and the two things that are done with them.

    Args:
        folder: of the language model.
        total_steps: of the training, for the learning rate's linear decay.
        templated: whether the prompts hold their special tokens already, as a chat template
            writes them.
        learning_rate: at the first step.
    """

    def __init__(
        self, folder: str, total_steps: int, *, templated: bool, learning_rate: float = 2e-4
    ) -> None:
        torch.manual_seed(0)
        self._special = not templated
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
        self.model = get_peft_model(model, lora)
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(trained, lr=learning_rate)
        self._schedule = get_linear_schedule_with_warmup(self._optimizer, 0, total_steps)

    def train_step(self, prompts: Sequence[str], labels: Sequence[int]) -> float:
        """One optimizer step; returns the loss."""
        self.model.train()
        end = self.tokenizer.eos_token
        texts = [
            prompt + ANSWERS[label] + end for prompt, label in zip(prompts, labels, strict=True)
        ]
        batch = self._tokens(texts, side="right")
        targets = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, _IGNORED)
        loss = self.model(**batch, labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return float(loss.detach())

    @torch.inference_mode()
    def answer(self, prompts: Sequence[str]) -> list[str]:
        """What the model generates after each prompt."""
        self.model.eval()
        batch = self._tokens(prompts, side="left")
        made = self.model.generate(
            **batch,
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        new = made[:, batch["input_ids"].shape[1] :]
        answers: list[str] = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return answers

    @torch.inference_mode()
    def score(self, prompts: Sequence[str]) -> list[float]:
        """Logit of signal minus logit of background as the next token.

        Kinder than what the script itself would do, which is to rank events by parsed answers.
        """
        self.model.eval()
        batch = self._tokens(prompts, side="left")
        background, signal = (self._first_token(prompts[0], answer) for answer in ANSWERS)
        logits = self.model(**batch).logits[:, -1].float()
        scores: list[float] = (logits[:, signal] - logits[:, background]).tolist()
        return scores

    def _tokens(self, texts: Sequence[str], *, side: str) -> Any:
        self.tokenizer.padding_side = side
        return self.tokenizer(
            list(texts), return_tensors="pt", padding=True, add_special_tokens=self._special
        )

    def _first_token(self, prompt: str, answer: str) -> int:
        """Of an answer as it follows a prompt."""
        before, whole = (
            self.tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (prompt, prompt + answer)
        )
        token: int = whole[len(before)]
        return token


def parse(answer: str) -> int | None:
    """The label that a generated answer names; None where it names none, or both."""
    found = [label for label, word in enumerate(ANSWERS) if word.strip() in answer.lower()]
    return found[0] if len(found) == 1 else None
