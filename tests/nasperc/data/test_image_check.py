import numpy as np
import pytest
from PIL import Image

from nasperc.data import image_check
from nasperc.data.image_check import ImageCheck
from nasperc.data.image_rules import AS_STORED, ImageRules
from nasperc.errors import InputError


def save(file, orientation=None, dtype=np.uint8):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(np.full((4, 6), 7, dtype)).save(file, exif=exif.tobytes())
    return file


@pytest.fixture
def files(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    return [
        save(tmp_path / "a.jpg"),
        tmp_path / "broken.jpg",
        save(tmp_path / "b.png", 3),
        save(tmp_path / "c.jpg", 1),
        save(tmp_path / "d.webp", 6),
        tmp_path / "missing.png",
    ]


def test_oriented_images_are_counted_and_said_in_one_line(files):
    for exif, end in (("ignore", "reads them as stored"), ("apply", "reads them upright")):
        check = ImageCheck.of(files, ImageRules(exif=exif))
        check.require()
        first = f"2 images carry an EXIF orientation (first: {files[2]}, 3)"
        assert check.lines() == [f"{first}: data.exif: {exif} {end}"]
    assert ImageCheck.of(files[:3], AS_STORED).lines()[0].startswith("1 image carries an EXIF orientation")
    assert ImageCheck.of(files[:2], AS_STORED).lines() == []


def test_oriented_images_are_refused_before_any_is_decoded(files, monkeypatch):
    monkeypatch.setattr(image_check, "read_image", pytest.fail)
    with pytest.raises(InputError, match=r"no image may carry .* but got 2 images with one, here 3") as error:
        ImageCheck.of(files, ImageRules(exif="refuse")).require()
    assert error.value.where == str(files[2])
    ImageCheck.of(files[:2], ImageRules(exif="refuse")).require()


def test_deep_images_are_refused_wherever_they_stand(files, tmp_path):
    deep = save(tmp_path / "deep.png", dtype=np.uint16)
    with pytest.raises(InputError, match="mode I;16, values from 7 to 7"):
        ImageCheck.of([*files, deep], AS_STORED).require()
    ImageCheck.of([*files, deep], ImageRules(range=(0, 9))).require()
