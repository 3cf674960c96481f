import json
import sys

from benchmarks import deform_conv_cuda
from benchmarks.deform_conv_cuda import KINDS, NAMES, OTHER_SIDE, WIDTHS
from nasperc.ops import deform_conv

SMALL = ["--size", "64", "--width-mult", "0.1", "--channels", "32"]


def test_the_two_formulations_agree_on_any_machine(monkeypatch, capsys):
    applies = deform_conv._fast_path_applies
    monkeypatch.setattr(sys, "argv", ["deform_conv_cuda.py", *SMALL, "--json"])
    deform_conv_cuda.main()
    values = json.loads(capsys.readouterr().out)
    assert values["held"]
    assert len(values["operations"]) == len(KINDS) * len(WIDTHS)
    assert all(set(row) == {*NAMES, OTHER_SIDE} for row in values["operations"].values())
    # Two formulations were compared, not one with itself.
    assert max(row["weight"] for row in values["operations"].values()) > 0
    assert deform_conv._fast_path_applies is applies


def test_in_words(monkeypatch, capsys):
    monkeypatch.setattr(deform_conv_cuda, "WIDTHS", (5,))
    monkeypatch.setattr(sys, "argv", ["deform_conv_cuda.py", *SMALL])
    deform_conv_cuda.main()
    said = capsys.readouterr().out
    assert "one ulp beside, 5" in said
    assert "gradients of offsets and masks" in said
    assert said.rstrip().endswith("held")
