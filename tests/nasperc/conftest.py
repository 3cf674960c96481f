"""The tests of several rooms share small data sets, what a search found on them, checkpoints for videos, and what the
exporters make of a function."""

import io
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nasperc.data.formats import open_dataset, open_video
from nasperc.data.synthetic import write_synthetic
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.recipe.reading import parse_recipe

sys.path.append(str(Path(__file__).parent))

FRAMES, SIZE = 4, (48, 64)


@pytest.fixture(scope="session")
def video_data(tmp_path_factory):
    """A folder with two videos to train on, and one each to validate and test on."""
    folder = tmp_path_factory.mktemp("data") / "video"
    return write_synthetic_video(folder, videos={"train": 2, "val": 1, "test": 1}, frames=FRAMES, size=SIZE)


@pytest.fixture(scope="session")
def videos(video_data):
    """The train split."""
    return open_video(video_data, "train")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    return write_synthetic(folder, images={"train": 4, "val": 2, "test": 2}, size=(64, 64), formats=("coco",))


@pytest.fixture(scope="session")
def recipe(data):
    document = {
        "data": {"path": str(data)},
        "model": {"backbone": {"width_mult": 0.1}},
        "fulltrain": {
            "iterations": 2,
            "batch_size": 2,
            "short_sides": [64],
            "max_long_side": 64,
            "test_short_side": 64,
            "checkpoint_every": 1,
        },
    }
    return parse_recipe(document, where="test")


@pytest.fixture(scope="session")
def train_split(data):
    return open_dataset(data, "train")


@pytest.fixture
def top10(tmp_path, recipe, train_split):
    """A run folder's ``top10.json`` with two random entries of width 64."""
    from top10_file import write_top10

    return write_top10(
        tmp_path / "runs" / "search-001",
        recipe,
        stage="head",
        task="detection",
        classes=train_split.classes,
        widths={"fpn": 64, "head": 64},
        rewards=(-1.0, -2.0),
    )


class _Module(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


@pytest.fixture
def exported(caplog):
    """``exported(function, arguments, dynamic_shapes)``: what torch.export and onnxruntime make of it, by name."""
    caplog.set_level("ERROR", "torch.onnx")

    def export(function, arguments, dynamic_shapes):
        onnxruntime = pytest.importorskip("onnxruntime")
        module, shapes = _Module(function).eval(), (tuple(dynamic_shapes),)
        program = torch.export.export(module, arguments, dynamic_shapes=shapes)
        model = torch.onnx.export(program, dynamo=True, opset_version=19, verbose=False)
        file = io.BytesIO()
        model.save(file)
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]

        def by_onnxruntime(*arguments):
            (out,) = session.run(None, {n: a.numpy() for n, a in zip(names, arguments, strict=True)})
            return torch.from_numpy(out)

        return {"torch.export": program.module(), "onnxruntime": by_onnxruntime}

    return export
