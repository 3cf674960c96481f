import json
import sys

import pytest

from benchmarks import video_latency
from benchmarks.video_latency import ENCODER, STATIC, TYPICAL, TYPICAL_ROW, cases, measure, summarise
from nasperc.assembly.recipe import ModelRecipe
from nasperc.models.backbones.build import BackboneRecipe
from search_spaces.dynamic_cell import DynamicCell, DynamicCellRecipe

SMALL = ModelRecipe(backbone=BackboneRecipe(width_mult=0.1))


def test_the_typical_cell_is_one_of_the_space():
    DynamicCell(DynamicCellRecipe(variant="5_layers")).architecture({"cell": TYPICAL})


def test_every_row_in_every_round():
    times = measure(cases((64, 64), SMALL, cells=1, width=8), rounds=3)
    assert list(times) == [STATIC, ENCODER, TYPICAL_ROW, "random cell 1"]
    assert all(len(values) == 3 and min(values) > 0 for values in times.values())


def test_ratios_are_taken_within_a_round():
    summary = summarise({STATIC: [1.0, 10.0, 1.0, 1.0, 1.0], TYPICAL_ROW: [0.5, 5.0, 0.5, 0.6, 0.4]})
    assert summary[STATIC]["ratio"] == 1
    typical = summary[TYPICAL_ROW]
    assert (typical["ratio"], typical["ratio_low"], typical["ratio_high"]) == (0.5, 0.5, 0.5)
    assert (typical["best_ms"], typical["best_ratio"]) == (0.4, pytest.approx(0.4))


def test_json(monkeypatch, capsys):
    settings = ["--size", "64x64", "--cells", "0", "--rounds", "1", "--width", "8", "--json"]
    monkeypatch.setattr(sys, "argv", ["video_latency.py", *settings])
    video_latency.main()
    values = json.loads(capsys.readouterr().out)
    assert set(values["sizes"]["64x64"]) == {STATIC, ENCODER, TYPICAL_ROW}
