"""The report page: complete, true to metrics.json, safe, and readable in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from hepllm import cli
from hepllm.errors import InputError, RunError
from hepllm.pictures.style import save_figure
from hepllm.report.records import SetMetrics
from hepllm.stages.report import report

QUICK = ["--set", "evaluation.baselines=[boosting, cut]", "--set", "evaluation.min_background=3"]
NASTY = "<script>alert(1)</script>"
PHONE, PAPER = 390, 718
"""Widths in CSS pixels: of a phone, and of A4 between its margins."""


@dataclass
class Parsed(HTMLParser):
    """What a page consists of.

    Attributes:
        elements: tags with their attributes, in order.
        rows: of every table, by its caption and the row's name: texts and exact values of cells.
        text: all that is shown.
    """

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    rows: dict[tuple[str, str], list[tuple[str, float | None]]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open = ""
        self._caption = self._name = ""
        self._value: float | None = None
        self._cell = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag in ("caption", "th", "td"):
            self._open, self._cell, self._value = tag, "", None
        if tag == "data":
            self._value = float(found["value"] or "nan")
        if tag == "span" and self._open == "td":
            self._open = ""  # the number itself stands before its interval

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open:
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        text = self._cell.strip()
        if tag == "caption":
            self._caption = text
        elif tag == "th":
            self._name = text
            self.rows[self._caption, text] = []
        elif tag == "td":
            self.rows[self._caption, self._name].append((text, self._value))
        if tag in ("caption", "th", "td"):
            self._open = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of a kind."""
        return [attrs for name, attrs in self.elements if name == tag]

    def named(self, caption: str) -> dict[str, list[tuple[str, float | None]]]:
        """Rows of the table whose caption begins so."""
        return {
            name: cells for (head, name), cells in self.rows.items() if head.startswith(caption)
        }


def parse(file: Path) -> Parsed:
    page = Parsed()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def metrics(folder: Path, name: str, sample: str = "rnd-test") -> dict[str, Any]:
    file = folder / name / "eval" / sample / "metrics.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, list(map(str, arguments)))


@pytest.fixture(scope="module")
def made(recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two seeds of a recipe, both evaluated, and what the evaluation said."""
    folder = tmp_path_factory.mktemp("report")
    for name in ("rnd", "seed1", "seed2"):
        shutil.copytree(recipes / name, folder / name)
    told = invoke("eval", folder / "seed1", folder / "seed2", *QUICK, "-q")
    assert told.exit_code == 0, told.output
    return folder, told.stdout


@pytest.fixture(scope="module")
def folder(made: tuple[Path, str]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def single(folder: Path) -> Path:
    return report([folder / "seed1"], folder / "single.html", "hepllm report seed1")


@pytest.fixture(scope="module")
def several(folder: Path) -> Path:
    return report([folder / "seed1", folder / "seed2"], folder / "several.html")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A run that a test may spoil."""
    shutil.copytree(folder / "seed1", tmp_path / "run")
    return tmp_path / "run"


def test_page_needs_nothing_else(single: Path) -> None:
    page, text = parse(single), single.read_text(encoding="utf-8")
    sources = [attrs["src"] or "" for attrs in page.all("img")]
    assert len(sources) > 10
    assert all(source.startswith("data:image/") for source in sources)
    assert {attrs["href"] for attrs in page.all("link")} == {"data:,"}
    assert all((attrs["href"] or "").startswith("#") for attrs in page.all("a"))
    assert not page.all("script")
    assert not page.all("iframe")
    assert "@import" not in text
    assert "url(" not in text
    policies = [attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert single.stat().st_size < 3_000_000


def test_pictures_are_whole_and_described(single: Path) -> None:
    for picture in parse(single).all("img"):
        assert len(picture["alt"] or "") > 20
        kind, content = (picture["src"] or "").split(";base64,")
        start = {"data:image/png": b"\x89PNG", "data:image/svg+xml": b"<?xml"}[kind]
        assert base64.b64decode(content, validate=True).startswith(start)


def test_headings_nest_and_contents_lead_somewhere(several: Path) -> None:
    page = parse(several)
    levels = [int(tag[1]) for tag, _ in page.elements if tag in {"h1", "h2", "h3", "h4", "h5"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    anchors = [attrs["id"] for _, attrs in page.elements if attrs.get("id")]
    assert len(set(anchors)) == len(anchors)
    links = [(attrs["href"] or "").removeprefix("#") for attrs in page.all("a")]
    assert len(links) > 10
    assert set(links) <= set(anchors)


def test_numbers_are_those_of_metrics_json(folder: Path, single: Path) -> None:
    tree, rows = metrics(folder, "seed1"), parse(single).named("Classifiers on rnd-test")
    keys = ("auc", "sic_at_0.1", "sic_at_0.3", "sic_at_0.5", "max_sic")
    keys = (*keys, "inverse_eps_b_at_0.3", "accuracy", "max_sic_omnilearn", "max_sic_cathode")
    classifiers = {"llm": tree, **tree["baselines"], **tree["ablation"]}
    assert {"llm", "boosting", "cut", "nfa_zeroed"} <= set(classifiers)
    n_compared = 0
    for name, found in classifiers.items():
        assert len(rows[name]) == len(keys)
        for key, (text, value) in zip(keys, rows[name], strict=True):
            is_bound = text.startswith("> ")
            assert value == found[f"{key}_lower_bound" if is_bound else key]
            if value is None:
                assert text == "–"  # noqa: RUF001
                continue
            assert (found[key] is None) == is_bound
            digits = len(text.partition(".")[2])
            assert float(text.removeprefix("> ")) == pytest.approx(value, abs=1.01 * 10**-digits)
            n_compared += 1
    assert n_compared > 30


def test_differences_views_and_cuts_are_told(folder: Path, single: Path) -> None:
    tree, page = metrics(folder, "seed1"), parse(single)
    paired = page.named("Paired differences")
    assert paired["llm - boosting"][0][1] == tree["paired"]["boosting"]["auc"]["estimate"]
    views = page.named("llm in several signal:background ratios")
    assert views["1:1"][1][1] == tree["views"]["1:1"]["n_background"]
    assert views["1:10"][3][1] == tree["views"]["1:10"]["auc"]
    cuts = page.named("Cuts of llm")
    point = tree["working_points"][0]
    assert cuts[point["chosen_by"]][0][1] == point["threshold"]
    overview = page.named("The language model at a glance")["seed1"]
    assert [value for _, value in overview[:4]] == [
        tree["n_signal"] + tree["n_background"],
        tree["n_signal"],
        tree["n_background"],
        tree["auc"],
    ]


def test_settings_data_and_command_are_told(folder: Path, single: Path) -> None:
    page = parse(single)
    assert (folder / "seed1" / "config.yaml").read_text(encoding="utf-8").strip() in page.text
    assert "hepllm report seed1" in page.text
    manifest = json.loads((folder / "rnd" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["sources"][0]["sha256"] in page.text
    cuts = {name: cells[0][1] for name, cells in page.named("Cut flow").items() if cells}
    assert cuts == {cut["name"]: cut["events"] for cut in manifest["cut_flow"]}


def test_what_is_not_there_is_told_with_its_command(copied: Path, tmp_path: Path) -> None:
    shutil.rmtree(copied / "eval")
    (copied / "history.jsonl").unlink()
    record = json.loads((copied / "run.json").read_text(encoding="utf-8"))
    record["dataset"] = str(tmp_path / "gone")
    (copied / "run.json").write_text(json.dumps(record), encoding="utf-8")
    page = parse(report([copied]))
    assert f"has not been evaluated; evaluate it with: hepllm eval {copied}" in page.text
    assert "no training curves" in page.text
    assert "The dataset cannot be shown" in page.text
    assert not page.all("img")


def test_only_a_test_split_asks_for_black_boxes(single: Path, folder: Path) -> None:
    assert f"hepllm eval {folder / 'seed1'} --blackbox" in parse(single).text


def searched() -> dict[str, Any]:
    """What a search writes, with numbers that are seen nowhere else."""

    def measured(value: float) -> dict[str, Any]:
        return {"value": value, "below": 11.0, "above": 12.0, "method": NASTY}

    toys = {"significance_global": 2.25, "n_toys": 1000, "n_toys_exceeding": 17}
    bump = {"m_jj_gev": [3422.1, 3597.4], "n_observed": 28, "n_expected": 3.09, "local_p": 8.9e-18}
    fit = {"n_parameters": 2, "goodness_p": 0.41, "goodness_p_without_resonance": None}
    shape = {"ks": 0.2, "ks_p": 0.0456, "js": 0.1, "js_95": 0.2}
    return {
        "blackbox": {"name": "box", "digest": "d", "sources": [], "n_excluded_as_seen": 0},
        "n_events": 500,
        "m_jj_range_gev": [2611.0, 7999.0],
        "n_in_range": 412,
        "p_value": 0.0123,
        **toys,
        "n_toys_failed": 0,
        "resonance_mass_gev": measured(3509.4),
        "resonance_relative_width": measured(0.03),
        "resonance_width_at_limit": False,
        "resonance_fit_valid": True,
        "jet_masses_gev": {"light": measured(104.5), "heavy": None},
        "n_signal_selected": measured(35.1),
        "n_signal_box": None,
        "signal_over_background": None,
        "signal_efficiency": None,
        "upper_limits": None,
        "best_selection": 0.01,
        "selections": [
            {
                "efficiency": 0.01,
                "score_threshold": 1.5,
                "n_selected": 39,
                "bump": bump,
                "p_value": 0.0321,
                **toys,
                "fit": fit,
                "shape_after_against_before": shape,
                "shape_without_resonance": None,
            }
        ],
        "spectrum_before_cut": {"n_parameters": 3, "goodness_p": 0.9},
        "warnings": ["the turn-on is seen"],
        "run": "run",
        "trained_on": "d",
        "features": [],
        "cascade": None,
        "seed": 1,
        "config": {},
        "versions": {},
    }


def box(run: Path, search: dict[str, Any]) -> Path:
    """A black box without labels among the evaluated sets of a run."""
    folder = run / "eval" / "box"
    folder.mkdir()
    tested = json.loads((run / "eval" / "rnd-test" / "metrics.json").read_text(encoding="utf-8"))
    kept = ("schema_version", *SetMetrics.model_fields)
    tree = {key: tested[key] for key in kept if key in tested}
    tree |= {"n_events": 500, "n_signal": None, "n_background": None, "search": search}
    tree["made"] |= {
        "date": "2026-03-01T00:30:00+00:00",
        "command": "hepllm eval --blackbox box.h5",
    }
    (folder / "metrics.json").write_text(json.dumps(tree), encoding="utf-8")
    return folder


def test_a_search_is_shown(copied: Path) -> None:
    folder = box(copied, searched())
    for name in ("search.png", "search_jets.png", "new_kind.png"):
        save_figure(Figure(figsize=(1, 1)), folder / name)
    written = report([copied])
    page = parse(written)
    told = ("500 events without labels", "p = 0.0123", "17 of 1000", "3509 -11 +12", "turn-on")
    assert "2026-03-01 00:30 UTC" in page.text
    assert "hepllm eval --blackbox box.h5" in page.text
    for shown in (*told, "new kind", "too few events"):
        assert shown in page.text
    values = [value for _, value in page.named("Selections, fixed")["0.01"]]
    assert values == [39, None, 28, 3.09, 8.9e-18, 0.0321, 0.41, 0.0456, None]
    alts = [attrs["alt"] or "" for attrs in page.all("img")]
    assert any(alt.startswith("Spectrum of the mass") for alt in alts)
    assert NASTY in page.text  # as text, since the parser has undone the escaping
    assert NASTY not in written.read_text(encoding="utf-8")
    searches = page.named("Searched boxes")
    assert [value for _, value in searches["run"][:4]] == [500, 0.0123, 2.25, 3509.4]
    conclusion = "box: no excess, p = 0.0123 (2.2 sigma)."
    assert page.text.index(conclusion) < page.text.index("Classifiers on rnd-test")


def test_limits_of_a_search_are_shown(copied: Path) -> None:
    limit = {
        "mass_gev": 3500.0,
        "is_largest_fluctuation": False,
        "efficiency": 0.03,
        "n_signal_selected": 17.5,
        "expected": 14.25,
        "expected_16": 10.5,
        "expected_84": 20.5,
        "n_signal_box": None,
    }
    tree = {"confidence": 0.95, "method": "CLs", "relative_width": 0.036, "by_mass": [limit]}
    box(copied, searched() | {"upper_limits": tree, "n_toys_exceeding": 0})
    page = parse(report([copied]))
    values = [value for _, value in page.named("Upper limits on signal events, 95% CL")["3500"]]
    assert values == [0.03, 17.5, 14.25, None, None]
    assert "[10.5, 20.5]" in page.text
    assert "p <= 0.0123 (at least 2.2 sigma)" in page.text
    assert "largest fluctuation, no excess: mass" in page.text


def test_a_cascade_is_shown(copied: Path) -> None:
    def share(value: float, n_passing: int) -> dict[str, Any]:
        interval = [value - 0.01, value + 0.01]
        return {"value": value, "interval": interval, "n_passing": n_passing, "n_events": 771}

    file = copied / "eval" / "rnd-test" / "metrics.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    lost = {"estimate": -0.25, "interval": [-0.375, -0.125], "reason": None}
    unknown = {"estimate": None, "interval": None, "reason": "too little background"}
    tree["cascade"] = {
        "keep": 0.125,
        "threshold": 0.5,
        "floor": -3.0,
        "n_kept": 61,
        "n_events": 4711,
        "kept_fraction": 61 / 4711,
        "events_per_second": 1500.0,
        "events_per_second_without": 100.0,
        "speed_up": 15.0,
        "beyond": ["sic_at_0.5"],
        "eps_s": None,
        "eps_b": share(0.11, 13),
        "validation": {
            "eps_s": share(0.93, 37),
            "eps_b": share(0.12, 17),
            "n_compared": 333,
            "difference": {"auc": lost, "sic_at_0.5": unknown},
        },
    }
    file.write_text(json.dumps(tree), encoding="utf-8")
    page = parse(report([copied]))
    for shown in (
        "61 of 4711 events",
        "15.0 times",
        "sic_at_0.5: these cuts",
        "37 of 771",
        "[-0.375, -0.125]",
    ):
        assert shown in page.text
    passing = page.named("Share that passes")
    assert [value for _, value in passing["signal"]] == [0.93, None]
    assert [value for _, value in passing["background"]] == [0.12, 0.11]
    lost_row = page.named("With the cascade minus without, on 333")["difference"]
    assert [value for _, value in lost_row] == [-0.25, None]


def test_why_there_is_no_search_is_told(copied: Path) -> None:
    box(copied, {"problem": "too few events"})
    assert "No search: too few events." in parse(report([copied])).text


def test_names_and_settings_are_escaped(copied: Path, folder: Path) -> None:
    file = copied / "config.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    tree["preprocess"]["label"] = NASTY
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    nasty = copied.with_name("<img src=x onerror=alert(1)> & $x$ _y_")
    copied.rename(nasty)
    page = report([nasty, folder / "seed2"], nasty / "page.html")
    text = page.read_text(encoding="utf-8")
    assert NASTY not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not parse(page).all("script")
    assert NASTY in parse(page).text


def test_evaluating_several_runs_leaves_medians_and_pictures(made: tuple[Path, str]) -> None:
    folder, told = made
    where = folder / "seed1" / "eval" / "rnd-test"
    for name in ("spread.json", "spread-seeds.png", "spread-sic.png", "spread-roc.png"):
        assert f"  {where / name}\n" in told
        assert (where / name).stat().st_size > 100
    found = json.loads((where / "spread.json").read_text(encoding="utf-8"))
    assert found["runs"] == [str(folder / "seed1"), str(folder / "seed2")]
    values = [metrics(folder, name)["baselines"]["cut"]["auc"] for name in ("seed1", "seed2")]
    low, median, high = np.percentile(values, (16, 50, 84))
    cut = found["spread"]["cut"]["auc"]
    assert cut.pop("values") == values
    assert cut == pytest.approx({"median": median, "low": low, "high": high, "n_runs": 2})


def test_seeds_of_a_recipe_are_put_together(folder: Path, several: Path) -> None:
    page = parse(several)
    assert "differ only in their seed" in page.text
    spread = page.named("Median of 2 runs")
    values = [metrics(folder, name)["auc"] for name in ("seed1", "seed2")]
    assert spread["llm"][0][1] == pytest.approx(np.mean(values))
    assert page.named("Settings in which")["seed"] == [("1", None), ("2", None)]
    differences = page.named("Differences of means over 2 runs")
    cut = [metrics(folder, name)["baselines"]["cut"]["auc"] for name in ("seed1", "seed2")]
    assert differences["llm - cut"][0][1] == pytest.approx(np.mean(values) - np.mean(cut))
    alts = [attrs["alt"] or "" for attrs in page.all("img")]
    assert sum("intervals of means and differences" in alt for alt in alts) == 1
    assert sum("over 2 runs" in alt for alt in alts) == 2
    assert sum("of every run" in alt for alt in alts) == 2
    assert page.text.count("The same data as seed1.") == 1
    glance = page.named("The language model at a glance")
    assert [glance[name][3][1] for name in ("seed1", "seed2")] == values


def test_a_comparison_of_former_results_is_not_shown(folder: Path, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("seed1", "seed2")]
    for run in runs:
        shutil.copytree(folder / run.name, run)
    file = runs[1] / "eval" / "rnd-test" / "metrics.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**found, "auc": 0.123}), encoding="utf-8")
    page = parse(report(runs, tmp_path / "both.html"))
    assert not page.named("Differences of means")
    assert f"hepllm eval {runs[0]} {runs[1]}" in page.text


def test_other_recipes_stand_side_by_side(folder: Path, copied: Path) -> None:
    file = copied / "config.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("nfa_lr: 0.01", "nfa_lr: 0.02"), encoding="utf-8")
    (copied / "eval" / "rnd-test" / "curves.json").unlink()
    page = parse(report([folder / "seed1", copied], copied / "both.html"))
    assert "differ in more than their seed" in page.text
    assert page.named("Settings in which")["train.nfa_lr"] == [("0.01", None), ("0.02", None)]
    assert not page.named("Median of")
    assert f"{copied} has no curves; make them with: hepllm eval {copied}" in page.text
    alts = [attrs["alt"] or "" for attrs in page.all("img")]
    assert not any("over 2 runs" in alt for alt in alts)


@pytest.mark.parametrize("ending", ["md", "txt"])
def test_a_report_is_markdown_or_text_by_its_ending(
    ending: str, folder: Path, tmp_path: Path
) -> None:
    file = report([folder / "seed1", folder / "seed2"], tmp_path / f"both.{ending}")
    text = file.read_text(encoding="utf-8")
    tree = metrics(folder, "seed1")
    low, high = tree["auc_interval"]
    assert f"{tree['auc']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert not re.search(r"(?<!\\)<[^ =]", text)  # no markup; "ratio < 2.2" is none
    first = {"md": "# hepllm report: seed1, seed2", "txt": "hepllm report: seed1, seed2\n======"}
    assert text.startswith(first[ending])
    if ending == "txt":
        assert max(map(len, text.splitlines())) <= 120
        assert "Differences, views and cuts" in text


def test_command_says_where_the_page_is(copied: Path) -> None:
    told = invoke("report", copied)
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith(f"{copied / 'report.html'}: ")
    assert f"hepllm report {copied}" in parse(copied / "report.html").text


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("eval/rnd-test/metrics.json", '{"half', "evaluate again with: hepllm eval"),
        ("eval/rnd-test/metrics.json", '{"auc": 1}', "is none, expected 1; evaluate again with"),
        ("eval/rnd-test/metrics.json", '{"schema_version": 1, "auc": 1}', "unexpected content"),
        ("eval/rnd-test/curves.json", "{}", "another version of hepllm.* evaluate again with"),
        ("history.jsonl", "nonsense\n", "restore it, or remove it"),
    ],
)
def test_damaged_files_are_told(file: str, content: str, message: str, copied: Path) -> None:
    (copied / file).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        report([copied])
    assert "\n" not in str(caught.value)
    assert not (copied / "report.html").exists()


def test_bad_runs_and_outputs_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run"):
        report([tmp_path / "none"])
    with pytest.raises(InputError, match="named twice"):
        report([folder / "seed1", folder / "seed1"])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="choose another --output"):
        report([folder / "seed1"], tmp_path / "file" / "page.html")


def show(browser: Any, page: Path, width: int, height: int = 900) -> None:
    """Opens a page without a network."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    browser.get_log("browser")
    browser.get(page.resolve().as_uri())


@pytest.mark.parametrize("width", [PHONE, 1200])
@pytest.mark.parametrize("which", ["single", "several"])
def test_a_browser_shows_the_page(
    browser: Any, width: int, which: str, request: pytest.FixtureRequest
) -> None:
    show(browser, request.getfixturevalue(which), width)
    assert browser.get_log("browser") == []
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    loaded = "return performance.getEntriesByType('resource').map(r => r.name.slice(0, 5))"
    assert set(browser.execute_script(loaded)) <= {"data:"}
    invisible = (
        "return [...document.querySelectorAll('main table, main img')]"
        ".filter(e => e.getBoundingClientRect().height < 10).length"
    )
    assert browser.execute_script(invisible) == 0
    over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(over) == 0
    wider = (
        "return [...document.querySelectorAll('main .frame, main p, h1, h2, h3, nav, dl, pre')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
    )
    assert browser.execute_script(wider) == []
    least = (
        "return Math.min(...[...document.querySelectorAll('.pictures img')]"
        ".map(i => i.getBoundingClientRect().width))"
    )
    assert browser.execute_script(least) > 400  # on a phone, wider than the screen in its frame


def test_a_browser_prints_the_page(browser: Any, several: Path) -> None:
    show(browser, several, PAPER)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    cut = (
        "return [...document.querySelectorAll('main table')]"
        ".filter(t => t.getBoundingClientRect().right > innerWidth + 1)"
        ".map(t => t.caption.innerText)"
    )
    try:
        assert browser.execute_script(cut) == []
        listing = (
            "return document.querySelector('details:not(.long) pre').getBoundingClientRect().height"
        )
        assert browser.execute_script(listing) > 100
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    content = base64.b64decode(printed["data"])
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page/") > 3


def test_a_browser_shows_it_dark(browser: Any, single: Path) -> None:
    show(browser, single, 1200)
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(colour)
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    try:
        assert browser.execute_script(colour) != light
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
