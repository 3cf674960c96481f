import numpy as np
from PIL import Image

from nasperc.tasks.video.draw_labels import side_by_side, write_animation, write_strip

COLOURS = np.array([[200, 0, 0], [0, 100, 0]], np.uint8)


def pair(height=20, width=30, value=100):
    labels = np.zeros((height, width), np.int64)
    labels[:, width // 2 :] = 1
    return side_by_side(np.full((height, width, 3), value, np.uint8), labels, COLOURS)


def test_a_frame_and_its_overlay():
    pixels = np.asarray(pair())
    assert pixels.shape == (20, 64, 3)
    assert (pixels[:, :30] == 100).all()
    # Six tenths of the class's colour, four of the frame.
    assert pixels[5, 34].tolist() == [160, 40, 40]
    assert pixels[5, 63].tolist() == [40, 100, 40]


def test_large_frames_are_scaled_down():
    assert pair(600, 960).size == (2 * 480 + 4, 300)


def test_strip_with_a_legend(tmp_path):
    write_strip(tmp_path / "s.png", [pair(), pair(40, 60)], ["road", "a long name of a class"], COLOURS)
    with Image.open(tmp_path / "s.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] == 124
    assert (pixels[24:64, :60] == 100).all()
    legend = pixels[68:]
    for colour in COLOURS.tolist():
        assert (legend == colour).all(axis=2).sum() > 100


def test_animation(tmp_path):
    pictures = [pair(value=value) for value in (0, 120, 250)]
    write_animation(tmp_path / "v.webp", pictures)
    with Image.open(tmp_path / "v.webp") as picture:
        assert (picture.n_frames, picture.size) == (3, pictures[0].size)
        for index, value in enumerate((0, 120, 250)):
            picture.seek(index)
            assert abs(int(np.asarray(picture.convert("RGB"))[10, 5, 0]) - value) < 10
