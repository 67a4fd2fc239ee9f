from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hepllm.cartography import label_quality
from hepllm.cartography.dynamics import read_dynamics
from hepllm.cartography.filters import filter_events
from hepllm.cli import cli
from hepllm.config import Config, FilterRule, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.notes import NotesRecord, find_events, read_notes, write_notes
from hepllm.errors import InputError
from hepllm.report.audit import read_audit
from hepllm.runs.audited_run import read_audited_run
from hepllm.schema import SIGNAL
from hepllm.stages import audit
from hepllm.stages.audit import audit_dataset
from hepllm.stages.ensemble import make_ensemble
from hepllm.stages.flag import flag_dataset
from hepllm.stages.report import report
from hepllm.stages.train import train

FEW = ("flags.trigger_pt=0", "audit.folds=2", "audit.workers=1", "audit.examples=1")


def config(*overrides: str) -> Config:
    return load_config(None, [*FEW, *overrides])


@pytest.fixture(scope="module")
def recorded(
    make_once: Callable[[str, Callable[[Path], None]], Path],
    tiny_config: Callable[..., Config],
    tiny_data: Path,
) -> Path:
    """A run with a record of its training, and with clusters."""

    def fill(folder: Path) -> None:
        settings = tiny_config(
            *("preprocess.executor=serial", "train.dynamics=true", "train.epochs=2"),
            "train.nfa_alone.epochs=4",
        )
        dataset = tiny_data / "data" / "rnd"
        train(dataset, folder / "run", settings, overwrite=False)
        table = read_dataset(dataset).load((), "train")
        some = np.arange(0, len(table), 2)
        columns = {
            "score": np.zeros(len(some)),
            "cluster": np.arange(len(some)) % 3 - 1,
            "probability": np.full(len(some), 0.5),
        }
        record = NotesRecord(holds="clusters", made_by="a test")
        (folder / "run" / "embed" / "rnd").mkdir(parents=True)
        file = folder / "run" / "embed" / "rnd" / "clusters.parquet"
        write_notes(file, table.event_digest[some], columns, record)

    return make_once("audited-run", fill) / "run"


def test_all_that_is_known_is_in_one_table(recorded: Path, tiny_data: Path, tmp_path: Path) -> None:
    place = tmp_path / "out"
    done = audit_dataset(None, [recorded], config(), place)
    record = done.record
    assert all(file.stat().st_size for file in done.files)
    table = pq.read_table(place / "audit.parquet")
    whole = read_dataset(tiny_data / "data" / "rnd").load(("m_jj",))
    np.testing.assert_array_equal(table["event_digest"].to_numpy(), whole.event_digest)
    np.testing.assert_array_equal(table["row"].to_numpy(), np.arange(len(whole)))
    np.testing.assert_array_equal(table["m_jj"].to_numpy(), whole.column("m_jj"))
    assert pyarrow.csv.read_csv(place / "audit.csv").num_rows == len(whole)
    # The training: margins of the second half of the adapter's four epochs.
    dynamics = read_dynamics(recorded, "")
    late = np.nanmean(dynamics.parts["adapter"].margin[:, 2:].astype(float), axis=1)
    rows = find_events(whole.event_digest, dynamics.event_digest)
    found = table["late_margin_run"].to_numpy()
    np.testing.assert_allclose(found[rows >= 0], late[rows[rows >= 0]])
    assert np.isnan(found[rows < 0]).all()
    assert table["category_run"].null_count == (rows < 0).sum()
    # Clusters of half of the training events.
    n_embedded = -(-int((whole.split == "train").sum()) // 2)
    assert table["cluster_run"].null_count == len(whole) - n_embedded
    cells = record.categories_by_cluster["run"].values()
    n_mapped = int((~np.isnan(found) & ~np.isnan(table["membership_run"].to_numpy())).sum())
    assert sum(number for row in cells for number in row.values()) == n_mapped
    # Validation events have scores, and by these a margin.
    validation = read_notes(recorded / "validation.parquet", "")
    places = find_events(validation.event_digest, whole.event_digest)
    score = table["score_run"].to_numpy()
    np.testing.assert_allclose(score[places], validation.column("score"))


def test_flags_are_those_of_flag(tiny_data: Path, tmp_path: Path) -> None:
    dataset = tiny_data / "data" / "rnd"
    done = audit_dataset(dataset, [], config(), tmp_path / "audit")
    flagged = flag_dataset(dataset, config().flags, tmp_path / "flags")
    table, notes = (
        read_notes(tmp_path / name, "") for name in ("audit/audit.parquet", "flags/flags.parquet")
    )
    for name in flagged.record.rules:
        np.testing.assert_array_equal(table.column(name), notes.column(name))
    np.testing.assert_array_equal(table.column("flag_score"), notes.column("score"))
    assert set(done.record.skipped) == set(flagged.record.skipped)
    priority = table.column("priority")
    np.testing.assert_allclose(priority, table.column("faults") + table.column("doubt"))
    np.testing.assert_allclose(
        table.column("doubt"), 1 - table.column("boosting_confidence"), atol=1e-12
    )
    # train.filter reads the table.
    rule = {"table": str(tmp_path / "audit" / "audit.parquet"), "column": "priority", "above": 0.5}
    events = read_dataset(dataset).load(())
    rules = [FilterRule.model_validate({"marked": rule})]
    kept = filter_events(events.event_digest, events.label, rules).kept
    np.testing.assert_array_equal(kept, ~(priority > 0.5))


def test_the_review_list_has_the_largest_priorities_first(tiny_data: Path, tmp_path: Path) -> None:
    done = audit_dataset(tiny_data / "data" / "rnd", [], config("audit.review=0.1"), tmp_path / "a")
    listed = pq.read_table(tmp_path / "a" / "review.parquet")
    priority = pq.read_table(tmp_path / "a" / "audit.parquet")["priority"].to_numpy()
    assert listed.num_rows == done.record.n_review == 20
    np.testing.assert_array_equal(listed["priority"].to_numpy(), np.sort(priority)[::-1][:20])
    np.testing.assert_array_equal(priority[listed["row"].to_numpy()], listed["priority"].to_numpy())
    text = (tmp_path / "a" / "review.txt").read_text()
    assert listed["reasons"][0].as_py() in text
    drawn = list((tmp_path / "a" / "events").iterdir())
    assert len(drawn) == 1
    assert drawn[0].name.startswith("001-rnd-")


def test_the_bytes_do_not_depend_on_the_workers(
    recorded: Path, tmp_path: Path, undrawn_figures: None
) -> None:
    for workers in (1, 2):
        settings = config(f"audit.workers={workers}")
        audit_dataset(None, [recorded], settings, tmp_path / str(workers))
    for name in ("audit.parquet", "audit.csv", "review.parquet", "review.csv", "review.txt"):
        one, two = ((tmp_path / number / name).read_bytes() for number in "12")
        assert one == two, name
    assert {one.name for one in tmp_path.iterdir()} == {"1", "2"}  # no folds are left


def test_a_stopped_audit_goes_on_with_its_folds(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn_figures: None
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    dataset = tiny_data / "data" / "rnd"
    audit_dataset(dataset, [], config(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(audit, "write_audit", stop)
        with pytest.raises(KeyboardInterrupt):
            audit_dataset(dataset, [], config(), tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    monkeypatch.setattr(label_quality, "fit_boosting", stop)
    with pytest.raises(KeyboardInterrupt):  # other folds are others
        audit_dataset(dataset, [], config("audit.folds=3"), tmp_path / "other")
    audit_dataset(dataset, [], config(), tmp_path / "stopped")
    one, two = ((tmp_path / name / "audit.parquet").read_bytes() for name in ("whole", "stopped"))
    assert one == two


def test_the_command_writes_to_the_run_and_the_report_shows_it(
    recorded: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(recorded, tmp_path / "run")
    command = ["audit", "--run", str(run), "--json"]
    for one in FEW:
        command += ["--set", one]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)["rnd"]
    assert tree["runs"] == ["run"]
    assert set(tree["categories_by_cluster"]["run"]) == {"easy", "ambiguous", "hard"}
    assert any("hepllm eval" in text for text in tree["missing"])
    assert (run / "audit" / "rnd" / "overlap.json").is_file()
    (run / "history.jsonl").unlink()  # its pictures take seconds
    assert "Audit of rnd" in report([run], tmp_path / "report.md").read_text()
    chapter = read_audit(run / "audit" / "rnd" / "overlap.json")
    assert len(chapter.pictures) == 2
    assert len(chapter.panels) == 1
    assert chapter.listings[0].text.startswith("rnd: 10 of 200 events are on the review list")
    (run / "audit" / "rnd" / "review.txt").unlink()
    with pytest.raises(InputError, match="hepllm audit"):
        read_audit(run / "audit" / "rnd" / "overlap.json")


def test_what_cannot_be_done_is_told_before_the_work(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    box = tiny_data / "data" / "bb"
    with pytest.raises(InputError, match=r"knows no event of .*bb; name runs that were trained"):
        audit_dataset(box, [tiny_run], config(), tmp_path / "o")
    with pytest.raises(InputError, match="named twice"):
        audit_dataset(box, [tiny_run, tiny_run], config(), tmp_path / "o")
    with pytest.raises(InputError, match="name a DATASET"):
        audit_dataset(None, [], config(), tmp_path / "o")
    assert not (tmp_path / "o").exists()
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="contains no audit but other files"):
        audit_dataset(box, [], config(), tmp_path)


def test_a_run_without_a_record_is_told_how_to_get_one(
    tiny_run: Path, tiny_data: Path, tmp_path: Path, undrawn_figures: None
) -> None:
    done = audit_dataset(tiny_data / "data" / "rnd", [tiny_run], config(), tmp_path / "o")
    assert any("train --dynamics" in text for text in done.record.missing)
    assert any("hepllm embed" in text for text in done.record.missing)
    assert done.record.methods["run run"].covered > 0  # by the scores of validation events


def test_labels_are_judged_by_the_features_that_are_named(
    recipes: Path, tmp_path: Path, undrawn_figures: None
) -> None:
    margins = []
    for chosen in ("cathode", "extended"):
        audit_dataset(recipes / "rnd", [], config(f"audit.features={chosen}"), tmp_path / chosen)
        table = pq.read_table(tmp_path / chosen / "audit.parquet")
        margins.append(table["boosting_margin"].to_numpy())
        assert "jet1_pt" in table.column_names
        assert "tau9_b2_light" not in table.column_names
    assert np.abs(margins[0] - margins[1]).max() > 0.1


def test_a_class_is_not_doubted_for_being_rare(
    recorded: Path, tiny_data: Path, tmp_path: Path
) -> None:
    dataset = read_dataset(tiny_data / "data" / "rnd")
    table = dataset.load(())
    rare = shutil.copytree(recorded, tmp_path / "rare")
    for name, balance in (("even", 1.0), ("rare", 9.0), ("weighted", 9.0)):
        tree = json.loads((recorded / "run.json").read_text())
        tree["n_train"] = {"signal": 100, "background": round(100 * balance)}
        (rare / "run.json").write_text(json.dumps(tree))
        if name == "weighted":
            text = (rare / "config.yaml").read_text()
            assert "class_weights: none" in text
            text = text.replace("class_weights: none", "class_weights: balanced")
            (rare / "config.yaml").write_text(text)
        margin = read_audited_run(rare, "run", dataset, table, 0.5).margin
        if name == "even":
            even = margin
            continue
        sign = np.where(table.label == SIGNAL, 1.0, -1.0)
        shift = 0.0 if name == "weighted" else np.log(9.0)  # at 1 : 9 all scores are as much lower
        known = ~np.isnan(even)
        assert known.any()
        assert np.allclose((margin - even)[known], (shift * sign)[known])


def test_events_without_labels_are_judged_by_rules_alone(
    tiny_data: Path, tmp_path: Path, tiny_config: Callable[..., Config], undrawn_figures: None
) -> None:
    from hepllm.stages.preprocess import preprocess

    preprocess([tiny_data / "box.h5"], tmp_path / "box", tiny_config("preprocess.executor=serial"))
    done = audit_dataset(tmp_path / "box", [], config(), tmp_path / "o")
    assert "boosting" in done.record.skipped
    assert "boosting" not in done.record.methods


def test_an_ensemble_gives_the_scores_of_validation_events(
    recipes: Path, tmp_path: Path, undrawn_figures: None
) -> None:
    runs = [shutil.copytree(recipes / name, tmp_path / name) for name in ("seed1", "seed2")]
    quick = ("evaluation.calibration=platt", "evaluation.scoring.executor=serial")
    make_ensemble(runs, load_config(runs[0] / "config.yaml", quick), tmp_path / "both")
    done = audit_dataset(recipes / "rnd", [tmp_path / "both"], config(), tmp_path / "o")
    found = read_notes(tmp_path / "o" / "audit.parquet", "")
    validation = read_notes(tmp_path / "both" / "validation.parquet", "")
    rows = find_events(validation.event_digest, found.event_digest)
    np.testing.assert_array_equal(found.column("score_both")[rows], validation.column("score"))
    label, score = found.column("label")[rows], validation.column("score")
    signed = np.where(label == 1, score, -score)
    expected = (found.column("boosting_margin")[rows] + signed) / 2
    np.testing.assert_allclose(found.column("margin")[rows], expected)
    assert not any("--dynamics" in text or "embed" in text for text in done.record.missing)
