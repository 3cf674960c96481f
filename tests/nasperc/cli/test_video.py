"""What the commands do with a checkpoint of a network for videos."""

import io
import json
import shutil

import pytest
from PIL import Image
from typed_command import nasperc
from video_checkpoint import searched_cell, write_checkpoint

from nasperc.data.formats import open_video
from nasperc.data.synthetic_video import write_synthetic_video
from nasperc.plain_console import PlainConsole


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = write_synthetic_video(tmp_path / "data", videos={"train": 1, "val": 1}, frames=3, size=(40, 56))
    write_checkpoint(tmp_path / "c.pt", searched_cell(), open_video(data, "val").classes)
    return data


def test_evaluate(data, monkeypatch, capsys):
    code, out, err = nasperc(monkeypatch, capsys, "evaluate", "c.pt", "--data", data)
    assert code == 0, err
    for text in ("mIoU", "tIoU", "background", "ms a frame without the first", "56x40", "M parameters"):
        assert text in out
    code, out, err = nasperc(
        monkeypatch, capsys, "evaluate", "c.pt", "--data", data, "--json", "--sequence-length", 2
    )
    assert code == 0, err
    assert set(json.loads(out)["positions"]) == {"1", "2"}


@pytest.mark.parametrize(
    ("command", "arguments"), [("evaluate", ["--data", "data"]), ("predict", ["data/val"])]
)
def test_progress_counts_frames(data, monkeypatch, capsys, command, arguments):
    terminal = PlainConsole(file=io.StringIO(), force_terminal=True, width=80)
    monkeypatch.setattr("nasperc.cli.evaluate.error_console", terminal)
    assert nasperc(monkeypatch, capsys, command, "c.pt", *arguments)[0] == 0
    assert "frames" in terminal.file.getvalue()
    assert "images" not in terminal.file.getvalue()


def test_evaluate_bad_input(data, monkeypatch, capsys):
    code, _, err = nasperc(monkeypatch, capsys, "evaluate", "c.pt", "--data", data, "--per-class")
    assert (code, "--per-class is not for a network for videos" in err) == (2, True)
    sorted((data / "valannot").iterdir())[0].unlink()
    code, _, err = nasperc(monkeypatch, capsys, "evaluate", "c.pt", "--data", data)
    assert (code, err.count("\n")) == (2, len(err.splitlines()))
    assert "must have an annotation" in " ".join(err.split())


def test_predict(data, monkeypatch, capsys):
    shutil.copytree(data / "val", "street")
    code, out, err = nasperc(monkeypatch, capsys, "predict", "c.pt", "street")
    assert code == 0, err
    assert "3 frames of 1 video" in out
    assert "predictions/strip.png written" in out
    broken = sorted(data.parent.joinpath("street").iterdir())[1]
    broken.write_bytes(b"no image")
    code, out, err = nasperc(monkeypatch, capsys, "predict", "c.pt", "street", "--out", "other")
    assert code == 2
    assert "2 frames of 1 video" in out
    assert "skipped: an image must be readable" in err
    assert "go on from the last good one" in " ".join(err.split())


def test_predict_takes_a_folder(data, monkeypatch, capsys):
    Image.new("RGB", (56, 40)).save("a.png")
    for given in (["a.png"], [data / "val", data / "train"]):
        code, _, err = nasperc(monkeypatch, capsys, "predict", "c.pt", *given)
        assert code == 2
        assert "takes one folder of frames" in " ".join(err.split())
