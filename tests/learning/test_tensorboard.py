"""A training as TensorBoard shows it in a real browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hepllm.config import Config
from hepllm.learning.steps import TrainingData

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

PATIENCE = 60.0
CURVES = {"train/loss", "lora/gradient_norm", "nfa/update_ratio", "validation/auc"}


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    make: Callable[[Config], Any],
    train: Callable[..., Any],
) -> Path:
    """A folder with one run; HEPLLM_TENSORBOARD_RUNS names another one to look at."""
    named = os.environ.get("HEPLLM_TENSORBOARD_RUNS")
    if named:
        return Path(named)
    folder = tmp_path_factory.mktemp("runs")
    config = tiny_config("train.epochs=3")
    train(make(config), data, config, folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """Of a TensorBoard that serves the runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs)]
    command += ["--host", "127.0.0.1", "--port", "0", "--load_fast", "false"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        found = next(filter(None, (re.search(r" at (http\S+)", line) for line in server.stderr)))
        yield found[1]
    finally:
        server.terminate()
        server.communicate(timeout=30)


def wait_for(browser: Any, script: str) -> Any:
    """The value of a script, once it is true."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, PATIENCE).until(lambda opened: opened.execute_script(script))


def test_a_browser_finds_the_curves(browser: Any, address: str, tmp_path: Path) -> None:
    # A filter shows only these cards, so that none lies below the visible part of the page.
    pattern = "|".join(f"^{name}$" for name in sorted(CURVES))
    browser.get(f"{address}?tagFilter={pattern}#timeseries")
    names = wait_for(
        browser,
        "const points = path => (path.getAttribute('d') || '').split('L').length;"
        "const cards = [...document.querySelectorAll('scalar-card')];"
        "const drawn = cards.filter(card =>"
        " [...card.querySelectorAll('line-chart path')].some(path => points(path) >= 3));"
        f"return drawn.length >= {len(CURVES)}"
        " && drawn.map(card => card.querySelector('.tag').innerText.replace(/\\s/g, ''));",
    )
    assert set(names) == CURVES
    picture = os.environ.get("HEPLLM_TENSORBOARD_PICTURE")
    assert browser.save_screenshot(picture or str(tmp_path / "tensorboard.png"))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("images", ["validation/roc", "validation/sic", "validation/scores"]),
        ("text", ["prompt", "class:"]),
        ("hparams", ["backbone.lora.alpha", "train.nfa_lr", "validation_best/auc"]),
        ("distributions", ["nfa_weights", "score"]),
    ],
)
def test_a_browser_finds_the_other_pages(
    page: str, words: list[str], browser: Any, address: str
) -> None:
    browser.get(f"{address}#{page}")
    browser.refresh()
    # Its older pages keep their contents in shadow trees, one within another.
    text = (
        "const children = node => [...(node ? node.childNodes : [])];"
        "const texts = node => [...children(node.shadowRoot), ...children(node)]"
        ".map(part => part.nodeType == 3 ? part.data : texts(part)).join('');"
        "const all = texts(document.body);"
    )
    wait_for(browser, f"{text} return {words!r}.every(word => all.includes(word));")
