"""ROOT files as Delphes and NanoAOD have them, and any other with a branch map."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepllm.config import JetsConfig, PreprocessConfig
from hepllm.errors import InputError
from hepllm.physics.absent import SENTINELS
from hepllm.physics.derivation import derive_features
from hepllm.physics.events import TabulatedEvents
from hepllm.physics.readers import open_event_file
from hepllm.physics.readers.root import RootFile
from hepllm.physics.readers.trees import RootTree

N = 30

EFLOW = {"EFlowTrack": "PT", "EFlowPhoton": "ET", "EFlowNeutralHadron": "ET"}


def _collection(random: np.random.Generator, energy: str, name: str, least: int = 0) -> Any:
    counts = random.integers(least, 6, N)
    total = int(counts.sum())
    columns = {
        f"{name}.{energy}": random.exponential(50, total) + 1,
        f"{name}.Eta": random.normal(0, 1, total),
        f"{name}.Phi": random.uniform(-np.pi, np.pi, total),
    }
    return {key: ak.unflatten(values.astype("f4"), counts) for key, values in columns.items()}


def _write(path: Path, tree: str, branches: dict[str, Any], pieces: int = 2) -> Path:
    """Writes branches in several baskets."""
    with uproot.recreate(path) as file:
        types = {
            name: values.dtype
            if isinstance(values, np.ndarray)
            else str(ak.type(values)).split(" * ", 1)[1]
            for name, values in branches.items()
        }
        made = file.mktree(tree, types)
        for piece in np.array_split(np.arange(N), pieces):
            made.extend({name: values[piece] for name, values in branches.items()})
    return path


@pytest.fixture(scope="module")
def eflow() -> dict[str, Any]:
    random = np.random.default_rng(7)
    branches: dict[str, Any] = {}
    for name, energy in EFLOW.items():
        branches |= _collection(random, energy, name)
    return branches


@pytest.fixture(scope="module")
def delphes(tmp_path_factory: pytest.TempPathFactory, eflow: dict[str, Any]) -> Path:
    weights = ak.Array([[w] for w in np.linspace(-0.5, 2, N)])
    path = tmp_path_factory.mktemp("root") / "delphes.root"
    return _write(path, "Delphes", {**eflow, "Event.Weight": weights})


def test_delphes_eflow(delphes: Path, eflow: dict[str, Any]) -> None:
    file = open_event_file(delphes)
    assert isinstance(file, RootFile)
    assert (file.n_events, file.has_labels) == (N, False)
    batch = file.read(4, 25)
    np.testing.assert_array_equal(batch.event_id, np.arange(4, 25))
    np.testing.assert_allclose(batch.weight, np.linspace(-0.5, 2, N)[4:25])
    starts = np.cumsum(batch.particles.counts) - batch.particles.counts
    for i, event in enumerate(range(4, 25)):
        expected = [
            (pt, eta, phi)
            for name, energy in EFLOW.items()
            for pt, eta, phi in zip(
                *(eflow[f"{name}.{b}"][event].tolist() for b in (energy, "Eta", "Phi")), strict=True
            )
        ]
        mine = slice(starts[i], starts[i] + batch.particles.counts[i])
        particles = batch.particles
        found = np.stack([particles.pt[mine], particles.eta[mine], particles.phi[mine]], axis=1)
        np.testing.assert_allclose(found, np.reshape(expected, (-1, 3)), rtol=1e-12)


@pytest.mark.parametrize("pieces", [(0, 7), (7, 8), (8, 30)])
def test_digests_do_not_depend_on_the_piece(delphes: Path, pieces: tuple[int, int]) -> None:
    file = open_event_file(delphes)
    whole = file.read(0, N).content.digests()
    np.testing.assert_array_equal(file.read(*pieces).content.digests(), whole[slice(*pieces)])


def test_a_root_file_can_be_sent_to_a_worker(delphes: Path) -> None:
    file = open_event_file(delphes)
    assert pickle.loads(pickle.dumps(file)) == file  # noqa: S301 (our own)


def test_a_changed_file_is_read_anew(delphes: Path, eflow: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    path.write_bytes(delphes.read_bytes())
    before = open_event_file(path).read(0, N).content.digests()
    _write(path, "Delphes", {name: values[::-1] for name, values in eflow.items()}, pieces=3)
    np.testing.assert_array_equal(open_event_file(path).read(0, N).content.digests(), before[::-1])


def test_generated_particles_of_delphes(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    branches = _collection(random, "PT", "Particle", least=3)
    counts = ak.num(branches["Particle.PT"])
    flat = int(ak.sum(counts))
    status = random.integers(1, 3, flat).astype("i4")
    pid = random.choice([211, -12, 14, 22, -16], flat).astype("i4")
    branches |= {
        "Particle.Status": ak.unflatten(status, counts),
        "Particle.PID": ak.unflatten(pid, counts),
    }
    file = open_event_file(_write(tmp_path / "a.root", "Delphes", branches))
    batch = file.read(0, N)
    keep = (status == 1) & ~np.isin(np.abs(pid), (12, 14, 16))
    assert 0 < keep.sum() < flat
    np.testing.assert_array_equal(
        batch.particles.pt, ak.to_numpy(ak.flatten(branches["Particle.PT"]))[keep]
    )


def _fat_jets(names: dict[str, str], unit: float = 1.0) -> dict[str, Any]:
    random = np.random.default_rng(5)
    counts = random.integers(0, 5, N)
    total = int(counts.sum())
    flat = {
        "pt": random.exponential(300, total) + 5,
        "eta": random.normal(0, 1.5, total),
        "phi": random.uniform(-np.pi, np.pi, total),
        "mass": random.uniform(10, 300, total),
        "tau1": random.uniform(0.2, 0.5, total),
        "tau2": random.uniform(0.05, 0.2, total),
        "softdrop_mass": random.uniform(-20, 200, total),
    }
    for name in ("pt", "mass", "softdrop_mass"):
        flat[name] /= unit
    return {
        names[key]: ak.unflatten(values, counts) for key, values in flat.items() if key in names
    }


NANOAOD = {
    **{name: f"FatJet_{name}" for name in ("pt", "eta", "phi", "mass", "tau1", "tau2")},
    "softdrop_mass": "FatJet_msoftdrop",
}


@pytest.mark.parametrize("n_jets", [2, 3])
def test_nanoaod(n_jets: int, tmp_path: Path) -> None:
    jets = _fat_jets(NANOAOD)
    extra = {"genWeight": np.linspace(-1, 1, N), "label": np.arange(N, dtype="i4") % 2}
    path = _write(tmp_path / "nano.root", "Events", {**jets, **extra})
    config = PreprocessConfig(jets=JetsConfig(pt_min=50, eta_max=2.0, n_jets=n_jets))
    file = open_event_file(path, config)
    batch = file.read(3, 28)
    np.testing.assert_array_equal(batch.weight, extra["genWeight"][3:28])
    np.testing.assert_array_equal(batch.label_raw, extra["label"][3:28])
    assert isinstance(batch.content, TabulatedEvents)
    found = derive_features(batch.content)
    for i, event in enumerate(range(3, 28)):
        one = {key: np.array(jets[branch][event].tolist()) for key, branch in NANOAOD.items()}
        passed = (one["pt"] >= 50) & (np.abs(one["eta"]) <= 2)
        order = [j for j in np.argsort(-one["pt"]) if passed[j]]
        assert found["n_jets"][i] == len(order)
        assert found["ht"][i] == pytest.approx(one["pt"][passed].sum())
        for rank in range(3):
            there = rank < min(len(order), n_jets)
            expected = one["pt"][order[rank]] if there else np.nan
            np.testing.assert_equal(found[f"jet{rank + 1}_pt"][i], expected)
        if len(order) >= 2:
            first, second = ({k: v[j] for k, v in one.items()} for j in order[:2])
            energy = [np.hypot(j["pt"] * np.cosh(j["eta"]), j["mass"]) for j in (first, second)]
            px, py, pz = (
                sum(j["pt"] * f(j) for j in (first, second))
                for f in (
                    lambda j: np.cos(j["phi"]),
                    lambda j: np.sin(j["phi"]),
                    lambda j: np.sinh(j["eta"]),
                )
            )
            m_jj = np.sqrt(sum(energy) ** 2 - px**2 - py**2 - pz**2)
            assert found["m_jj"][i] == pytest.approx(m_jj)
            assert found["jet1_tau21"][i] == pytest.approx(first["tau2"] / first["tau1"])
            groomed = first["softdrop_mass"]  # NanoAOD has -1 where there is none
            np.testing.assert_equal(
                found["jet1_softdrop_mass"][i], groomed if groomed >= 0 else np.nan
            )


def test_jets_of_a_branch_map_in_tev(tmp_path: Path) -> None:
    names = {"pt": "J_et", "eta": "J_eta", "phi": "J_phi", "mass": "J_m"}
    in_gev = open_event_file(_write(tmp_path / "gev.root", "Events", _fat_jets(NANOAOD)))
    path = _write(tmp_path / "tev.root", "events", _fat_jets(names, unit=1000))
    config = PreprocessConfig.model_validate({"energy_unit": "TeV", "root": {"jets": names}})
    found, expected = (
        derive_features(file.read(0, N).content)  # type: ignore[arg-type]
        for file in (open_event_file(path, config), in_gev)
    )
    for name in ("jet1_pt", "jet2_mass", "m_jj", "m_jjj", "ht", "n_jets"):
        np.testing.assert_allclose(found[name], expected[name])
    assert np.isnan(found["jet1_tau1"]).all()


def test_particles_of_a_branch_map(eflow: dict[str, Any], tmp_path: Path) -> None:
    renamed = {name.replace("EFlow", "My"): values for name, values in eflow.items()}
    path = _write(tmp_path / "a.root", "t", renamed)
    collections = [
        {"pt": f"My{n}.{e}", "eta": f"My{n}.Eta", "phi": f"My{n}.Phi"}
        for n, e in (("Track", "PT"), ("Photon", "ET"), ("NeutralHadron", "ET"))
    ]
    config = PreprocessConfig.model_validate({"root": {"particles": collections}})
    plain = open_event_file(_write(tmp_path / "b.root", "t", eflow))
    np.testing.assert_array_equal(
        open_event_file(path, config).read(0, N).content.digests(),
        plain.read(0, N).content.digests(),
    )


def test_jets_of_delphes_with_their_taus(tmp_path: Path) -> None:
    names = {"pt": "FatJet.PT", "eta": "FatJet.Eta", "phi": "FatJet.Phi", "mass": "FatJet.Mass"}
    jets = _fat_jets(names)
    counts = ak.num(jets["FatJet.PT"])
    taus = np.sort(np.random.default_rng(1).uniform(0, 1, (int(ak.sum(counts)), 5)))[:, ::-1]
    lists = ak.unflatten(ak.from_regular(ak.Array(taus)), counts)
    tree = _Fake({**jets, "FatJet.Tau[5]": lists})
    values, _ = tree.lists("FatJet.Tau[5][1]", 0, N)
    np.testing.assert_array_equal(values, taus[:, 1])
    missing, _ = tree.lists("FatJet.Tau[5][7]", 0, N)
    assert np.isnan(missing).all()


def test_a_tau_of_zero_that_was_not_computed_is_missing(tmp_path: Path) -> None:
    """As Delphes fills Tau[5]; with one particle in a jet, only the first may be 0."""
    names = {"pt": "Jet.PT", "eta": "Jet.Eta", "phi": "Jet.Phi", "mass": "Jet.Mass"}
    values = {"pt": [900.0, 800.0], "eta": [0.1, 0.2], "phi": [1.0, -2.0], "mass": [90.0, 80.0]}
    taus = {"tau1": [0.0, 0.0], "tau2": [0.0, 0.1], "tau3": [0.0, 0.0]}
    branches = {names.get(name, name): ak.Array([v] * N) for name, v in {**values, **taus}.items()}
    path = _write(tmp_path / "a.root", "Delphes", branches)
    config = PreprocessConfig.model_validate({"root": {"jets": {**names, **{t: t for t in taus}}}})
    content = open_event_file(path, config).read(0, 1).content
    assert isinstance(content, TabulatedEvents)
    first, second = ([content.values[f"jet{i}_{t}"][0] for t in taus] for i in (1, 2))
    assert np.isnan(first).all()
    assert second == [0.0, 0.1, 0.0]


class _Fake(RootTree):
    """A tree with branches that uproot reads but cannot write."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        super().__init__(Path("fake.root"), "Delphes", N, tuple(arrays))
        object.__setattr__(self, "arrays", arrays)

    def _array(self, branch: str, start: int, stop: int) -> Any:
        return self.arrays[branch][start:stop]  # type: ignore[attr-defined]


def test_branches_within_branches_are_known_by_their_own_names() -> None:
    """As in files of Delphes itself, whose collections are split objects."""
    tree = RootTree(Path("a.root"), "Delphes", 1, ("Jet", "Jet/Jet.PT", "Jet/Jet.Tau[5]"))
    for branch in ("Jet.PT", "Jet/Jet.PT", "Jet.Tau[5]", "Jet.Tau[5][2]"):
        assert tree.has(branch)
    assert not tree.has("Jet.Mass")
    assert not tree.has("Jet.PT[5][2]")
    double = RootTree(Path("a.root"), "t", 1, ("one/pt", "two/pt", "two/eta"))
    assert double.names == ("one/pt", "two/pt", "eta")
    assert double.has("two/pt")
    assert not double.has("pt")


@pytest.fixture
def tree_file(tmp_path: Path, eflow: dict[str, Any]) -> Path:
    branches = {**eflow, "flat": np.arange(N, dtype="f8")}
    return _write(tmp_path / "a.root", "events", branches)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": {"tree": "event"}}, r"no tree 'event' \(did you mean 'events'\?\)"),
        ({"label": "truth"}, "no branch 'truth' for the label in the tree 'events'"),
        ({"weight": "flatt"}, r"no branch 'flatt' for the weight .* \(did you mean 'flat'\?\)"),
        ({"root": {"layout": "nanoaod-jets"}}, "no branch 'FatJet_pt' for 'pt'"),
        (
            {"root": {"particles": [{"pt": "EFlowTrack.PTT", "eta": "a", "phi": "b"}]}},
            r"no branch 'EFlowTrack.PTT' for 'pt' .* \(did you mean 'EFlowTrack.PT'\?\)",
        ),
        (
            {"root": {"particles": [{"pt": "flat", "eta": "flat", "phi": "flat"}]}},
            "branch 'flat' holds one number per event, expected a list",
        ),
        (
            {
                "root": {
                    "particles": [
                        {"pt": "EFlowTrack.PT", "eta": "EFlowPhoton.Eta", "phi": "EFlowTrack.Phi"}
                    ]
                }
            },
            "branch 'EFlowPhoton.Eta' has lists of other lengths",
        ),
        ({"columns": {"m_jj": "flt"}}, r"no column 'flt' for 'm_jj' \(did you mean 'flat'\?\)"),
    ],
)
def test_wrong_branch_maps(settings: dict[str, Any], message: str, tree_file: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_event_file(tree_file, PreprocessConfig.model_validate(settings)).read(0, N)
    assert str(caught.value).startswith(f"{tree_file}: ")
    assert "\n" not in str(caught.value)


def test_a_tree_of_unknown_branches(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.root", "t", {"x": np.arange(N)})
    with pytest.raises(InputError, match="no branches of Delphes or NanoAOD, but x; map them in"):
        open_event_file(path)
    config = PreprocessConfig(columns={"m_jj": "x"})
    content = open_event_file(path, config).read(5, 8).content
    assert isinstance(content, TabulatedEvents)
    assert content.values["m_jj"].tolist() == [5, 6, 7]


def test_which_tree(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        for name in ("one", "two"):
            file.mktree(name, {"m_jj": "f8"}).extend({"m_jj": np.ones(3)})
    with pytest.raises(InputError, match="which tree\\? There are one, two; name one in"):
        open_event_file(tmp_path / "a.root")
    with uproot.recreate(tmp_path / "b.root") as file:
        file.mktree("Events", {"m_jj": "f8"})
    with pytest.raises(InputError, match="there are no events in the tree 'Events'"):
        open_event_file(tmp_path / "b.root")


def test_a_file_without_a_tree(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file["pt"] = np.histogram([1.0, 2.0])
    with pytest.raises(InputError, match=r"a\.root: no tree or RNTuple in it, but TH1D 'pt'$"):
        open_event_file(tmp_path / "a.root")
    with uproot.recreate(tmp_path / "b.root"):
        pass
    with pytest.raises(InputError, match=r"b\.root: no tree or RNTuple in it, but nothing$"):
        open_event_file(tmp_path / "b.root")


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_truncated_root_files(share: float, delphes: Path, tmp_path: Path) -> None:
    whole = delphes.read_bytes()
    path = tmp_path / "a.root"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"not a readable ROOT file|truncated at") as caught:
        open_event_file(path)
    assert "\n" not in str(caught.value)


def test_text_is_no_number(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a.root", "t", {"m_jj": np.arange(N), "label": ak.Array(["signal"] * N)}
    )
    config = PreprocessConfig(columns={"m_jj": "m_jj"})
    with pytest.raises(InputError, match="branch 'label'"):
        open_event_file(path, config).read(0, N)


def test_records_in_an_rntuple(reference_data: Path, tmp_path: Path) -> None:
    case = reference_data / "cases" / "root_rntuple_tntuple" / "rntuple.root"
    content = open_event_file(case).read(0, 2).content
    assert isinstance(content, TabulatedEvents)
    assert content.values["jet1_pt"].tolist() == [500, 300]
    kinds = ("pt", "eta", "phi")
    records = ak.zip({kind: ak.Array([[1.0, 2.0], [0.5]]) for kind in kinds})
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = {"PFCands": records}
    particles = open_event_file(tmp_path / "a.root").read(0, 2).particles
    assert particles.counts.tolist() == [2, 1]
    assert particles.eta.tolist() == [1.0, 2.0, 0.5]


@pytest.mark.parametrize("kind", ["TTree", "ROOT::RNTuple"])
def test_features_of_known_names_need_no_map(kind: str, tmp_path: Path) -> None:
    columns = {"m_jj": np.array([3000.0, 3100.0]), "label": np.array([0, 1])}
    with uproot.recreate(tmp_path / "a.root") as file:
        if kind == "TTree":
            file.mktree("t", {"m_jj": "f8", "label": "i4"}).extend(columns)
        else:
            file["t"] = columns
        assert file.classnames(cycle=False) == {"t": kind}
    batch = open_event_file(tmp_path / "a.root").read(0, 2)
    assert batch.label_raw.tolist() == [0, 1]


def test_missing_numbers_of_options(tmp_path: Path) -> None:
    tree = _Fake({"x": ak.Array([1.0, None] * (N // 2)), "y": ak.Array([[1.0, None]] * N)})
    np.testing.assert_array_equal(tree.scalars("x", 0, 2), [1, np.nan])
    np.testing.assert_array_equal(tree.lists("y", 0, 1)[0], [1, SENTINELS[-1]])  # not NaN


def test_null_jets_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    none: list[float | None] = [500.0, None, 300.0]
    events = ak.zip(
        {
            "FatJet_pt": ak.Array([none, [400.0]]),
            "FatJet_eta": ak.Array([[0.1, None, 0.2], [0.3]]),
            "FatJet_phi": ak.Array([[0.1, None, 0.2], [0.3]]),
            "FatJet_mass": ak.Array([[50.0, None, 20.0], [None]]),
        },
        depth_limit=1,
    )
    with uproot.recreate(path) as file:
        file.mkrntuple("Events", events)
    content = open_event_file(path).read(0, 2).content
    assert isinstance(content, TabulatedEvents)
    assert content.defects == []
    np.testing.assert_array_equal(content.values["n_jets"], [2, 1])
    np.testing.assert_array_equal(content.values["jet2_pt"], [300, np.nan])
    np.testing.assert_array_equal(content.values["jet1_mass"], [50, np.nan])
