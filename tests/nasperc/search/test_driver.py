from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from nasperc.errors import InputError
from nasperc.recipe.root import Recipe
from nasperc.search.driver import Driver, begin_run, resume_run
from nasperc.search.run import run_search
from nasperc.search.run_folder import RunFolder

MakeRecipe = Callable[..., Recipe]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Of every file, and when it was written last."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_unnamed_runs_are_numbered(home: Path) -> None:
    (home / "runs" / "search-002").mkdir(parents=True)
    (home / "runs" / "search-004").symlink_to("nowhere")
    drivers = [begin_run(None) for _ in range(3)]
    names = [driver.run.path for driver in drivers]
    assert names == [Path("runs") / f"search-{number:03d}" for number in (1, 3, 5)]


def test_many_that_begin_at_once_have_a_folder_each(home: Path) -> None:
    barrier, drivers = threading.Barrier(16), list[Driver]()

    def begin() -> None:
        barrier.wait()
        drivers.append(begin_run(None))

    threads = [threading.Thread(target=begin) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({driver.run.path for driver in drivers}) == 16


def test_a_folder_that_is_being_prepared_is_not_taken(home: Path, toy_recipe: MakeRecipe) -> None:
    with begin_run(Path("runs/mine")) as first:
        first.run.create(toy_recipe())
        before = contents(first.run.path), first.run.path.stat().st_mtime_ns
        with pytest.raises(InputError, match=f"process {os.getpid()} on"):
            run_search(toy_recipe({"budget": "5"}), Path("runs/mine"))
        with pytest.raises(InputError, match=f"process {os.getpid()} on"):
            run_search(None, Path("runs/mine"), resume=True)
        assert (contents(first.run.path), first.run.path.stat().st_mtime_ns) == before
    # It failed before its first event.
    with begin_run(Path("runs/mine")):
        pass


def test_a_refused_driver_changes_nothing(home: Path, toy_recipe: MakeRecipe, console: Console) -> None:
    run_search(toy_recipe(), Path("run"), console=console)
    with resume_run(RunFolder(Path("run"))):
        before = contents(home / "run"), (home / "run").stat().st_mtime_ns
        with pytest.raises(InputError, match="one writer"):
            run_search(None, Path("run"), resume=True, console=console)
        with pytest.raises(InputError, match="a folder of its own"):
            run_search(toy_recipe(), Path("run"), console=console)
        assert (contents(home / "run"), (home / "run").stat().st_mtime_ns) == before


def test_the_folder_of_a_run_may_be_a_link(home: Path, toy_recipe: MakeRecipe, console: Console) -> None:
    (home / "disk").mkdir()
    (home / "large").symlink_to("disk")
    run_search(toy_recipe(), Path("large/run"), console=console)
    (home / "here").symlink_to("disk/run")
    (home / "prepared").symlink_to("disk/prepared")
    run_search(None, Path("here"), resume=True, console=console)


def test_a_run_as_older_versions_left_it_is_resumed(
    home: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    run_search(toy_recipe(), Path("run"), console=console)
    whole = (home / "run" / "journal.jsonl").read_bytes()
    (home / "run" / "driver.lock").unlink()
    (home / "run" / "journal.jsonl.lock").write_text(
        json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename})
    )
    (home / "run" / "controller-00000001.tmp").write_text("half a snapshot")
    run_search(None, Path("run"), resume=True, console=console)
    assert (home / "run" / "journal.jsonl").read_bytes() == whole


def test_another_host_is_taken_over_when_that_is_said(
    home: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    run_search(toy_recipe(), Path("run"), console=console)
    run = RunFolder(Path("run"))
    gone = json.dumps({"pid": 77, "host": "elsewhere"})
    for lock in (run.driver_lock, run.path / "journal.jsonl.lock"):
        lock.write_text(gone)
        before = contents(run.path)
        with pytest.raises(InputError, match=r"process 77 on elsewhere.*--resume run --take-over"):
            run_search(None, run.path, resume=True, console=console)
        after = contents(run.path)
        assert {**after, "driver.lock": before["driver.lock"]} == before
        run_search(None, run.path, resume=True, take_over=True, console=console)
        run_search(None, run.path, resume=True, console=console)
    run.driver_lock.write_text(gone)
    with resume_run(run, take_over=True) as driver:
        assert driver.taken_from == "process 77 on elsewhere"


def test_a_run_that_an_older_version_drives_is_refused_before_anything_is_done(
    home: Path, toy_recipe: MakeRecipe, console: Console
) -> None:
    run_search(toy_recipe(), Path("run"), console=console)
    run = RunFolder(Path("run"))
    # The one lock that older versions know; a patience of seconds is for services that are about to end.
    with (run.path / "journal.jsonl.lock").open("r+b") as older:
        fcntl.flock(older, fcntl.LOCK_EX)
        older.write(json.dumps({"pid": os.getppid(), "host": os.uname().nodename}).encode())
        older.flush()
        with pytest.raises(InputError, match=f"process {os.getppid()} on"):
            resume_run(run)
    older.close()
    resume_run(run).__exit__()


def test_a_folder_without_a_recipe_is_not_to_be_resumed(home: Path) -> None:
    (home / "new").mkdir()
    (home / "new" / "driver.lock").write_text(json.dumps({"pid": 77, "host": "elsewhere"}))
    with pytest.raises(InputError, match=r"process 77 on elsewhere.*any more: delete new/driver\.lock"):
        begin_run(Path("new"))
    (home / "new" / "driver.lock").unlink()
    begin_run(Path("new")).__exit__()


@pytest.mark.parametrize("name", ["driver.lock", "journal.jsonl", "tensorboard", "ray", "select-body"])
@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_a_run_with_a_link_in_it_is_refused_and_nothing_is_written_there(
    home: Path, toy_recipe: MakeRecipe, console: Console, name: str, target: str
) -> None:
    run_search(toy_recipe(), Path("run"), console=console)
    (home / "folder").mkdir()
    (home / "folder" / "precious").write_text("precious")
    (home / "file").write_text("precious")
    place = home / "run" / name
    if place.exists():
        place.rename(home / "before")
    place.symlink_to(home / target)
    with pytest.raises(InputError, match=rf"a link to .*{target}.*run/{name}.*Remove the link"):
        run_search(None, Path("run"), resume=True, console=console)
    assert [path.name for path in (home / "folder").iterdir()] == ["precious"]
    assert (home / "folder" / "precious").read_text() == (home / "file").read_text() == "precious"
    assert not (home / "nothing").exists()


@pytest.mark.parametrize("name", ["recipe.yaml", "top10.json", "pareto.json"])
def test_a_link_where_a_file_is_written_whole_is_replaced(
    home: Path, toy_recipe: MakeRecipe, console: Console, name: str
) -> None:
    run_search(toy_recipe(), Path("run"), console=console)
    whole = (home / "run" / name).read_bytes() if (home / "run" / name).exists() else b""
    (home / "elsewhere").write_bytes(whole)
    before = (home / "elsewhere").stat().st_mtime_ns
    (home / "run" / name).unlink(missing_ok=True)
    (home / "run" / name).symlink_to(home / "elsewhere")
    run_search(None, Path("run"), resume=True, console=console)
    assert ((home / "elsewhere").read_bytes(), (home / "elsewhere").stat().st_mtime_ns) == (whole, before)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("name", ["driver.lock", "journal.jsonl.lock", "top10.json"])
def test_what_is_no_file_is_named(
    home: Path, toy_recipe: MakeRecipe, console: Console, name: str, make: Callable[[Path], None]
) -> None:
    run_search(toy_recipe(), Path("run"), console=console)
    (home / "run" / name).unlink()
    make(home / "run" / name)
    with pytest.raises(InputError, match=rf"a plain file.*run/{name}"):
        run_search(None, Path("run"), resume=True, console=console)


def test_a_run_that_another_driver_has_taken_is_let_go(home: Path) -> None:
    with begin_run(Path("run")) as driver:
        driver.check()
        driver.run.driver_lock.unlink()
        with begin_run(Path("run")), pytest.raises(InputError, match="holds it"):
            driver.check()
