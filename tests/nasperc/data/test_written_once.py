from pathlib import Path

import pytest

from nasperc.data.written_once import write_once
from nasperc.errors import InputError

RECIPE = {"seed": 1, "size": [2, 3]}


def write(work: Path) -> None:
    (work / "a.txt").write_text("a")


def test_written_whole_and_only_once(tmp_path):
    folder = tmp_path / "deep" / "data"
    assert write_once(folder, RECIPE, write) == folder
    assert (folder / "a.txt").read_text() == "a"

    def again(work: Path) -> None:
        raise AssertionError("it is there")

    assert write_once(folder, RECIPE, again) == folder
    with pytest.raises(InputError, match=r"a new folder, but got {'seed': 1.*in .*data\)"):
        write_once(folder, {"seed": 2}, write)
    with pytest.raises(InputError, match="something else"):
        write_once(tmp_path / "deep", RECIPE, write)


def test_empty_folder_is_filled_and_failure_leaves_nothing(tmp_path):
    (tmp_path / "data").mkdir()
    write_once(tmp_path / "data", RECIPE, write)

    def fail(work: Path) -> None:
        write(work)
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_once(tmp_path / "other", RECIPE, fail)
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_another_process_may_finish_first(tmp_path):
    folder = tmp_path / "data"

    def slow(work: Path) -> None:
        write_once(folder, RECIPE, write)
        (work / "a.txt").write_text("later")

    assert write_once(folder, RECIPE, slow) == folder
    assert (folder / "a.txt").read_text() == "a"
    assert [each.name for each in tmp_path.iterdir()] == ["data"]
