"""The black box of ``hepllm eval``: a dataset, or an event file that is clustered once."""

from __future__ import annotations

from pathlib import Path

from hepllm.config import PreprocessConfig
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.errors import InputError
from hepllm.physics.sources import MasterKey
from hepllm.runs.folder import Run
from hepllm.stages.predict import prediction_config
from hepllm.stages.preprocess import preprocess


def open_blackbox(
    run: Run, path: Path | None, masterkey: MasterKey, reading: PreprocessConfig | None = None
) -> Dataset | None:
    """Opens a dataset, or clusters an event file with the settings of the training events.

    A dataset that an earlier evaluation made from the same file, key and settings is used again.
    ``reading`` replaces the settings of the training events.
    """
    if path is None:
        if masterkey is not None:
            raise InputError("--masterkey needs --blackbox FILE")
        return None
    if path.is_dir():
        if masterkey is not None:
            raise InputError(f"{path}: a dataset holds its labels; give --masterkey to preprocess")
        return read_dataset(path)
    if not path.exists():
        raise InputError(f"{path}: no such black box")
    reading = reading or prediction_config(run).preprocess
    config = run.config.model_copy(update={"preprocess": reading})
    output = run.folder / "eval" / path.stem / path.stem
    made = preprocess([path], output, config, masterkey=masterkey, overwrite=True, reuse=True)
    return made[0].dataset
