"""The torch.export program against eager; one export serves all tests, since tracing takes long."""

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
from nasperc.tasks.detection.dense_graphs import TOLERANCE, DenseAgreement, DenseGraphs
from nasperc.tasks.detection.final_agreement import FinalAgreement
from nasperc.tasks.detection.graphs import DetectorGraphs

NAMES = ["cup, mug", "plate", "bowl"]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, detector_of_every_layer: tuple[FCOS, Normalisation]
) -> tuple[DetectorGraphs, Path, FinalAgreement]:
    path = tmp_path_factory.mktemp("pt2") / "detector.pt2"
    graphs = DetectorGraphs(*detector_of_every_layer, common_values(NAMES, AS_STORED))
    agreement = Pt2Format().export(graphs, path)
    assert isinstance(agreement, FinalAgreement)
    return graphs, path, agreement


def test_it_agrees_with_eager_on_sizes_it_was_not_traced_with(
    exported: tuple[DetectorGraphs, Path, FinalAgreement],
) -> None:
    graphs, path, agreement = exported
    assert agreement.agrees
    assert agreement.compared.detections > 100
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    (graph,) = graphs.graphs(Pt2Format.smallest)
    again = graphs.compare([graph], [Pt2Format().open(graph, path)], [path], [(129, 129), (224, 321)])
    assert again.agrees
    assert again.compared.detections > 50


def test_it_runs_in_torch_alone_and_carries_the_classes(
    exported: tuple[DetectorGraphs, Path, FinalAgreement],
) -> None:
    code = """
import sys, torch
files = {"classes": "", "input": ""}
program = torch.export.load(sys.argv[1], extra_files=files)
boxes, scores, classes = program.module()(torch.rand(3, 3, 160, 190) * 255)
assert not any(name.startswith("nasperc") for name in sys.modules)
print(list(boxes.shape), list(scores.shape), sep="\\n")
print(files["classes"], files["input"], sep="\\n")
"""
    command = [sys.executable, "-c", code, str(exported[1])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=exported[1].parent)
    assert done.returncode == 0, done.stderr
    boxes, scores, classes, given = map(json.loads, done.stdout.splitlines())
    assert (boxes, scores, classes) == ([3, 100, 4], [3, 100], NAMES)
    assert given["image"]["normalise"] is False
    assert given["image"]["sides"]["smallest"] == 129


@pytest.fixture(scope="module")
def dense(
    tmp_path_factory: pytest.TempPathFactory, detector_of_every_layer: tuple[FCOS, Normalisation]
) -> tuple[DenseGraphs, Path, DenseAgreement]:
    path = tmp_path_factory.mktemp("dense") / "detector.pt2"
    graphs = DenseGraphs(*detector_of_every_layer)
    agreement = Pt2Format().export(graphs, path)
    assert isinstance(agreement, DenseAgreement)
    return graphs, path, agreement


def test_dense_is_what_is_predicted_at_every_location(
    dense: tuple[DenseGraphs, Path, DenseAgreement],
) -> None:
    _, path, agreement = dense
    assert agreement.agrees
    assert agreement.score_error <= TOLERANCE
    boxes, scores, centerness = torch.export.load(path).module()(torch.rand(2, 3, 150, 170) * 255)
    locations = sum(-(-160 // stride) * -(-192 // stride) for stride in (8, 16, 32, 64, 128))
    assert boxes.shape == (2, locations, 4)
    assert scores.shape == (2, locations, 3)
    assert centerness.shape == (2, locations)


def test_a_file_that_differs_is_not_written(
    dense: tuple[DenseGraphs, Path, DenseAgreement], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, path, _ = dense
    real = torch.export.load(path)
    bias: torch.Tensor = graphs.module.detector.head.class_logits.bias  # type: ignore[union-attr, assignment]
    with torch.no_grad():
        bias += 0.1
        # The program of the network as it was before stands in for one that the exporter got wrong.
        monkeypatch.setattr(pt2_file.torch.export, "export", lambda *_, **__: real)
        with pytest.raises(InputError, match="must agree with torch"):
            Pt2Format().export(graphs, tmp_path / "detector.pt2")
        bias -= 0.1
    assert not list(tmp_path.iterdir())
