"""Times the first and the second start of a 4-bit model, which is quantised once and then kept.

    python tools/bench/bench_loading.py                     # 0.37 billion random weights, CPU
    python tools/bench/bench_loading.py --layers 24 --repeats 5
    python tools/bench/bench_loading.py --device cuda --model mistralai/Mistral-7B-Instruct-v0.3

Each start is a process of its own. Its largest private memory is what it allocates, without the
pages of model files that the system keeps in memory anyway.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

from hepllm.config import BackboneConfig
from hepllm.model.backbone import load_backbone
from hepllm.model.sources import locate_model

GIB = 2**30


def make_model(folder: Path, n_layers: int) -> int:
    """Writes a random model of Mistral's proportions with a tokenizer; returns its weights."""
    tokenizer = AutoTokenizer.from_pretrained(locate_model("tiny-random"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=1024,
            intermediate_size=3584,
            num_hidden_layers=n_layers,
            num_attention_heads=16,
            num_key_value_heads=4,
            head_dim=64,
            sliding_window=None,
        )
    ).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="200MB")
    return sum(weight.numel() for weight in model.parameters())


def private_memory() -> int:
    """Bytes that this process has allocated."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class PeakMemory(threading.Thread):
    """Watches this process's private memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = private_memory()

    def run(self) -> None:
        """Looks every few milliseconds."""
        while True:
            self.peak = max(self.peak, private_memory())
            time.sleep(0.005)


def start(model: str, device: str) -> None:
    """One start: loads the model and prints what it took, as JSON."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("hepllm").addHandler(handler)
    logging.getLogger("hepllm").setLevel(logging.INFO)
    before = private_memory()
    watch = PeakMemory()
    watch.start()
    started = time.perf_counter()
    load_backbone(BackboneConfig(name=model, quantization="nf4", device=device), seed=1)  # type: ignore[arg-type]
    seconds = time.perf_counter() - started
    result = {
        "seconds": seconds,
        "peak": watch.peak - before,
        "from_copy": any(line.startswith("loading the quantised weights") for line in told),
    }
    print(json.dumps(result))


def run_start(model: str, device: str, cache: Path) -> dict[str, float]:
    """A start in a process of its own."""
    command = [sys.executable, __file__, "--start", "--model", model, "--device", device]
    environment = {**os.environ, "HEPLLM_CACHE": str(cache), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(  # noqa: S603 (its own file, no shell)
        command, capture_output=True, text=True, check=True, env=environment
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def bench(model: str, device: str, repeats: int, cache: Path) -> dict[str, list[dict[str, float]]]:
    """First and second starts in turn, the copy removed before each first one."""
    found: dict[str, list[dict[str, float]]] = {"first": [], "second": []}
    for _ in range(repeats):
        shutil.rmtree(cache / "quantized", ignore_errors=True)
        for name in ("first", "second"):
            found[name].append(run_start(model, device, cache))
            if found[name][-1]["from_copy"] != (name == "second"):
                raise RuntimeError(f"the {name} start did not do what it should")
    return found


def main() -> None:
    """Prints the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="hub name or folder [a random one]")
    parser.add_argument("--layers", type=int, default=20, help="of the random model")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        start(options.model, options.device)
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model
        if model is None:
            model = str(Path(folder) / "model")
            n_weights = make_model(Path(model), options.layers)
            print(f"{n_weights / 1e9:.2f} billion weights, {2 * n_weights / GIB:.2f} GiB of files")
        found = bench(model, options.device, options.repeats, Path(folder) / "cache")
    medians = {}
    for name, starts in found.items():
        seconds = [one["seconds"] for one in starts]
        medians[name] = statistics.median(seconds)
        print(
            f"{name:<6} start: {medians[name]:.2f} s "
            f"({min(seconds):.2f} to {max(seconds):.2f}), most private memory "
            f"{max(one['peak'] for one in starts) / GIB:.2f} GiB"
        )
    print(f"ratio: {medians['first'] / medians['second']:.1f}")


if __name__ == "__main__":
    main()
