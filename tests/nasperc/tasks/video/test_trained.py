import pytest
import torch
from video_checkpoint import MODEL, SECTION, TOKENS, content, searched_cell, write_checkpoint

from nasperc.errors import InputError
from nasperc.models.backbones.build import build_backbone
from nasperc.models.decoders.build import build_segmenter
from nasperc.tasks.detection.trained import load_detector
from nasperc.tasks.video.trained import load_segmenter
from nasperc.training.checkpoint import save_checkpoint

CLASSES = ("road", "car", "sky")


def test_a_cell_and_its_static_network_come_back(tmp_path):
    model = write_checkpoint(tmp_path / "c.pt", searched_cell(), CLASSES)
    loaded = load_segmenter(tmp_path / "c.pt")
    assert (loaded.classes, loaded.normalisation.name, loaded.recipe) == (CLASSES, "tf", MODEL)
    assert (loaded.step, loaded.finished) == (2, True)
    assert loaded.searched.architecture.parts == {"cell": TOKENS}
    assert loaded.searched.widths == searched_cell().widths
    assert not loaded.model.training
    frames = [torch.randn(1, 3, 64, 96) for _ in range(3)]
    with torch.no_grad():
        for one, other in zip(model(frames), loaded.model(frames), strict=True):
            assert torch.equal(one, other)


def test_a_per_frame_network_comes_back_without_its_auxiliary_classifiers(tmp_path):
    values, model = content(None, CLASSES)
    training = build_segmenter("arch2", build_backbone(MODEL.backbone), 3, auxiliary=True)
    training.load_state_dict(model.state_dict(), strict=False)
    save_checkpoint(tmp_path / "c.pt", {**values, "model": training.state_dict()})
    loaded = load_segmenter(tmp_path / "c.pt")
    assert loaded.searched is None
    assert not loaded.model.auxiliary
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded.model(images).logits, model(images).logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a", "b", "c", "d"]}, "must fit the network"),
        ({"classes": []}, "must fit the network"),
        ({"classes": ["x"] * 256}, "must fit the network"),
        ({"classes": None}, "must fit the network"),
        ({"segmenter": {"backbone": {"depth": 3}}}, "valid recipe keys: backbone"),
        ({"cell": None}, "must fit the network"),
        ({"cell": 7}, "must fit the network"),
        ({"cell": {"architecture": {}, "widths": {"cell": 8}}}, "must"),
        ({"cell": {"widths": {"cell": 8}}}, "must fit the network"),
        ({"space": {"name": "fcos_decoder"}}, "must be 'fcos_decoder'"),
        ({"space": {"name": "../x.py:Space"}}, "must"),
        ({"space": None}, "valid recipe keys"),
        ({"model": [1, 2]}, "must fit the network"),
        ({"model": {3: 4}}, "must fit the network"),
        ({"step": "many"}, "must fit the network"),
        ({"normalisation": "none"}, "a normalisation must be one of"),
        ({"task": "fcos"}, "checkpoint of the task video_segmentation"),
        ({"task": ["x"]}, "checkpoint of the task video_segmentation"),
    ],
)
def test_an_edited_checkpoint(tmp_path, change, message):
    values, _ = content(searched_cell(), CLASSES)
    save_checkpoint(tmp_path / "c.pt", {**values, **change})
    with pytest.raises(InputError, match=message):
        load_segmenter(tmp_path / "c.pt")


@pytest.mark.parametrize("widths", [{"cell": 10**9}, {"cell": 0}, {"fpn": 8}, {}, [8], {"cell": "wide"}])
def test_widths_of_no_cell(tmp_path, widths):
    values, _ = content(searched_cell(), CLASSES)
    cell = {**values["cell"], "widths": widths}
    save_checkpoint(tmp_path / "c.pt", {**values, "cell": cell})
    with pytest.raises(InputError):
        load_segmenter(tmp_path / "c.pt")


def test_a_checkpoint_that_is_cut_short(tmp_path):
    write_checkpoint(tmp_path / "c.pt", None, CLASSES)
    whole = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="whole file"):
        load_segmenter(tmp_path / "c.pt")


def test_checkpoints_of_two_tasks_are_told_apart(tmp_path):
    write_checkpoint(tmp_path / "c.pt", None, CLASSES)
    with pytest.raises(InputError, match="the task fcos, but got video_segmentation"):
        load_detector(tmp_path / "c.pt")


def test_a_missing_key(tmp_path):
    values, _ = content(None, CLASSES)
    del values["segmenter"]
    save_checkpoint(tmp_path / "c.pt", values)
    with pytest.raises(InputError, match="must hold 'segmenter'"):
        load_segmenter(tmp_path / "c.pt")
    assert SECTION.name == values["space"]["name"]
