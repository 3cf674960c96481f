import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from video_checkpoint import searched_cell, write_checkpoint

from nasperc.data.formats import open_video
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.errors import InputError
from nasperc.tasks.video.predict import predict_video
from nasperc.tasks.video.trained import load_segmenter
from nasperc.training.segment import FrameByFrame


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "video"
    return write_synthetic_video(folder, videos={"val": 1}, frames=5, size=(40, 56))


@pytest.fixture
def trained(tmp_path, data):
    write_checkpoint(tmp_path / "c.pt", searched_cell(), open_video(data, "val").classes)
    return load_segmenter(tmp_path / "c.pt")


@pytest.fixture
def folder(tmp_path, data):
    """Frames 8 to 12: in the order of their numbers, not of their names."""
    folder = tmp_path / "street"
    folder.mkdir()
    for number, file in enumerate(sorted((data / "val").iterdir()), start=8):
        shutil.copy(file, folder / f"frame{number}.jpg")
    return folder


def labels_of(path):
    with Image.open(path) as picture:
        assert picture.mode == "P"
        return torch.from_numpy(np.array(picture).astype(np.int64))


def expected(trained, folder, numbers):
    frames = FrameByFrame(trained.model, trained.normalisation)
    found = {}
    for number in numbers:
        with Image.open(folder / f"frame{number}.jpg") as picture:
            pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        found[f"frame{number}"] = frames.labels(pixels)
    return found


def test_frames_that_a_camera_stored_turned_are_segmented_upright(tmp_path, trained, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    for file in folder.iterdir():
        with Image.open(file) as picture:
            picture.save(file, exif=exif.tobytes(), quality=95)
    predict_video(trained, tmp_path / "c.pt", folder, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert "upright" in content["exif"]
    frames = FrameByFrame(trained.model, trained.normalisation)
    for number in range(8, 13):
        with Image.open(folder / f"frame{number}.jpg") as picture:
            pixels = torch.from_numpy(np.array(ImageOps.exif_transpose(picture))).permute(2, 0, 1)
        labels = labels_of(tmp_path / "out" / "labels" / f"frame{number}.png")
        assert labels.shape == (56, 40)
        assert torch.equal(labels, frames.labels(pixels))


def test_label_maps_of_a_video_in_the_order_of_its_numbers(tmp_path, trained, folder):
    done = []
    result = predict_video(
        trained, tmp_path / "c.pt", folder, tmp_path / "out", lambda *each: done.append(each)
    )
    assert done == [(k, 5) for k in range(1, 6)]
    assert [file.stem for file in result.labels] == [f"frame{k}" for k in range(8, 13)]
    for name, labels in expected(trained, folder, range(8, 13)).items():
        assert torch.equal(labels_of(tmp_path / "out" / "labels" / f"{name}.png"), labels)
    content = json.loads((tmp_path / "out" / "frames.json").read_text())
    assert [frame["labels"] for frame in content["frames"]] == [f"labels/frame{k}.png" for k in range(8, 13)]
    assert list(content["classes"]) == list(trained.classes)
    assert content["unreadable"] == []
    with Image.open(tmp_path / "out" / "strip.png") as strip:
        assert strip.width == 2 * 56 + 4
        assert strip.height > 5 * 44
    with Image.open(tmp_path / "out" / "video.webp") as video:
        assert video.n_frames == 5


def test_an_unreadable_frame_is_passed_over_and_the_state_stays(tmp_path, trained, folder):
    (folder / "frame10.jpg").write_bytes(b"no image")
    Image.new("RGB", (30, 30)).save(folder / "frame11.jpg")
    result = predict_video(trained, tmp_path / "c.pt", folder, tmp_path / "out")
    assert len(result.unreadable) == 2
    assert "frame10.jpg" in str(result.unreadable[0])
    assert "30x30 after 56x40" in str(result.unreadable[1])
    found = expected(trained, folder, (8, 9, 12))
    assert [file.stem for file in result.labels] == list(found)
    assert torch.equal(labels_of(result.labels[folder / "frame12.jpg"]), found["frame12"])
    alone = expected(trained, folder, (12,))
    assert not torch.equal(found["frame12"], alone["frame12"])


def test_a_folder_without_one_readable_frame(tmp_path, trained, folder):
    for file in folder.iterdir():
        file.write_bytes(b"")
    result = predict_video(trained, tmp_path / "c.pt", folder, tmp_path / "out")
    assert (len(result.unreadable), result.labels, result.pictures) == (5, {}, [])


def test_no_folder(tmp_path, trained):
    with pytest.raises(InputError, match="must be readable"):
        predict_video(trained, tmp_path / "c.pt", tmp_path / "nowhere", tmp_path / "out")
