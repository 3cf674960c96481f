import pytest

from nasperc.data.split_list import read_split_list
from nasperc.errors import InputError


def test_lines_become_stems(tmp_path):
    file = tmp_path / "train.txt"
    file.write_text("a\n\n  b c \n")
    assert read_split_list(file, "VOC", ()) == ["a", "b c"]
    assert read_split_list(file, "VOC", (), str.upper) == ["A", "B C"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a VOC split must be a readable list .* Splits found: train, val\."),
        (b"\xff", "readable list"),
        (b"\n \n", "must list images, but got an empty file"),
        (b"a\nb\nA\n", "'a' twice"),
    ],
)
def test_bad_lists(tmp_path, content, message):
    file = tmp_path / "train.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_split_list(file, "VOC", ("train", "val"), str.lower)
