import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image
from video_checkpoint import searched_cell, write_checkpoint

from nasperc.data.formats import open_video
from nasperc.data.image_rules import ImageRules
from nasperc.data.label_map import write_label_map
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.errors import InputError
from nasperc.tasks.video.evaluate import evaluate_video, position_groups
from nasperc.tasks.video.trained import load_segmenter
from nasperc.training.checkpoint import load_checkpoint, save_checkpoint
from nasperc.training.segment import segment_dataset

FRAMES, SIZE = 4, (40, 56)


@pytest.fixture
def data(tmp_path):
    return write_synthetic_video(tmp_path / "data", videos={"train": 1, "val": 1}, frames=FRAMES, size=SIZE)


@pytest.fixture
def trained(tmp_path, data):
    write_checkpoint(tmp_path / "c.pt", searched_cell(), open_video(data, "val").classes)
    return load_segmenter(tmp_path / "c.pt")


@pytest.mark.parametrize("length", [None, 2])
def test_all_that_is_measured(trained, data, length):
    report, dataset = evaluate_video(trained, data, sequence_length=length)
    assert dataset.split == "val"
    counted = segment_dataset(trained.model, dataset, trained.normalisation, sequence_length=length)
    np.testing.assert_equal(asdict(report.overall), asdict(counted.metrics()))
    assert list(report.by_position) == (["1", "2", "3", "4"] if length is None else ["1", "2"])
    np.testing.assert_equal(asdict(report.by_position["2"]), asdict(counted.metrics(1)))
    assert report.parameters == sum(p.numel() for p in trained.model.parameters())
    assert report.size == SIZE
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert values["miou"] == report.overall.miou
    assert set(values["classes"]) == set(dataset.classes)
    assert values["positions"]["2"]["tiou"] == report.by_position["2"].tiou
    assert values["ms_a_frame"] > 0
    assert values["ms_first_frame"] > 0


def test_frames_are_read_as_those_of_the_training(tmp_path, trained, data):
    content = load_checkpoint(tmp_path / "c.pt")
    save_checkpoint(tmp_path / "c.pt", content | {"images": {"range": None, "exif": "refuse"}})
    trained = load_segmenter(tmp_path / "c.pt")
    _, dataset = evaluate_video(trained, data)
    assert dataset.rules == ImageRules(exif="refuse")
    exif, last = Image.Exif(), dataset.frames[-1].image
    exif[0x0112] = 3
    with Image.open(last) as picture:
        picture.save(last, exif=exif.tobytes())
    with pytest.raises(InputError, match="orientation 3"):
        evaluate_video(trained, data, on_frame=lambda *_: pytest.fail("something was measured"))


def test_far_positions_are_taken_together():
    groups = position_groups(range(101))
    assert list(groups) == ["1", "2", "3", "4-10", "11-30", "31-100", "101"]
    assert groups["4-10"] == tuple(range(3, 10))
    assert [k for group in groups.values() for k in group] == list(range(101))
    assert position_groups((1, 2)) == {"2": (1,), "3": (2,)}
    assert position_groups(()) == {}


def one_frame(data):
    (data / "val.txt").write_text((data / "val.txt").read_text().splitlines()[0])


def no_annotation(data):
    sorted((data / "valannot").iterdir())[1].unlink()


def another_size(data):
    write_label_map(sorted((data / "valannot").iterdir())[1], np.zeros((40, 50), np.uint8))


def unknown_ids(data):
    write_label_map(sorted((data / "valannot").iterdir())[1], np.full(SIZE, 77, np.uint8))


def coloured(data):
    Image.new("RGB", SIZE[::-1]).save(sorted((data / "valannot").iterdir())[1])


def other_classes(data):
    (data / "classes.txt").write_text("background\ndisc\nsquare\nnothing else\n")


def camvids_classes(data):
    (data / "classes.txt").unlink()


def no_split(data):
    shutil.rmtree(data / "valannot")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_frame, "needs as many consecutive frames, but got a run of 1"),
        (no_annotation, "every frame of the split must have an annotation"),
        (another_size, "must have the size of its image, but got 50x40 instead of 56x40"),
        (unknown_ids, "label ids must be out of .*, but got 77"),
        (coloured, "grey or palette image of class ids, but got mode RGB"),
        (other_classes, "must have the classes of the checkpoint"),
        (camvids_classes, "must have the classes of the checkpoint"),
        (no_split, "needs a split test or val"),
    ],
)
def test_bad_data_is_one_clear_line(trained, data, spoil, message):
    spoil(data)
    with pytest.raises(InputError, match=message):
        evaluate_video(trained, data)


@pytest.mark.parametrize(
    ("length", "message"), [(1, "at least two frames"), (5, "as many consecutive frames")]
)
def test_sequences_that_cannot_be(trained, data, length, message):
    with pytest.raises(InputError, match=message):
        evaluate_video(trained, data, sequence_length=length)
