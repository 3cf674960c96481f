from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from nasperc.errors import InputError
from nasperc.whole_files import (
    open_in_place,
    own_folder,
    refuse_link,
    remove_leftovers,
    require_plain,
    write_whole,
    writing_folder,
    writing_together,
    writing_whole,
)


def fail(
    context: AbstractContextManager[object], write: Callable[[Any], object], error: BaseException
) -> None:
    """Write something, and be stopped."""
    with context as parts:
        write(parts)
        raise error


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "top10.json"
    write_whole(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_whole(path, b"\x00\r\n", durable=True)
    assert path.read_bytes() == b"\x00\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(type(error)):
        fail(writing_whole(path), lambda part: part.write_text("ne"), error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("target", ["precious", "nothing"])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "precious").write_text("precious")
    run = tmp_path / "run"
    run.mkdir()
    for link in (run / "top10.json", run / ".top10.json.tmp"):
        link.symlink_to(tmp_path / target)
    write_whole(run / "top10.json", "new")
    assert (run / "top10.json").read_text() == "new"
    assert not (run / "top10.json").is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_nobody_knows_the_name_of_the_new_file_before(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with writing_whole(tmp_path / "plot.png") as part:
            names.add(part.name)
            assert part.suffix == ".png"
    assert len(names) == 3


def test_the_longest_name_that_a_file_can_have(tmp_path: Path) -> None:
    for name in ("a" * 251 + ".txt", "." + "b" * 254, "é" * 127, "c." + "d" * 250):
        write_whole(tmp_path / name, name)
        assert (tmp_path / name).read_text() == name


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str, linked: bool) -> None:
    path = tmp_path / "there"
    os.mkfifo(path) if kind == "a pipe" else path.mkdir()
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    with pytest.raises(InputError, match=kind):
        write_whole(path, "text")
    with pytest.raises(InputError, match=kind):
        require_plain(path)
    assert [each for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path / "out"):
        with pytest.raises(InputError, match="a device"):
            write_whole(path, "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_leftovers_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    with writing_whole(tmp_path / "top10.json") as part:
        part.write_text("kept")
    part.write_text("half")
    left = part.name
    remove_leftovers(tmp_path, "pareto")
    assert (tmp_path / left).exists()
    remove_leftovers(tmp_path, "top10")
    assert [each.name for each in tmp_path.iterdir()] == ["top10.json"]


def test_what_is_written_in_place_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, found in (
        ("link", "a link to .*precious"),
        ("nowhere", "a link to .*nothing"),
        ("folder", "a folder"),
        ("pipe", "a pipe"),
    ):
        for flags in (os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND):
            with pytest.raises((InputError, OSError), match=f"{found}|No such device"):
                open_in_place(tmp_path / name, flags)
    assert not (tmp_path / "nothing").exists()
    os.close(open_in_place(tmp_path / "new", os.O_RDWR | os.O_CREAT))
    with pytest.raises(FileNotFoundError):
        open_in_place(tmp_path / "missing", os.O_RDWR)


def test_a_folder_within_a_run_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name in ("linked", "dangling"):
        with pytest.raises(InputError, match="Remove the link"):
            own_folder(tmp_path / name)
        with pytest.raises(InputError, match=name):
            refuse_link(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file"):
        own_folder(tmp_path / "file")
    assert own_folder(own_folder(tmp_path / "new") / "row").is_dir()
    # What lies above may be one.
    assert own_folder(tmp_path / "linked" / "row").is_dir()


def test_files_that_belong_together_are_of_one_writer(tmp_path: Path) -> None:
    paths = (tmp_path / "start.onnx", tmp_path / "step.onnx")

    def write(who: str) -> None:
        for _ in range(50):
            with writing_together(paths) as parts:
                for part in parts:
                    part.write_text(who)

    writers = [threading.Thread(target=write, args=(who,)) for who in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({path.read_text() for path in paths}) == 1
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_of_files_that_belong_together_none_is_written_if_one_fails(tmp_path: Path) -> None:
    paths = (tmp_path / "start.onnx", tmp_path / "step.onnx")
    with pytest.raises(RuntimeError):
        fail(writing_together(paths), lambda parts: parts[0].write_text("new"), RuntimeError())
    paths[1].mkdir()
    with pytest.raises(InputError, match=r"step\.onnx"), writing_together(paths):
        pass
    assert list(tmp_path.iterdir()) == [paths[1]]


def test_a_folder_takes_its_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results"
    with writing_folder(path) as work:
        (work / "a").write_text("a")
        assert not path.exists()
    assert [each.name for each in path.iterdir()] == ["a"]
    (tmp_path / "empty").mkdir()
    with writing_folder(tmp_path / "empty") as work:
        (work / "b").mkdir()
    assert (tmp_path / "empty" / "b").is_dir()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty", "new"]


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail(writing_folder(tmp_path / "a"), lambda work: (work / "x").write_text("x"), KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stands", ["file", "folder", "link"])
def test_a_folder_replaces_nothing(tmp_path: Path, stands: str) -> None:
    path = tmp_path / "results"
    if stands == "file":
        path.write_text("")
    elif stands == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        (path / "inner").mkdir(parents=True)
    with pytest.raises(InputError, match="must be a new one"), writing_folder(path):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["results"]
