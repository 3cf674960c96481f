from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasperc.data.label_map import LabelIds, label_colours, write_label_map
from nasperc.errors import InputError

IDS = LabelIds.contiguous(3)
PIXELS = np.array([[0, 1, 2, 3], [2, 255, 1, 0]], np.uint8)
LABELS = [[0, 1, 2, 255], [2, 255, 1, 0]]


def save(file: Path, pixels: np.ndarray, mode: str) -> Path:
    picture = Image.fromarray(pixels)
    if mode == "P":
        # Colours that are no ids, so that only the indices can be right.
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    assert picture.mode == mode
    picture.save(file)
    return file


@pytest.mark.parametrize(
    ("mode", "dtype", "suffix"),
    [("L", np.uint8, "png"), ("P", np.uint8, "png"), ("I;16", np.uint16, "png"), ("I", np.int32, "tif")],
)
def test_grey_and_palette_maps_read_the_same(tmp_path, mode, dtype, suffix):
    labels = IDS.read(save(tmp_path / f"a.{suffix}", PIXELS.astype(dtype), mode), (2, 4))
    assert labels.dtype == torch.int64
    assert labels.tolist() == LABELS


def test_one_bit_map_holds_intensities(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert IDS.read(tmp_path / "a.png", (1, 2)).tolist() == [[0, 255]]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0, 4, 9, 4]], np.uint8), r"out of 0, 1, 2, 3, 255, but got 4, 9 \(in .*a\.png\)"),
        (np.array([[0, 1, 300, 2]], np.uint16), r"but got 300 "),
        (np.arange(100, 200, dtype=np.uint8)[None], r"100, 101, 102, .*109, \.\.\. "),
        (np.zeros((1, 4, 3), np.uint8), "grey or palette image of class ids, but got mode RGB"),
        (np.zeros((4, 1), np.uint8), "size of its image, but got 1x4 instead of 4x1"),
    ],
)
def test_bad_maps_are_told_in_one_line(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    size = (1, 4) if pixels.size != 100 else (1, 100)
    with pytest.raises(InputError, match=message) as error:
        IDS.read(tmp_path / "a.png", size)
    assert "\n" not in str(error.value)


def test_unreadable_map(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    for name in ("a.png", "b.png"):
        with pytest.raises(InputError, match="readable image"):
            IDS.read(tmp_path / name, (1, 1))


def test_ids_may_be_any_table_and_255_is_always_ignored(tmp_path):
    file = save(tmp_path / "a.png", np.array([[7, 0, 255, 33]], np.uint8), "L")
    assert LabelIds({7: 0, 33: 18, 0: 255}).read(file, (1, 4)).tolist() == [[0, 255, 255, 18]]


def test_as_many_classes_as_eight_bits_hold():
    assert LabelIds.contiguous(255).labels[254] == 254
    with pytest.raises(InputError, match="at most 255 classes, but got 256"):
        LabelIds.contiguous(256)


def test_written_maps_are_palette_images_that_read_back(tmp_path):
    labels = torch.tensor(LABELS)
    write_label_map(tmp_path / "a.png", labels)
    assert torch.equal(IDS.read(tmp_path / "a.png", (2, 4)), labels)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P"
        shown = np.asarray(picture.convert("RGB"))
    assert shown[0, 3].tolist() == [0, 0, 0]
    assert np.array_equal(shown[0, :3], label_colours(3))


def test_colours_are_those_of_pascal_voc():
    expected = [
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
    ]
    assert label_colours(7).tolist() == expected
    assert label_colours(8)[7].tolist() == [64, 0, 0]
    assert len({tuple(colour) for colour in label_colours(255).tolist()} | {(0, 0, 0)}) == 256


def test_colours_of_ones_own(tmp_path):
    labels = np.array([[0, 1, 255]], np.uint8)
    write_label_map(tmp_path / "a.png", labels, np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    with Image.open(tmp_path / "a.png") as picture:
        assert np.asarray(picture).tolist() == labels.tolist()
        assert np.asarray(picture.convert("RGB")).tolist() == [[[1, 2, 3], [4, 5, 6], [0, 0, 0]]]


@pytest.mark.parametrize("format", ["EPS", "PCX", "TGA"])
def test_a_map_of_another_format_is_not_opened(tmp_path, format):
    """Pillow hands EPS to Ghostscript, whatever the name of the file."""
    Image.new("L", (4, 2)).save(tmp_path / f"a.{format.lower()}", format)
    (tmp_path / f"a.{format.lower()}").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match="readable image, but got cannot identify"):
        IDS.read(tmp_path / "a.png", (2, 4))


def test_a_map_of_another_size_is_not_decoded(tmp_path, monkeypatch):
    save(tmp_path / "a.png", PIXELS, "L")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(InputError, match="4x2 instead of 5x5"):
        IDS.read(tmp_path / "a.png", (5, 5))
    monkeypatch.setattr("nasperc.data.image.MOST_PIXELS", 7)
    with pytest.raises(InputError, match="4x2 pixels, more than"):
        IDS.read(tmp_path / "a.png", (2, 4))
