"""Formats are found out from the content; a name that claims another is told."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.readers import open_event_file
from hepllm.physics.readers.content import kind_of_content


@pytest.fixture
def files(tmp_path: Path, lhco_file: Path) -> dict[str, Path]:
    """A file of each kind, none with an ending."""
    files = {kind: tmp_path / kind for kind in ("hdf5", "csv", "parquet", "npy", "root")}
    files["hdf5"].write_bytes(lhco_file.read_bytes())
    files["csv"].write_text("m_jj,label\n3000,1\n")
    pq.write_table(pa.table({"m_jj": [3000.0]}), files["parquet"])
    with files["npy"].open("wb") as stream:
        np.save(stream, np.ones((2, 3)))
    with uproot.recreate(files["root"]) as file:
        file.mktree("events", {"m_jj": "float64"}).extend({"m_jj": np.array([3000.0])})
    return files


@pytest.mark.parametrize("begin", [b"", b"\n"])
def test_hepmc_of_both_versions(begin: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(begin + b"HepMC::Version 3.02.05\n")
    assert kind_of_content(path) == "hepmc"
    with pytest.raises(InputError, match="--format root does not fit"):
        open_event_file(path, PreprocessConfig(format="root"))


@pytest.mark.parametrize("kind", ["hdf5", "csv", "parquet", "npy", "root"])
def test_names_do_not_matter(kind: str, files: dict[str, Path]) -> None:
    assert kind_of_content(files[kind]) == kind


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy", "root"])
def test_a_wrong_format_is_told(kind: str, files: dict[str, Path]) -> None:
    for wanted in {"lhco", "csv", "parquet", "npy", "root"} - {kind}:
        with pytest.raises(InputError, match=f"--format {wanted} does not fit") as caught:
            open_event_file(files[kind], PreprocessConfig(format=wanted))
        assert str(caught.value).startswith(f"{files[kind]}: ")


def test_the_right_format_is_taken(files: dict[str, Path]) -> None:
    for kind in ("csv", "parquet", "root"):
        columns = {"m_jj": "m_jj"}
        for wanted in (kind, "features", "auto"):
            config = PreprocessConfig(format=wanted, columns=columns)
            assert open_event_file(files[kind], config).n_events == 1
    assert open_event_file(files["hdf5"], PreprocessConfig(format="lhco")).n_events == 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.h5", b"<html>404</html>", "not an HDF5 file"),
        ("a.root", b"<html>404</html>", "not a ROOT file"),
        ("a.npy", b"\x00\x01\x02", "not a NumPy .npy file"),
        ("a.parquet", b"", "is empty; copy or fetch it again"),
        ("a.parquet", b"{}", "not a Parquet file"),
        ("a.csv.gz", gzip.compress(b"m_jj\n1\n", mtime=0), "compressed with gzip.*unpack it first"),
        ("a.lhe", b"<LesHouchesEvents version='1.0'>", "LHE events, .*hadronise them first"),
        ("a.hepmc", b"<html>404</html>", "not a HepMC file"),
        ("a", b"\x00\x01\x02", "unknown format"),
    ],
)
def test_what_is_not_read(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_event_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_hdf5_file_after_a_user_block(
    lhco_file: Path, tmp_path: Path, dijet_events: Callable[..., object]
) -> None:
    path = tmp_path / "block"
    path.write_bytes(b"a block of the user".ljust(512) + lhco_file.read_bytes())
    assert kind_of_content(path) == "hdf5"
