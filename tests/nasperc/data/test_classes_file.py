import pytest

from nasperc.data.classes_file import read_classes_file
from nasperc.errors import InputError


def test_classes_file(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("wolf\n\n  ant  \nred fox\n")
    assert read_classes_file(file) == ("wolf", "ant", "red fox")
    for content, message in (
        (b"a\nb\na\n", "'a' twice"),
        (b"\n", "must name classes"),
        (b"\xff", "readable text"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_classes_file(file)
    with pytest.raises(InputError, match="readable text"):
        read_classes_file(tmp_path / "nowhere.txt")
