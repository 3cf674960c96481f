"""The two files of a network for videos against torch; one export serves several tests, since tracing takes long."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from video_checkpoint import network, searched_cell

from nasperc.assembly.recipe import ModelRecipe
from nasperc.data.normalisation import get_normalisation
from nasperc.errors import InputError
from nasperc.export.onnx_file import OnnxFormat
from nasperc.export.pt2_file import Pt2Format
from nasperc.models.backbones.build import BackboneRecipe
from nasperc.models.video_segmenter import VideoSegmenter
from nasperc.ops.resize import resize_to
from nasperc.tasks.raw_images import drawn_images
from nasperc.tasks.video.graphs import LABEL_TOLERANCE, VideoAgreement, VideoGraphs

TF = get_normalisation("tf")
ABOUT = {"classes": ["road, paved", "b", "c"]}
ODD = (72, 104)


@pytest.fixture(scope="module")
def video() -> VideoSegmenter:
    # Of the few static networks the one with the fewest layers.
    recipe = ModelRecipe(backbone=BackboneRecipe(name="resnet18"), segmentation_decoder="deeplab_v3_plus")
    return network(searched_cell(), 3, recipe=recipe)


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, video: VideoSegmenter
) -> tuple[VideoAgreement, tuple[Path, Path]]:
    path = tmp_path_factory.mktemp("onnx") / "cell.onnx"
    agreement = OnnxFormat().export(VideoGraphs(video, TF, ABOUT), path)
    assert isinstance(agreement, VideoAgreement)
    return agreement, (path.with_name("cell-start.onnx"), path.with_name("cell-step.onnx"))


def test_the_loop_in_onnxruntime_is_that_of_torch_at_sizes_it_was_not_traced_with(
    exported: tuple[VideoAgreement, tuple[Path, Path]], video: VideoSegmenter
) -> None:
    agreement, (start, step) = exported
    assert agreement.agrees
    assert agreement.paths == (start, step)
    assert sorted(start.parent.iterdir()) == [start, step]
    sessions = [onnxruntime.InferenceSession(str(path)) for path in (start, step)]
    for size in ((96, 64), (225, 323)):
        frames = [drawn_images(1, size, seed) for seed in range(6)]
        with torch.no_grad():
            expected = video([TF.apply(frame) for frame in frames])
        names = ["labels", "next_layer4", "next_dec"]
        found = sessions[0].run(names, {"image": frames[0].numpy()})
        for index, frame in enumerate(frames):
            if index:
                state = {"layer4": found[1], "dec": found[2]}
                found = sessions[1].run(names, {"image": frame.numpy(), **state})
            wanted = resize_to(expected[index], size).argmax(1)
            assert found[0].shape == (1, *size)
            assert (torch.from_numpy(found[0]) != wanted).float().mean() <= LABEL_TOLERANCE


def test_classes_and_what_the_caller_must_do_travel_with_both_files(
    exported: tuple[VideoAgreement, tuple[Path, Path]],
) -> None:
    for path in exported[1]:
        model = onnx.load(path)
        said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
        assert said["classes"] == ABOUT["classes"]
        assert "normalisation" not in said
        assert said["input"]["image"]["normalise"] is False
        assert said["input"]["image"]["sides"] == {"smallest": 1, "largest": 4096}
        for side, graph in (("input", model.graph.input), ("outputs", model.graph.output)):
            assert list(said[side]) == [tensor.name for tensor in graph]
            for tensor in graph:
                shape = [size.dim_param or size.dim_value for size in tensor.type.tensor_type.shape.dim]
                assert said[side][tensor.name]["shape"] == shape


def test_the_comparison_sees_another_network(
    exported: tuple[VideoAgreement, tuple[Path, Path]], video: VideoSegmenter
) -> None:
    network = VideoGraphs(video, TF)
    graphs = network.graphs(64)
    runs = [OnnxFormat().open(graph, path) for graph, path in zip(graphs, exported[1], strict=True)]
    assert network.compare(graphs, runs, exported[1], [(64, 64)]).agrees
    # What the first frame does not show.
    weight = video.cell.project[0].weight  # type: ignore[index, union-attr]
    with torch.no_grad():
        weight *= 1.1  # type: ignore[operator]
        wrong = network.compare(graphs, runs, exported[1], [(64, 64)])
        weight /= 1.1  # type: ignore[operator]
    assert not wrong.agrees
    with pytest.raises(InputError, match="must agree with torch"):
        wrong.check()


@pytest.fixture(scope="module")
def programs(
    tmp_path_factory: pytest.TempPathFactory, video: VideoSegmenter
) -> tuple[VideoAgreement, tuple[Path, Path]]:
    path = tmp_path_factory.mktemp("pt2") / "cell.pt2"
    agreement = Pt2Format().export(VideoGraphs(video, TF, ABOUT, size=ODD, dense=True), path)
    assert isinstance(agreement, VideoAgreement)
    return agreement, (path.with_name("cell-start.pt2"), path.with_name("cell-step.pt2"))


def test_a_fixed_size_may_be_any(programs: tuple[VideoAgreement, tuple[Path, Path]]) -> None:
    agreement, _ = programs
    assert (agreement.agrees, agreement.sizes, agreement.any_size) == (True, (ODD,), False)
    assert "frames of 72x104 alone" in str(agreement)


def test_programs_run_in_torch_alone_and_carry_the_classes(
    programs: tuple[VideoAgreement, tuple[Path, Path]],
) -> None:
    code = """
import sys, torch
files = {"classes": "", "input": ""}
start = torch.export.load(sys.argv[1], extra_files=files).module()
step = torch.export.load(sys.argv[2]).module()
logits, *state = start(torch.rand(1, 3, 72, 104) * 255)
for _ in range(2):
    logits, *state = step(torch.rand(1, 3, 72, 104) * 255, *state)
assert not any(name.startswith("nasperc") for name in sys.modules)
print(files["classes"], files["input"], list(logits.shape), sep="\\n")
"""
    command = [sys.executable, "-c", code, *map(str, programs[1])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=programs[1][0].parent)
    assert done.returncode == 0, done.stderr
    classes, given, shape = map(json.loads, done.stdout.splitlines())
    assert (classes, shape) == (ABOUT["classes"], [1, 3, 9, 13])
    assert given["image"]["sides"] == list(ODD)


def test_files_that_differ_are_not_written(
    programs: tuple[VideoAgreement, tuple[Path, Path]],
    video: VideoSegmenter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of another classifier: the first frame alone shows it.
    bias = video.static.classifier.bias
    assert bias is not None
    start, step = (path.read_bytes() for path in programs[1])

    def of_before(format: object, exported: object, graph: object, metadata: object, path: Path) -> None:
        path.write_bytes(start if "start" in path.name else step)

    monkeypatch.setattr(Pt2Format, "write", of_before)
    with torch.no_grad():
        bias += 100
        with pytest.raises(InputError, match="must agree with torch"):
            Pt2Format().export(VideoGraphs(video, TF, size=ODD, dense=True), tmp_path / "cell.pt2")
        bias -= 100
    assert not list(tmp_path.iterdir())
    network = VideoGraphs(video, TF, size=ODD, dense=True)
    graphs = network.graphs(160)
    runs = [Pt2Format().open(graph, path) for graph, path in zip(graphs, programs[1], strict=True)]
    assert network.compare(graphs, runs, programs[1], [ODD]).agrees
