"""Fixtures for all tests: the real sample where it is at hand, and synthetic LHCO files."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from hepllm.config import Config, load_config
from hepllm.data.event_table import EventTable

_SLOTS = 700

_BROWSER_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-3d-apis",  # TensorBoard then draws with SVG, whose curves can be counted
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1400",
)

# Before torch loads: tests run in several processes that share the cores, and tensors as small as
# theirs gain nothing from threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")  # of tokenizers

# How long an example takes depends on what else runs on the machine.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def _reset_logging() -> None:
    logger = logging.getLogger("hepllm")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    logging.captureWarnings(capture=False)


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    """Undoes what a command line inside a fixture or a test does to the package's logger.

    Before the test as well: fixtures of wider scope run first, and a logger that they left without
    propagation has pytest's own handler in addition to that of the root logger.
    """
    _reset_logging()
    yield
    _reset_logging()


@pytest.fixture(autouse=True)
def _same_signals() -> Iterator[None]:
    """Takes back the handlers of signals: a command that failed ignores them, for it is to end.

    Processes that later tests start would ignore them as well, and could not be stopped.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real samples."""
    named = os.environ.get("HEPLLM_REFERENCE_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no reference data: set HEPLLM_REFERENCE_DATA, or put them in {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_rnd(reference_data: Path) -> Path:
    """The official R&D sample of 1,000 events."""
    return reference_data / "lhco" / "events_anomalydetection_tiny.h5"


def _dijet_events(n_events: int, seed: int = 1, n_particles: int = 30) -> NDArray[np.float64]:
    """Rows as LHCO has them, shape (n_events, 2101): two jets each, signal with two prongs."""
    random = np.random.default_rng(seed)
    rows = np.zeros((n_events, 3 * _SLOTS + 1))
    for row in rows:
        signal = random.random() < 0.4
        eta, phi = random.uniform(-1, 1, 2), random.uniform(-np.pi, np.pi)
        jet = random.integers(0, 2, n_particles)
        prong = random.integers(0, 2, n_particles) * (0.5 if signal else 0.0)
        axis_phi = phi + np.pi * jet
        pt = random.exponential(80.0, n_particles) + 20.0
        particle_phi = axis_phi + random.normal(0, 0.08, n_particles)
        particles = np.stack(
            [
                pt,
                eta[jet] + prong + random.normal(0, 0.08, n_particles),
                (particle_phi + np.pi) % (2 * np.pi) - np.pi,
            ],
            axis=1,
        )
        row[: particles.size] = particles.ravel()
        row[-1] = signal
    return rows


def _write_lhco(
    path: Path,
    rows: NDArray[Any],
    *,
    blocks: list[list[int]] | None = None,
    dtypes: list[str] | None = None,
    transposed: bool = True,
    key: str = "df",
    names: NDArray[Any] | None = None,
    **options: Any,
) -> Path:
    """Writes a frame as pandas does in fixed format, with h5py alone.

    Args:
        path: where to.
        rows: the frame, shape (events, columns).
        blocks: places of the columns in each block; None for one block.
        dtypes: type of each block.
        transposed: events along the first axis, as pandas has it.
        key: name of the frame.
        names: of the columns.
        options: compression and chunks, for h5py.
    """
    n_columns = rows.shape[1]
    blocks = blocks or [list(range(n_columns))]
    dtypes = dtypes or ["<f8"] * len(blocks)
    names = np.arange(n_columns) if names is None else names
    with h5py.File(path, "w") as file:
        frame = file.create_group(key)
        frame.attrs["pandas_type"] = np.bytes_(b"frame")
        frame.attrs["nblocks"] = len(blocks)
        frame["axis0"] = names
        frame["axis1"] = np.arange(len(rows))
        for i, (columns, dtype) in enumerate(zip(blocks, dtypes, strict=True)):
            values = rows[:, columns].astype(dtype)
            stored = frame.create_dataset(
                f"block{i}_values", data=values if transposed else values.T, **options
            )
            stored.attrs["transposed"] = np.uint8(transposed)
            frame[f"block{i}_items"] = names[columns]
    return path


@pytest.fixture(scope="session")
def dijet_events() -> Callable[..., NDArray[np.float64]]:
    """``dijet_events(n_events, seed)`` makes rows of an LHCO frame."""
    return _dijet_events


@pytest.fixture(scope="session")
def write_lhco() -> Callable[..., Path]:
    """``write_lhco(path, rows, **options)`` writes them as pandas would."""
    return _write_lhco


@pytest.fixture(scope="session")
def lhco_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled file of 60 synthetic events in storage chunks of 7."""
    path = tmp_path_factory.mktemp("lhco") / "rnd.h5"
    return _write_lhco(path, _dijet_events(60), chunks=(7, 2101), **hdf5plugin.Blosc())


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test session share, with pytest-xdist or without."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of the folders of the processes
    folder = folder / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def make_once(common_folder: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """``make_once("name", fill)`` is a folder that ``fill(folder)`` filled once for all processes.

    Tests read such a folder; a test that writes to it works on a copy.
    """

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = common_folder / name, common_folder / f"{name}.done"
        with (common_folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # left by a test that failed in it
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def model_cache(common_folder: Path) -> Iterator[Path]:
    """Converted models of the tests lie in a folder of their own, shared by all of them."""
    folder = common_folder / "model-cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEPLLM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def quick_trainings() -> Iterator[None]:
    """From here on, trainings draw empty pictures for TensorBoard.

    Real ones take four fifths of the time of a tiny training. ``drawn_pictures`` brings them back.
    """
    empty = np.full((2, 2, 3), 255, dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        for figure in ("roc_figure", "sic_figure", "score_figure"):
            patch.setattr(f"hepllm.learning.monitor.{figure}", lambda *_: None)
        patch.setattr("hepllm.learning.monitor.pixels", lambda _: empty)
        yield


@pytest.fixture
def undrawn_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that are saved within the test are empty files, for tests of numbers alone."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, file, **__: file.touch())


@pytest.fixture(scope="session")
def tiny_config(quick_trainings: None) -> Callable[..., Config]:
    """``tiny_config("train.lr=1")`` is ``configs/tiny.yaml`` with changes, on one thread."""
    file = Path(__file__).parents[1] / "configs" / "tiny.yaml"
    return lambda *overrides: load_config(file, ["train.threads=1", *overrides])


@pytest.fixture(scope="session")
def tiny_data(
    make_once: Callable[[str, Callable[[Path], None]], Path], tiny_config: Callable[..., Config]
) -> Path:
    """Events as files and as datasets, to be read only.

    ``rnd.h5`` (200 events) and ``bb.h5`` (60) have labels and are the datasets ``data/rnd`` and
    ``data/bb``; ``box.h5`` is ``bb.h5`` without labels, which ``box.key`` has.
    """

    def fill(folder: Path) -> None:
        from hepllm.stages.preprocess import preprocess

        box = _dijet_events(60, seed=2)
        _write_lhco(folder / "rnd.h5", _dijet_events(200, seed=1))
        _write_lhco(folder / "bb.h5", box)
        _write_lhco(folder / "box.h5", box[:, :-1])
        (folder / "box.key").write_text("".join(f"{label:.1f}\n" for label in box[:, -1]))
        for name in ("rnd", "bb"):
            config = tiny_config("preprocess.executor=serial")
            preprocess([folder / f"{name}.h5"], folder / "data" / name, config)

    return make_once("tiny-data", fill)


@pytest.fixture(scope="session")
def tiny_run(
    make_once: Callable[[str, Callable[[Path], None]], Path],
    tiny_config: Callable[..., Config],
    tiny_data: Path,
) -> Path:
    """A run trained on ``tiny_data``, to be read only: a test that evaluates it has a copy."""

    def fill(folder: Path) -> None:
        from hepllm.stages.train import train

        config = tiny_config("preprocess.executor=serial")
        train(tiny_data / "data" / "rnd", folder / "run", config, overwrite=False)

    return make_once("tiny-run", fill) / "run"


@pytest.fixture(scope="session")
def recipes(
    make_once: Callable[[str, Callable[[Path], None]], Path], tiny_config: Callable[..., Config]
) -> Path:
    """Runs on one dataset, ``rnd`` (of ``rnd.h5``, 240 events), to be read only.

    It has particles and extended features, of which the runs read the four of CATHODE.
    ``seed1`` and ``seed2`` differ in their seed alone; ``text``, ``numbers`` and ``natural``
    differ from ``seed1`` in what their names say.
    """
    overrides = {
        "seed1": (),
        "seed2": ("seed=2",),
        "text": ("fusion.enabled=false", "prompt.layout=full"),
        "numbers": ("prompt.layout=minimal",),
        "natural": ("train.balance=natural",),
    }

    def fill(folder: Path) -> None:
        from hepllm.stages.preprocess import preprocess
        from hepllm.stages.train import train

        common = (
            *("preprocess.executor=serial", "preprocess.particles_per_jet=5"),
            *("preprocess.jets.n_jets=2", "preprocess.extended=true"),
            *("train.features=cathode", "train.epochs=2"),
        )
        _write_lhco(folder / "rnd.h5", _dijet_events(240, seed=1))
        preprocess([folder / "rnd.h5"], folder / "rnd", tiny_config(*common))
        for name, own in overrides.items():
            config = tiny_config(*common, f"name={name}", *own)
            train(folder / "rnd", folder / name, config, overwrite=False)

    return make_once("recipes", fill)


def _event_table(n_events: int, names: tuple[str, ...], seed: int = 1) -> EventTable:
    """Events whose classes differ in every feature, with some values missing."""
    random = np.random.default_rng(seed)
    label = (np.arange(n_events) % 2).astype(np.int8)
    features = random.gamma(4.0, 1.0, (n_events, len(names))) * (1 + 0.8 * label[:, np.newaxis])
    features[random.random(features.shape) < 0.05] = np.nan
    return EventTable(
        features=features,
        names=names,
        label=label,
        label_raw=label.astype(np.int16),
        weight=np.ones(n_events),
        event_id=np.arange(n_events),
        source=np.full(n_events, "made", dtype=object),
        event_digest=random.integers(0, 2**63, n_events).astype(np.uint64),
        split=np.full(n_events, "train", dtype=object),
    )


@pytest.fixture(scope="session")
def event_table() -> Callable[..., EventTable]:
    """``event_table(n_events, names, seed)`` makes labelled feature rows."""
    return _event_table


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, driven by Selenium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser: install Debian's packages chromium and chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_BROWSER_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    yield opened
    opened.quit()
