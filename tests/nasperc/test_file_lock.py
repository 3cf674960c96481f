from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nasperc.errors import InputError
from nasperc.file_lock import FileLock

HOLD = (
    "import sys, time; from pathlib import Path; from nasperc.file_lock import FileLock\n"
    "lock = FileLock(Path(sys.argv[1]), 'one', 'x'); print('held', flush=True); time.sleep(300)"
)


def take(path: Path, **options: object) -> FileLock:
    return FileLock(path, "one at a time", "the same with --take-over", **options)  # type: ignore[arg-type]


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driver.lock"


def test_the_holder_is_named_and_forgotten_when_it_gives_back(path: Path) -> None:
    with take(path) as lock:
        assert json.loads(path.read_text()) == {"pid": os.getpid(), "host": socket.gethostname()}
        with pytest.raises(InputError, match=f"process {os.getpid()} on {socket.gethostname()} holds it"):
            take(path, wait_s=60)
        lock.check()
    assert path.read_text() == ""
    lock.release()
    take(path).release()


def test_what_a_killed_process_has_left_is_taken(path: Path) -> None:
    with held_elsewhere(path) as holder:
        with pytest.raises(InputError, match=f"process {holder.pid} on .*stop that process"):
            take(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert json.loads(path.read_text())["pid"] == holder.pid
        with take(path) as lock:
            assert lock.before.pid == holder.pid


def test_a_predecessor_that_ends_is_waited_for(path: Path) -> None:
    with held_elsewhere(path) as holder:
        threading.Timer(0.5, holder.kill).start()
        with take(path, wait_s=60):
            pass


def test_who_has_only_just_taken_it_is_named(path: Path) -> None:
    """The name is written after the lock was taken; until then the file is empty, or names the one before."""
    with held_elsewhere(path) as holder:
        name = path.read_text()
        for before in ("", json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()})):
            path.write_text(before)
            timer = threading.Timer(0.3, path.write_text, [name])
            timer.start()
            with pytest.raises(InputError, match=f"process {holder.pid} on"):
                take(path)
            timer.join()


def test_a_removed_file_is_made_again(path: Path) -> None:
    with take(path) as lock:
        path.unlink()
        lock.check()
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(InputError, match="holds it"):
            take(path)


def test_who_has_lost_the_lock_to_another_process_is_told_its_name(path: Path) -> None:
    with take(path) as lock:
        path.unlink()
        with held_elsewhere(path) as other, pytest.raises(InputError, match=f"process {other.pid} on"):
            lock.check()
        lock.check()


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with take(tmp_path / "run" / "lock") as lock:
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(InputError, match="moved or removed"):
            lock.check()


def test_another_host_is_respected_until_it_is_said_that_it_is_gone(path: Path) -> None:
    content = json.dumps({"pid": 4, "host": "elsewhere"})
    path.write_text(content)
    with pytest.raises(InputError, match=r"process 4 on elsewhere.*--take-over"):
        take(path)
    assert path.read_text() == content
    inode = path.stat().st_ino
    with take(path, take_over=True) as lock:
        assert tuple(lock.before) == (4, "elsewhere")
        # The file system may grant both hosts a lock on one file: who lives there must find another file in its place.
        assert path.stat().st_ino != inode


def test_a_lock_that_the_file_system_keeps_is_taken_over_by_another_file(path: Path) -> None:
    """As NFS keeps one of a client that is gone: here a process holds it, and names another host."""
    with held_elsewhere(path):
        inode = path.stat().st_ino
        path.write_text(json.dumps({"pid": 4, "host": "elsewhere"}))
        with pytest.raises(InputError, match="--take-over"):
            take(path)
        with take(path, take_over=True) as lock:
            assert path.stat().st_ino != inode
            lock.check()
            with pytest.raises(InputError, match=f"process {os.getpid()} on"):
                take(path)


def test_a_process_that_lives_on_this_host_keeps_its_lock(path: Path) -> None:
    with held_elsewhere(path) as holder, pytest.raises(InputError, match=f"process {holder.pid} on"):
        take(path, take_over=True)


def test_a_link_is_no_lock(tmp_path: Path, path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    path.symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match=r"a link to .*precious"):
        take(path)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"pid": 1}', b'{"pid": 99999999999999999999, "host": "%s"}', b"[" * 9999],
)
def test_what_is_no_holder_is_none(path: Path, content: bytes) -> None:
    path.write_bytes(content.replace(b"%s", socket.gethostname().encode()))
    with take(path) as lock:
        assert not lock.before.is_alive_here


def test_one_of_many_gets_it(path: Path) -> None:
    got: list[FileLock] = []

    def attempt() -> None:
        try:
            got.append(take(path))
        except InputError:
            time.sleep(0)

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()
