"""The torch.export program against eager; one export serves all tests, since tracing takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nasperc.data.image_rules import AS_STORED
from nasperc.data.normalisation import Normalisation
from nasperc.errors import InputError
from nasperc.export import pt2_file
from nasperc.export.pt2_file import Pt2Format
from nasperc.models.fcos.model import FCOS
from nasperc.tasks.caller import common_values
from nasperc.tasks.detection.graphs import TOLERANCE, DetectorAgreement, DetectorGraphs, ExportedDetector

NAMES = ["cup, mug", "plate", "bowl"]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, detector_of_every_layer: tuple[FCOS, Normalisation]
) -> tuple[ExportedDetector, Path, DetectorAgreement]:
    path = tmp_path_factory.mktemp("pt2") / "detector.pt2"
    graphs = DetectorGraphs(*detector_of_every_layer, common_values(NAMES, AS_STORED))
    agreement = Pt2Format().export(graphs, path)
    assert isinstance(agreement, DetectorAgreement)
    return ExportedDetector(*detector_of_every_layer).eval(), path, agreement


def check_pt2(module: ExportedDetector, path: Path, sizes: list[tuple[int, int]]) -> DetectorAgreement:
    exported = DetectorGraphs(module.detector, module.normalisation)
    graphs = exported.graphs(Pt2Format.smallest)
    return exported.compare(graphs, [Pt2Format().open(graphs[0], path)], [path], sizes)


def test_it_agrees_with_eager_on_three_sizes_it_was_not_traced_with(
    exported: tuple[ExportedDetector, Path, DetectorAgreement],
) -> None:
    module, path, agreement = exported
    assert agreement.agrees
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    again = check_pt2(module, path, [(192, 160), (224, 320), (320, 480)])
    assert again.score_error <= TOLERANCE
    assert again.box_error <= TOLERANCE


def test_it_runs_in_torch_alone_and_carries_the_classes(
    exported: tuple[ExportedDetector, Path, DetectorAgreement],
) -> None:
    code = """
import sys, torch
files = {"classes": "", "input": ""}
program = torch.export.load(sys.argv[1], extra_files=files)
boxes, scores, centerness = program.module()(torch.rand(1, 3, 160, 192) * 255)
assert not any(name.startswith("nasperc") for name in sys.modules)
print(list(boxes.shape), list(scores.shape), sep="\\n")
print(files["classes"], files["input"], sep="\\n")
"""
    command = [sys.executable, "-c", code, str(exported[1])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=exported[1].parent)
    assert done.returncode == 0, done.stderr
    locations = sum(-(-160 // stride) * -(-192 // stride) for stride in (8, 16, 32, 64, 128))
    boxes, scores, classes, given = map(json.loads, done.stdout.splitlines())
    assert (boxes, scores, classes) == ([1, locations, 4], [1, locations, 3], NAMES)
    assert given["image"]["normalise"] is False
    assert given["image"]["sides"]["smallest"] == 160


def test_a_file_that_differs_is_not_written(
    exported: tuple[ExportedDetector, Path, DetectorAgreement],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, path, _ = exported
    real = torch.export.load(path)
    bias = module.detector.head.class_logits.bias
    with torch.no_grad():
        bias += 0.1
        assert not check_pt2(module, path, [(160, 160)]).agrees
        # The program of the network as it was before stands in for one that the exporter got wrong.
        monkeypatch.setattr(pt2_file.torch.export, "export", lambda *_, **__: real)
        with pytest.raises(InputError, match="must agree with torch"):
            Pt2Format().export(
                DetectorGraphs(module.detector, module.normalisation), tmp_path / "detector.pt2"
            )
        bias -= 0.1
    assert not list(tmp_path.iterdir())
