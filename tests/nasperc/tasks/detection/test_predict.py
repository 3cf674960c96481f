import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from nasperc.assembly.detector import Baseline
from nasperc.errors import InputError
from nasperc.tasks.detection.predict import _place, draw_objects, predict_images
from nasperc.tasks.detection.trained import describe, load_detector
from nasperc.tasks.trained import PredictOptions
from nasperc.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def checkpoint(tmp_path, recipe):
    import torch

    from nasperc.assembly.detector import build_detector

    torch.manual_seed(0)
    decoder = Baseline(64, 64, 1)
    # A prior of one half: an untrained network then has detections.
    model_recipe = recipe.model.model_copy(update={"preset_overrides": {"class_prior": 0.5}})
    model = build_detector(model_recipe, decoder, 2)
    content = {
        **describe(model_recipe, decoder, recipe.space),
        "training": recipe.fulltrain.model_dump(mode="json"),
        "classes": ["disc", "square"],
        "normalisation": "tf",
        "step": 0,
        "finished": True,
        "model": model.state_dict(),
    }
    save_checkpoint(tmp_path / "checkpoint.pt", content)
    return tmp_path / "checkpoint.pt"


def write_image(path, size=(70, 50)):
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_json_and_pictures(tmp_path, checkpoint):
    images = [write_image(tmp_path / "a" / "x.png"), write_image(tmp_path / "b" / "x.jpg", (40, 90))]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    told = []
    result = predict_images(
        load_detector(checkpoint),
        checkpoint,
        [images[0], broken, images[1]],
        tmp_path / "out",
        threshold=0.2,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(0, 3), (1, 3), (2, 3)]
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [image["file"] for image in content["images"]] == [str(file) for file in images]
    assert [image["picture"] for image in content["images"]] == ["x.png", "x-2.png"]
    assert len(result.unreadable) == len(content["unreadable"]) == 1
    assert "broken.png" in content["unreadable"][0]
    for file, entry in zip(images, content["images"], strict=True):
        original = Image.open(file).convert("RGB")
        drawn = Image.open(tmp_path / "out" / entry["picture"])
        assert drawn.size == original.size
        assert entry["objects"]
        for found in entry["objects"]:
            assert found["class"] in ("disc", "square")
            assert 0.2 <= found["score"] <= 1
            x1, y1, x2, y2 = found["box"]
            assert 0 <= x1 < x2 <= original.width
            assert 0 <= y1 < y2 <= original.height
        assert np.asarray(drawn).tolist() != np.asarray(original).tolist()


def test_a_threshold_of_one_draws_nothing(tmp_path, checkpoint):
    file = write_image(tmp_path / "a" / "x.png")
    predict_images(load_detector(checkpoint), checkpoint, [file], tmp_path / "out", threshold=1.0)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "x.png")), np.asarray(Image.open(file)))


def test_bad_threshold(tmp_path, checkpoint):
    with pytest.raises(InputError, match=r"must lie in 0\.\.1"):
        predict_images(load_detector(checkpoint), checkpoint, [], tmp_path / "out", threshold=1.5)


def test_a_detector_has_no_view(checkpoint):
    with pytest.raises(InputError, match="--show is not for a detector, but got bases"):
        load_detector(checkpoint).require_own(PredictOptions(show="bases"))


@pytest.mark.parametrize("box", [[0, 0, 100, 80], [80, 60, 100, 80], [10, 0, 30, 5], [-5, -5, 3, 3]])
def test_box_and_label_are_inside_the_picture(box):
    picture = Image.new("RGB", (100, 80))
    draw_objects(picture, [{"class": "b", "score": 0.5, "box": box}], ["a", "b"])
    drawn = np.asarray(picture).any(axis=2)
    # More than the outline: a label with its background.
    assert drawn.sum() > 150


def test_labels_of_one_place_do_not_hide_one_another():
    picture = Image.new("RGB", (200, 200))
    taken = []
    for _ in range(4):
        label = _place([50, 60, 120, 140], (60, 14), picture.size, taken)
        assert 0 <= label[0] < label[2] <= 200
        assert 0 <= label[1] < label[3] <= 200
        for other in taken:
            apart = (
                label[2] <= other[0] or other[2] <= label[0] or label[3] <= other[1] or other[3] <= label[1]
            )
            assert apart
        taken.append(label)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_phones_photo_is_drawn_upright_with_its_boxes(tmp_path, checkpoint, orientation):
    """As if it had been stored so: the same boxes, the same picture."""
    stored = write_image(tmp_path / "a" / "stored.png")
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(stored) as picture:
        picture.save(stored, exif=exif.tobytes())
    with Image.open(stored) as picture:
        turned = ImageOps.exif_transpose(picture)
    turned.info.clear()
    turned.save(tmp_path / "a" / "upright.png")
    detector, files = load_detector(checkpoint), [stored, tmp_path / "a" / "upright.png"]
    predict_images(detector, checkpoint, files, tmp_path / "out", threshold=0.2)
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert "upright" in content["exif"]
    one, other = content["images"]
    assert [one["exif_orientation"], other["exif_orientation"]] == [orientation, 1]
    assert one["objects"]
    assert one["objects"] == other["objects"]
    drawn = [np.asarray(Image.open(tmp_path / "out" / entry["picture"])) for entry in (one, other)]
    assert np.array_equal(*drawn)


def test_the_range_of_the_training_is_that_of_the_prediction(tmp_path, checkpoint):
    content = load_checkpoint(checkpoint)
    file = tmp_path / "deep.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 4096, (50, 70), dtype=np.uint16)).save(file)
    without = predict_images(load_detector(checkpoint), checkpoint, [file], tmp_path / "out", threshold=1.0)
    assert "mode I;16" in str(without.unreadable[0])
    save_checkpoint(checkpoint, content | {"images": {"range": [0, 4095], "exif": "refuse"}})
    predict_images(load_detector(checkpoint), checkpoint, [file], tmp_path / "out", threshold=1.0)
    drawn = np.asarray(Image.open(tmp_path / "out" / "deep.png"))[..., 0]
    assert np.array_equal(drawn, np.rint(np.asarray(Image.open(file)) * (255 / 4095)))
