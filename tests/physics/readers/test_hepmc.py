"""HepMC files of both versions, written by pyhepmc, against the particles that went in."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepllm.config import PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.readers import hepmc, open_event_file
from hepllm.physics.readers.hepmc import HepmcFile

pyhepmc = pytest.importorskip("pyhepmc")

N = 230
SHERPA_FINAL = 46
NU_MU, PION, GAMMA, MUON, B_QUARK = 14, 211, 22, 13, 5

Event = list[tuple[float, float, float, int, int]]
"""Of each particle px, py, pz, code and status."""


def _events() -> list[Event]:
    random = np.random.default_rng(3)
    events = []
    for _ in range(N):
        momenta = random.normal(0, 40, (random.integers(1, 30), 3))
        codes = random.choice([PION, -PION, GAMMA, NU_MU, -NU_MU, MUON], len(momenta))
        states = random.choice([1, 1, 1, 2, 23], len(momenta))
        event = [
            (*p.tolist(), int(c), int(s)) for p, c, s in zip(momenta, codes, states, strict=True)
        ]
        events.append([*event, (0.0, 0.0, 500.0, 2212, 1)])
    return events


def _write(path: Path, events: list[Event], version: int = 3, **options: Any) -> Path:
    """Writes events of one vertex; ``weights`` and their ``names``, and the ``unit``."""
    run = pyhepmc.GenRunInfo()
    run.weight_names = options.get("names", ["nominal"])
    unit = options.get("unit", pyhepmc.Units.GEV)
    scale = 1000.0 if unit == pyhepmc.Units.MEV else 1.0
    with pyhepmc.open(path, "w", format=f"HepMC{version}", precision=17) as file:
        for number, particles in enumerate(events):
            event = pyhepmc.GenEvent(unit, pyhepmc.Units.MM)
            event.run_info = run
            event.event_number = number
            vertex = pyhepmc.GenVertex()
            vertex.add_particle_in(pyhepmc.GenParticle((0, 0, 0, 0), B_QUARK, 2))
            for px, py, pz, pid, status in particles:
                energy = float(np.sqrt(px**2 + py**2 + pz**2))
                momentum = tuple(scale * value for value in (px, py, pz, energy))
                vertex.add_particle_out(pyhepmc.GenParticle(momentum, pid, status))
            event.add_vertex(vertex)
            event.weights = options.get("weights", [[1.0]] * len(events))[number]
            file.write(event)
    return path


def _expected(event: Event) -> np.ndarray[Any, Any]:
    """pT, eta, phi by other formulas than the reader's."""
    seen = [p for p in event if p[4] == 1 and abs(p[3]) != NU_MU and (p[0], p[1]) != (0, 0)]
    rows = []
    for px, py, pz, _, _ in seen:
        momentum = np.sqrt(px**2 + py**2 + pz**2)
        theta = np.arccos(pz / momentum)
        pt = momentum * np.sin(theta)
        rows.append((pt, -np.log(np.tan(theta / 2)), np.angle(px + 1j * py)))
    return np.array(rows).reshape(-1, 3)


@pytest.fixture(scope="module", params=[2, 3])
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Event]]:
    events = _events()
    path = tmp_path_factory.mktemp("hepmc") / f"version{request.param}.hepmc"
    return _write(path, events, request.param), events


@pytest.mark.parametrize(("start", "stop"), [(0, N), (0, 1), (99, 101), (150, 150), (205, N)])
def test_visible_particles(start: int, stop: int, written: tuple[Path, list[Event]]) -> None:
    path, events = written
    file = open_event_file(path)
    assert isinstance(file, HepmcFile)
    assert (file.n_events, file.has_labels) == (N, False)
    batch = file.read(start, stop)
    np.testing.assert_array_equal(batch.event_id, np.arange(start, stop))
    expected = [_expected(event) for event in events[start:stop]]
    assert batch.particles.counts.tolist() == [len(rows) for rows in expected]
    found = np.stack([batch.particles.pt, batch.particles.eta, batch.particles.phi], axis=1)
    np.testing.assert_allclose(found, np.concatenate([np.empty((0, 3)), *expected]), rtol=1e-9)
    assert np.isnan(batch.label_raw).all()
    assert batch.weight.tolist() == [1.0] * (stop - start)


def test_the_size_of_blocks_and_strides_does_not_matter(
    written: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = written
    expected = open_event_file(path).read(33, 35).particles.pt
    for block, stride in ((1, 7), (2, 1), (1000, 100)):
        monkeypatch.setattr(hepmc, "_BLOCK", block)
        monkeypatch.setattr(hepmc, "_STRIDE", stride)
        file = open_event_file(path)
        assert file.n_events == N
        np.testing.assert_array_equal(file.read(33, 35).particles.pt, expected)


@settings(max_examples=50)
@given(
    st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"x")), max_size=20),
    st.integers(1, 9),
)
def test_lines_of_events_are_found(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], block: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "file"
    marked = [b"E " + line if i % 3 == 0 else line for i, line in enumerate(lines)]
    path.write_bytes(b"".join(line + b"\n" for line in marked))
    begins = np.cumsum([0, *(len(line) + 1 for line in marked)])
    expected = [int(at) for at, line in zip(begins, marked, strict=False) if line.startswith(b"E ")]
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as stream:
        patch.setattr(hepmc, "_BLOCK", block)
        assert list(hepmc._event_offsets(stream)) == expected


def test_megaelectronvolts(tmp_path: Path) -> None:
    events = _events()[:5]
    in_gev = open_event_file(_write(tmp_path / "gev", events)).read(0, 5)
    in_mev = open_event_file(_write(tmp_path / "mev", events, unit=pyhepmc.Units.MEV)).read(0, 5)
    np.testing.assert_allclose(in_mev.particles.pt, in_gev.particles.pt, rtol=1e-12)
    np.testing.assert_allclose(in_mev.particles.eta, in_gev.particles.eta, rtol=1e-9)


def test_weights(tmp_path: Path) -> None:
    weights = [[0.5 * i, -1.0] for i in range(5)]
    names = ["nominal", "scale_up"]
    path = _write(tmp_path / "a.hepmc", _events()[:5], weights=weights, names=names)
    for stated, expected in {
        None: [0.0, 0.5, 1.0, 1.5, 2.0],
        0: [0.0, 0.5, 1.0, 1.5, 2.0],
        1: [-1.0] * 5,
        "scale_up": [-1.0] * 5,
        "none": [1.0] * 5,
    }.items():
        file = open_event_file(path, PreprocessConfig(weight=stated))
        assert file.read(0, 5).weight.tolist() == expected
    for wrong in ("scale_down", 2):
        with pytest.raises(InputError, match=rf"no weight '{wrong}'; there are nominal, scale_up"):
            open_event_file(path, PreprocessConfig(weight=wrong))


def test_it_can_be_sent_to_workers(written: tuple[Path, list[Event]]) -> None:
    file = open_event_file(written[0])
    assert pickle.loads(pickle.dumps(file)) == file  # noqa: S301 (our own)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "is_signal"}, "no labels; give preprocess.source_labels"),
        ({"energy_unit": "TeV"}, "state their own unit"),
    ],
)
def test_what_hepmc_does_not_have(
    options: dict[str, Any], message: str, written: tuple[Path, list[Event]]
) -> None:
    with pytest.raises(InputError, match=message):
        open_event_file(written[0], PreprocessConfig(**options))


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_that_is_cut_short(version: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.hepmc", _events()[:20], version)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\nP ") + 8])
    file = open_event_file(path)
    assert file.n_events == 20
    assert len(file.read(0, 19)) == 19
    with pytest.raises(InputError, match=r"a.hepmc: row 19: the event is damaged or cut short"):
        file.read(10, 20)


def test_no_events(tmp_path: Path) -> None:
    path = tmp_path / "a.hepmc"
    path.write_text("HepMC::Version 3.02.05\nHepMC::Asciiv3-START_EVENT_LISTING\n")
    with pytest.raises(InputError, match="there are no events in it"):
        open_event_file(path)


CASES = {
    "hepmc_no_newline/inputIO31.hepmc": 5,
    "hepmc_no_newline/h_v2_nofoot.hepmc": 5,
    "hepmc_no_newline/h_v3_foot_nonl.hepmc": 5,
    "hepmc_sherpa_segfault/inputSherpa140Crash.hepmc": 1,
}


@pytest.mark.parametrize("name", CASES)
def test_whole_files_of_other_writers(name: str, reference_data: Path) -> None:
    file = open_event_file(reference_data / "cases" / name)
    assert file.n_events == CASES[name]
    batch = file.read(0, file.n_events)
    assert np.isfinite(batch.particles.pt).all()
    if "Sherpa" in name:  # which crashes pyhepmc; read from the file by hand
        assert batch.particles.counts.tolist() == [SHERPA_FINAL]
        assert batch.weight.tolist() == [77.31658453440]


def test_a_cut_event_is_an_error_and_nothing_is_printed(
    reference_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = open_event_file(reference_data / "cases" / "hepmc_no_newline" / "h_v3_cut1.hepmc")
    with pytest.raises(InputError, match=r"row 4: .* cut short: 11 particles, expected 12"):
        file.read(0, 5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nHepMC::X-END_EVENT_LISTING"])
def test_any_end_of_the_last_event(version: int, end: bytes, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.hepmc", _events()[:3], version)
    expected = open_event_file(path).read(0, 3).particles
    content = path.read_bytes()
    last = content[: content.rindex(b"\nHepMC::")].rstrip(b"\n")
    path.write_bytes(last + end)
    found = open_event_file(path).read(0, 3).particles
    np.testing.assert_array_equal(found.pt, expected.pt)
    np.testing.assert_array_equal(found.counts, expected.counts)


@pytest.mark.parametrize("version", [2, 3])
def test_files_one_after_another(version: int, tmp_path: Path) -> None:
    first, second = (_write(tmp_path / name, _events()[:3], version) for name in ("a", "b"))
    single = open_event_file(first).read(0, 3)
    first.write_bytes(first.read_bytes() + second.read_bytes())
    both = open_event_file(first).read(0, 6)
    np.testing.assert_array_equal(both.particles.pt, np.tile(single.particles.pt, 2))
    assert both.weight.tolist() == [1.0] * 6


@pytest.mark.parametrize("version", [2, 3])
def test_words_that_are_no_numbers(version: int, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.hepmc", _events()[:2], version)
    content = path.read_bytes()
    place = content.rindex(b"\nP ")
    words = content[place:].split(b" ")
    words[5] = b"x"  # py or pz
    path.write_bytes(content[:place] + b" ".join(words))
    with pytest.raises(InputError, match="row 1: the event is damaged or cut short"):
        open_event_file(path).read(0, 2)


def test_names_of_weights_with_any_characters(tmp_path: Path) -> None:
    names = ["a b", "back\\slash", "c"]
    path = _write(tmp_path / "a.hepmc", _events()[:1], weights=[[1.0, 2.0, 3.0]], names=names)
    for place, name in enumerate(names):
        file = open_event_file(path, PreprocessConfig(weight=name))
        assert file.read(0, 1).weight.tolist() == [place + 1.0]


def test_another_format_of_hepmc(tmp_path: Path) -> None:
    path = tmp_path / "a.hepmc"
    path.write_text("HepMC::Version 1.0\nHepMC::IO_Ascii-START_EVENT_LISTING\nE 1 2 3\n")
    with pytest.raises(InputError, match=r"a format other than Asciiv3 .* and IO_GenEvent"):
        open_event_file(path)
