from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nasperc.cli.main import app
from nasperc.errors import InputError

REFERENCE = Path(__file__).parents[3] / "experiments" / "nas_fcos_reference.json"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["cost", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_architecture_on_a_backbone_at_a_size() -> None:
    values = json.loads(
        run("--arch", REFERENCE, "--width", "32-64", "--backbone", "resnet18", "--size", "64x96", "--json")
    )
    assert values["name"] == "fcos_decoder@32-64 resnet18"
    assert values["size"] == [64, 96]
    assert values["params_total_m"] == values["params_m"] > 11
    assert "latency_ms" not in values
    other = json.loads(
        run("--arch", REFERENCE, "--width", "64", "--size", "64x96", "--classes", 3, "--json", "--latency")
    )
    assert other["latency_ms"] > 0
    assert other["classes"] == 3
    # Of the same architecture, the width of the FPN and the backbone differ.
    assert other["flops_g"] != values["flops_g"]


def test_the_model_as_a_table() -> None:
    out = run("--size", "64x64", "--set", "model.backbone.width_mult=0.25", "--width", "64")
    assert "FPN-FCOS@64 mobilenet_v2, 64 x 64, 80 classes" in out
    assert "activations" in out


def test_the_table_of_the_thesis() -> None:
    out = run("--table", "7.2")
    lines = [line for line in out.splitlines() if "FCOS@" in line or "RetinaNet@" in line]
    assert len(lines) == 17
    assert lines[8].split()[:5] == ["NAS-FCOS@128-256", "R-50", "160.38", "160.4", "-0.01"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "7.1"], "one of 7.2"),
        (["--table", "7.2", "--width", "128"], "fixes its models"),
        (["--size", "800"], "HxW"),
        (["--size", "800x1000"], "multiples of 32"),
        (["--width", "100"], "multiple of 32"),
        (["--backbone", "vgg"], "model.backbone.name"),
        (["--arch", "nowhere.json"], "readable"),
        (["--recipe", "table_7_2:FPN-FCOS@256 R-18"], "a row must be one of"),
        (["--backbone", "resnet50", "--set", "model.backbone.width_mult=2"], "width_mult is a key of"),
    ],
)
def test_bad_input(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(*arguments)
