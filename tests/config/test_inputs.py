"""Column and branch maps of the configuration, those of the documentation among them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hepllm.config import config_from_tree, dump_config, load_config
from hepllm.errors import ConfigError


def test_a_plain_column_and_one_with_a_scale(tmp_path: Path) -> None:
    override = "preprocess.columns={m_jj: mjj, jet1_pt: 3, jet2_pt: {column: -1, scale: 0.5}}"
    config = load_config(None, [override])
    columns = config.preprocess.columns
    assert columns is not None
    found = {name: (one.column, one.scale) for name, one in columns.items()}
    assert found == {"m_jj": ("mjj", 1), "jet1_pt": (3, 1), "jet2_pt": (-1, 0.5)}
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("columns={m_j: 0}", r"preprocess.columns: unknown feature 'm_j' \(did you mean 'm_jj'"),
        ("columns={}", "preprocess.columns: expected at least one feature"),
        ("columns={m_jj: {colum: 1}}", "preprocess.columns.m_jj.colum: unknown key"),
        ("columns={m_jj: {column: [1]}}", "preprocess.columns.m_jj.column: Input should be"),
        ("label=true", "preprocess.label: Input should be a valid"),
        ("energy_unit=keV", "preprocess.energy_unit: Input should be 'MeV', 'GeV' or 'TeV'"),
        ("format=pandas", "preprocess.format: Input should be 'auto'"),
        (
            "root={layout: delphes-jets, jets: {pt: a, eta: b, phi: c, mass: d}}",
            "preprocess.root: give one of layout and jets",
        ),
        ("select='tau5_b05_light < 0.1'", "preprocess: select reads tau5_b05_light, which only"),
        ("jets.soft_drop={z_cut: 0.7}", "preprocess.jets.soft_drop.z_cut: .*less than 0.5"),
    ],
)
def test_wrong_maps_in_the_configuration(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f"preprocess.{override}"])


def test_the_snippets_of_the_documentation_are_valid() -> None:
    folder = Path(__file__).parents[2] / "docs" / "how-to"
    pages = [folder / "read-your-files.md", folder / "read-root-and-hepmc.md"]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    snippets = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        for part in snippet.split("    # or\n"):  # alternatives
            tree = yaml.safe_load(
                part if part.startswith("preprocess") else f"preprocess:\n  root:\n{part}"
            )
            config_from_tree(tree, "docs/how-to")
