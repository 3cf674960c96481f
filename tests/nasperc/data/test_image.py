import pytest

from nasperc.data.image import images_by_stem
from nasperc.errors import InputError


def test_images_of_a_folder_by_stem(tmp_path):
    for name in ("b.webp", "a.2.JPG", "a.1.jpeg", "c.png", "c.jpg", "list.txt", "png"):
        (tmp_path / name).touch()
    found = images_by_stem(tmp_path)
    assert [(stem, file.name) for stem, file in found.items()] == [
        ("a.1", "a.1.jpeg"),
        ("a.2", "a.2.JPG"),
        ("b", "b.webp"),
        ("c", "c.jpg"),
    ]
    for missing in (tmp_path / "nowhere", tmp_path / "png"):
        with pytest.raises(InputError, match="a folder of images must be readable"):
            images_by_stem(missing)
