from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import controllers.service.journal_file
from controllers.service.journal import Journal
from controllers.service.journal_file import JournalFile, free_journal
from nasperc.errors import InputError

FIRST = {"event": "a", "reward": 0.1}
HOLD = (
    "import fcntl, sys, time\n"
    "file = open(sys.argv[1], 'r+b'); fcntl.flock(file, fcntl.LOCK_EX)\n"
    "print('held', flush=True); time.sleep(300)"
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "run" / "journal.jsonl")
    journal.append(FIRST)
    return journal


def replace(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.write_bytes(path.with_name("moved").read_bytes())


def link(path: Path) -> None:
    """To the very same file."""
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize(
    ("meddle", "found"),
    [
        (Path.unlink, "moved or removed"),
        (remove_folder, "moved or removed"),
        (replace, "another file of its name"),
        (link, "another file of its name"),
    ],
)
def test_a_journal_that_is_no_longer_there_ends_the_writer_and_is_rescued(
    journal: Journal, meddle: Callable[[Path], None], found: str
) -> None:
    meddle(journal.path)
    with pytest.raises(InputError, match=rf"{found}.*journal-rescued-1\.jsonl") as caught:
        journal.append({"event": "b"})
    # Nothing is ever acknowledged again, and nothing rescued twice.
    with pytest.raises(InputError) as again:
        journal.append({"event": "c"})
    assert str(again.value) == str(caught.value)
    rescued = journal.path.with_name("journal-rescued-1.jsonl")
    assert Journal.read(rescued) == [FIRST]
    assert not journal.path.with_name("journal-rescued-2.jsonl").exists()
    journal.close()
    # What is to be done with it.
    journal.path.unlink(missing_ok=True)
    rescued.rename(journal.path)
    assert Journal(journal.path).take_known() == [FIRST]


@pytest.mark.parametrize("meddle", [Path.unlink, remove_folder, replace])
def test_a_journal_that_is_gone_when_it_is_closed_is_rescued(
    journal: Journal, meddle: Callable[[Path], None]
) -> None:
    """The driver may have noticed first, or nothing was left to write."""
    meddle(journal.path)
    with pytest.raises(InputError, match=r"journal-rescued-1\.jsonl"):
        journal.close()
    assert Journal.read(journal.path.with_name("journal-rescued-1.jsonl")) == [FIRST]
    journal.close()


def test_an_emptied_journal_ends_the_writer(journal: Journal) -> None:
    journal.path.write_bytes(b"")
    with pytest.raises(InputError, match=r"0 bytes where \d+ were written.*Nothing of it is left"):
        journal.append({"event": "b"})
    assert journal.path.read_bytes() == b""
    assert not list(journal.path.parent.glob("*rescued*"))


def test_a_cut_journal_is_rescued_as_far_as_it_goes(journal: Journal) -> None:
    whole = journal.path.read_bytes()
    journal.append({"event": "b"})
    os.truncate(journal.path, len(whole) + 3)
    with pytest.raises(InputError, match="bytes where"):
        journal.append({"event": "c"})
    assert Journal.read(journal.path.with_name("journal-rescued-1.jsonl")) == [FIRST]


def test_what_somebody_else_appends_ends_the_writer(journal: Journal) -> None:
    whole = journal.path.read_bytes()
    with journal.path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(InputError, match="bytes where"):
        journal.append({"event": "b"})
    # What was written here, and no more.
    assert journal.path.with_name("journal-rescued-1.jsonl").read_bytes() == whole


def test_a_rescued_file_is_never_overwritten(journal: Journal) -> None:
    first, second = (journal.path.with_name(f"journal-rescued-{number}.jsonl") for number in (1, 2))
    first.write_text("of the last time")
    journal.path.unlink()
    with pytest.raises(InputError, match=r"rescued-2"):
        journal.append({"event": "b"})
    assert first.read_text() == "of the last time"
    assert Journal.read(second) == [FIRST]


def test_a_journal_removed_while_it_is_written_is_not_acknowledged(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def remove(descriptor: int) -> None:
        journal.path.unlink(missing_ok=True)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", remove)
    with pytest.raises(InputError, match="moved or removed"):
        journal.append({"event": "b"})
    assert len(journal) == 1
    # It is on the disk all the same.
    assert Journal.read(journal.path.with_name("journal-rescued-1.jsonl")) == [FIRST, {"event": "b"}]


def test_the_lock_beside_it_that_is_removed_is_made_again(journal: Journal) -> None:
    lock = journal.path.with_name("journal.jsonl.lock")
    lock.unlink()
    journal.append({"event": "b"})
    assert lock.exists()
    journal.close()
    assert lock.read_text() == ""


def test_without_the_lock_beside_it_a_second_writer_is_refused(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody deletes the lock file to be able to resume."""
    monkeypatch.setattr(controllers.service.journal_file, "PREDECESSOR_S", 0.2)
    journal.path.with_name("journal.jsonl.lock").unlink()
    with pytest.raises(InputError, match=r"one writer at a time.*process unknown"):
        JournalFile(journal.path)
    journal.append({"event": "b"})
    assert len(Journal.read(journal.path)) == 2


@pytest.mark.parametrize("name", ["journal.jsonl", "journal.jsonl.lock"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(precious)
    with pytest.raises(InputError, match=r"a link to .*precious.*Remove the link"):
        Journal(tmp_path / "run" / "journal.jsonl")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_journal_is_a_plain_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "journal.jsonl")
    with pytest.raises(InputError, match="a plain file"):
        Journal(tmp_path / "journal.jsonl")


def test_a_lock_that_the_file_system_keeps_is_left_behind_with_the_file(journal: Journal) -> None:
    journal.close()
    whole, inode = journal.path.read_bytes(), journal.path.stat().st_ino
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(journal.path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        free_journal(journal.path)
        assert journal.path.stat().st_ino != inode
        assert journal.path.read_bytes() == whole
        Journal(journal.path).close()
        holder.kill()


def test_a_free_journal_is_left_as_it_is(journal: Journal) -> None:
    journal.close()
    before = journal.path.stat()
    free_journal(journal.path)
    after = journal.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_journal_of_another_host_is_copied_though_its_lock_is_free_here(journal: Journal) -> None:
    journal.close()
    whole, inode = journal.path.read_bytes(), journal.path.stat().st_ino
    beside = journal.path.with_name("journal.jsonl.lock")
    beside.write_text(json.dumps({"pid": 4, "host": "elsewhere"}))
    free_journal(journal.path)
    assert journal.path.stat().st_ino != inode
    assert journal.path.read_bytes() == whole
    Journal(journal.path).close()


def test_ctrl_c_in_the_middle_of_a_write_is_no_meddling(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its way back from the disk: what was written is there, and whoever goes on finds it."""
    real = os.fsync

    def interrupted(descriptor: int) -> None:
        real(descriptor)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.append({"event": "b"})
    monkeypatch.setattr(os, "fsync", real)
    with pytest.raises(InputError, match="once a write was interrupted"):
        journal.append({"event": "c"})
    journal.close()
    assert [event["event"] for event in Journal.read(journal.path)] == ["a", "b"]
    assert not list(journal.path.parent.glob("journal-rescued-*"))
