"""The picture of SIC against sculpting."""

from __future__ import annotations

from pathlib import Path

from hepllm.pictures.decorrelation import TradeOff, plot_trade_offs


def test_it_draws_trainings_of_several_strengths(tmp_path: Path) -> None:
    points = [
        TradeOff(strength, (2.0 - power, 0.2), (4.0 - power / 2, 0.3))
        for strength, power in (("", 0.0), ("0.5", 0.6), ("1", 1.1))
    ]
    curves = {"boosting: planing": points, "_mlp $: DisCo": points[:2]}
    file = tmp_path / "curve.png"
    plot_trade_offs(curves, file, xlabel="power", ylabel="SIC")
    assert file.read_bytes().startswith(b"\x89PNG")
    more = tmp_path / "more.png"
    plot_trade_offs({**curves, "third": points}, more, xlabel="power", ylabel="SIC")
    assert more.read_bytes() != file.read_bytes()
