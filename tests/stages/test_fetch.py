"""Fetching from a server on this machine that cuts the line, is busy, lies or is not there."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import SignalConfig
from hepllm.data.download import Patience
from hepllm.data.signal_points import read_points
from hepllm.errors import InputError, RunError
from hepllm.stages import fetch as stage
from hepllm.stages.fetch import SETS, RemoteFile, fetch

QUICK = Patience(tries=4, wait=0.001, longest_wait=0.01, timeout=2.0)
RECORD = 77


@dataclass
class Server:
    """What the server has and how it fails.

    Attributes:
        files: contents by name.
        cut_after: bytes after which an answer breaks off; 0 never.
        cuts: answers that still break off.
        busy: answers that still are 503.
        ranges: whether it can send a part of a file.
        has_api: whether the record tells sizes and checksums.
        algorithm: what the record calls the algorithm of its checksums.
        asked: ranges of the requests for files, in order.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int = 0
    cuts: int = 10**9
    busy: int = 0
    ranges: bool = True
    has_api: bool = True
    algorithm: str = "md5"
    asked: list[str | None] = field(default_factory=list)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/api/"):
            self._api()
            return
        name = self.path.removesuffix("?download=1").rpartition("/")[2]
        self.state.asked.append(self.headers.get("Range"))
        if self.state.busy:
            self.state.busy -= 1
            self._send(503, b"")
        elif name not in self.state.files:
            self._send(404, b"")
        else:
            self._file(self.state.files[name])

    def _api(self) -> None:
        if not self.state.has_api:
            self._send(500, b"")
            return
        entries = [
            {
                "key": name,
                "size": len(content),
                "checksum": f"{self.state.algorithm}:{_md5(content)}",
            }
            for name, content in self.state.files.items()
        ]
        self._send(200, json.dumps({"files": entries}).encode())

    def _file(self, content: bytes) -> None:
        asked = self.headers.get("Range") if self.state.ranges else None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start and start >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        more = {"Content-Range": span} if start else {}
        self._send(206 if start else 200, content[start:], more)

    def _send(self, code: int, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        state = self.state
        if state.cut_after and state.cuts and len(body) > state.cut_after:
            state.cuts -= 1
            self.wfile.write(body[: state.cut_after])
            self.close_connection = True
        else:
            self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    handler = type("Handler", (_Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def sets(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    lhco_file: Path,
) -> dict[str, tuple[RemoteFile, ...]]:
    """A small labelled file and a black box with its key, on the server."""
    content = lhco_file.read_bytes()
    server.files = {"events.h5": content, "box.h5": content, "box.masterkey": b"0.0\n1.0\n" * 30}
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    small: dict[str, tuple[RemoteFile, ...]] = {
        "rnd": (RemoteFile("rnd.h5", RECORD, "events.h5", "events", 60, checksum, SignalConfig()),),
        "bb1": (
            RemoteFile("bb1.masterkey", RECORD, "box.masterkey", "masterkey", 60),
            RemoteFile("bb1.h5", RECORD, "box.h5", "events", 60),
        ),
    }
    monkeypatch.setattr(stage, "SETS", small)
    return small


@pytest.fixture
def get(server: Server, tmp_path: Path, sets: object) -> Callable[..., list[stage.FetchedFile]]:
    def get(*names: str, **options: Any) -> list[stage.FetchedFile]:
        options = {"base_url": server.url, "patience": QUICK, **options}
        return fetch(names, tmp_path / "raw", **options)

    return get


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_black_box_comes_with_its_key(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    made = get("bb1", "rnd")
    assert _left(tmp_path / "raw") == [
        "bb1.h5", "bb1.masterkey", "rnd.h5", "rnd.points.json"
    ]  # fmt: skip
    assert (tmp_path / "raw" / "rnd.h5").read_bytes() == server.files["events.h5"]
    assert [file.verification for file in made] == ["md5 checked", "md5 checked", "sha256 checked"]
    assert all(file.downloaded for file in made)


def test_without_its_key_an_analysis_stays_blind(
    get: Callable[..., list[stage.FetchedFile]], tmp_path: Path
) -> None:
    get("bb1", keys=False)
    assert _left(tmp_path / "raw") == ["bb1.h5"]


def test_a_cut_line_is_taken_up_where_it_broke(
    get: Callable[..., list[stage.FetchedFile]],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hepllm.data.download._BLOCK", 100)
    server.cut_after = len(server.files["events.h5"]) // 6
    get("rnd")
    assert (tmp_path / "raw" / "rnd.h5").read_bytes() == server.files["events.h5"]
    starts = [int(asked[6:-1]) if asked else 0 for asked in server.asked]
    assert len(starts) > QUICK.tries  # each try that brought bytes starts the count anew
    assert starts == sorted(set(starts))  # nothing was asked for twice
    assert _left(tmp_path / "raw") == ["rnd.h5", "rnd.points.json"]


def test_a_download_that_was_given_up_goes_on_in_the_next_run(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    size = len(server.files["events.h5"])
    server.cut_after, server.cuts, server.busy = size // 2, 1, 0
    original = stage.Download._ask

    def fails_after_a_cut(self: Any, url: str, stream: Any) -> None:
        server.busy = 99 if stream.tell() else 0
        original(self, url, stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.Download, "_ask", fails_after_a_cut)
        with pytest.raises(RunError, match=r"HTTP 503; given up after 4 tries .* run again") as bad:
            get("rnd")
    assert bad.value.exit_code == 1
    assert _left(tmp_path / "raw") == ["rnd.h5.part"]
    server.busy, server.asked = 0, []
    kept = (tmp_path / "raw" / "rnd.h5.part").stat().st_size
    assert 0 < kept <= size // 2
    get("rnd")
    assert server.asked == [f"bytes={kept}-"]
    assert (tmp_path / "raw" / "rnd.h5").read_bytes() == server.files["events.h5"]


def test_a_server_without_ranges_starts_again(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    server.ranges, server.cut_after, server.cuts = False, 1000, 2
    get("rnd")
    assert (tmp_path / "raw" / "rnd.h5").read_bytes() == server.files["events.h5"]


def test_a_whole_part_needs_no_byte(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "rnd.h5.part").write_bytes(server.files["events.h5"])
    get("rnd")
    assert (tmp_path / "raw" / "rnd.h5").read_bytes() == server.files["events.h5"]


def test_a_busy_server_is_asked_again(
    get: Callable[..., list[stage.FetchedFile]], server: Server
) -> None:
    server.busy = 3
    assert get("rnd")[0].downloaded


def test_what_is_there_is_left_alone(
    get: Callable[..., list[stage.FetchedFile]], server: Server
) -> None:
    get("rnd", "bb1")
    server.asked = []
    again = get("rnd", "bb1")
    assert not any(file.downloaded for file in again)
    assert server.asked == []


def test_another_file_of_that_name_is_not_replaced_unasked(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "rnd.h5"
    path.write_text("my own events")
    with pytest.raises(InputError, match=r"exists and is not events.h5 .*--overwrite"):
        get("rnd")
    assert path.read_text() == "my own events"
    get("rnd", overwrite=True)
    assert path.read_bytes() == server.files["events.h5"]


def test_a_wrong_checksum_leaves_nothing(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    content = bytearray(server.files["events.h5"])
    content[-10] ^= 1
    server.files["events.h5"] = bytes(content)
    with pytest.raises(RunError, match="does not match") as caught:
        get("rnd")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("events.h5: sha256 ")
    assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert _left(tmp_path / "raw") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>robots are not welcome</html>", "not an HDF5 file; deleted"),
        (None, r"61 rows of 2101 columns, expected 60"),
    ],
)
def test_with_an_unknown_checksum_the_format_is_checked_and_it_is_said(
    *,
    content: bytes | None,
    message: str,
    get: Callable[..., list[stage.FetchedFile]],
    server: Server,
    tmp_path: Path,
    dijet_events: Callable[..., NDArray[np.float64]],
    write_lhco: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.has_api = False
    with caplog.at_level(logging.WARNING, "hepllm"):
        made = get("bb1")
    assert "the checksum is unknown" in caplog.text
    assert {file.verification for file in made} == {"checksum unknown, size and format checked"}
    (tmp_path / "raw" / "bb1.h5").unlink()
    other = write_lhco(tmp_path / "other.h5", dijet_events(61)).read_bytes()
    server.files["box.h5"] = content or other
    with pytest.raises(RunError, match=message):
        get("bb1")
    assert _left(tmp_path / "raw") == ["bb1.masterkey"]


def test_a_checksum_that_nobody_can_compute_counts_as_unknown(
    get: Callable[..., list[stage.FetchedFile]], server: Server
) -> None:
    server.algorithm = "crc99"
    made = get("bb1")
    assert {file.verification for file in made} == {"checksum unknown, size and format checked"}


def test_a_key_of_the_wrong_length_is_not_kept(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    server.files["box.masterkey"] = b"0.0\n" * 59
    with pytest.raises(RunError, match="59 labels for 60 events"):
        get("bb1")
    assert _left(tmp_path / "raw") == []


def test_no_network(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(RunError, match=r"no connection .*check the network") as caught:
            get("rnd", base_url=url)
    assert "\n" not in str(caught.value)
    assert _left(tmp_path / "raw") == []


def test_a_missing_file_and_an_unknown_name(
    get: Callable[..., list[stage.FetchedFile]], server: Server
) -> None:
    del server.files["events.h5"], server.files["box.masterkey"]
    with pytest.raises(RunError, match="HTTP 404"):
        get("rnd")
    with pytest.raises(RunError, match=r"no file box\.masterkey; there are box\.h5"):
        get("bb1")
    with pytest.raises(InputError, match="'bb4' cannot be fetched; there are rnd, bb1"):
        get("bb4")


def test_a_full_disk_is_told_before_and_while_writing(
    get: Callable[..., list[stage.FetchedFile]],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("hepllm.data.download.Download._receive", _no_space)
        with pytest.raises(RunError, match="cannot be written: No space left on device") as caught:
            get("rnd")
        assert caught.value.exit_code == 1
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: replace_usage(free=10))
        with pytest.raises(RunError, match="cannot be written: No space left on device"):
            get("rnd")
    assert "rnd.h5" not in _left(tmp_path / "raw")
    get("rnd")
    assert (tmp_path / "raw" / "rnd.h5").read_bytes() == server.files["events.h5"]


@dataclass(frozen=True)
class _Usage:
    free: int


def replace_usage(free: int) -> _Usage:
    return _Usage(free)


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_an_output_that_cannot_be_made(
    get: Callable[..., list[stage.FetchedFile]], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        fetch(["rnd"], tmp_path / "file" / "raw", base_url=server.url, patience=QUICK)


def test_the_truth_is_beside_files_whose_signal_is_no_secret(
    get: Callable[..., list[stage.FetchedFile]], tmp_path: Path
) -> None:
    get("rnd", "bb1")
    (point,) = read_points(tmp_path / "raw" / "rnd.points.json", 60)
    assert point.signal == SignalConfig().truth
    assert point.generated is None
    assert not (tmp_path / "raw" / "bb1.points.json").exists()


def test_the_table_is_sound() -> None:
    files = [file for group in SETS.values() for file in group]
    assert {"rnd", "rnd-v2", "rnd3", "features", "bb1", "bb2", "bb3"} == set(SETS)
    assert len({file.name for file in files}) == len(files)
    for file in files:
        assert file.record in (4536377, 6466204, 4536624)
        lengths = {"md5": 32, "sha256": 64}
        if file.checksum is not None:
            algorithm, _, digest = file.checksum.partition(":")
            assert len(digest) == lengths[algorithm]
            int(digest, 16)
    rnd = replace(SETS["rnd"][0])
    assert rnd.url("https://zenodo.org") == (
        "https://zenodo.org/records/4536377/files/events_anomalydetection.h5?download=1"
    )
    assert SETS["rnd3"][0].remote == "events_anomalydetection_Z_XY_qqq.h5"
    assert [file.record for name in ("rnd-v2", "features") for file in SETS[name]] == [6466204] * 2
    assert {name for name, group in SETS.items() if group[0].signal is not None} == {
        "rnd", "rnd-v2", "rnd3", "features"
    }  # fmt: skip
