import json
import os
import signal
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from controllers.service.journal import Journal
from controllers.service.journal_file import free_journal
from controllers.service.journal_lines import Dropped
from nasperc.errors import InputError

EVENTS = [
    {"event": "a", "reward": 0.1, "text": 'é\n"crc":"'},
    {"event": "b", "parts": {"x": [1, 2]}},
    {"event": "c", "m": None},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    journal = Journal(tmp_path / "run" / "journal.jsonl")
    journal.append(*EVENTS[:2])
    journal.append(EVENTS[2])
    journal.close()
    return journal.path


def test_reads_what_was_written(path: Path) -> None:
    assert Journal.read(path) == EVENTS


def test_every_line_is_json_with_its_checksum(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 3
    for line, event in zip(lines, EVENTS, strict=True):
        values = json.loads(line)
        crc = values.pop("crc")
        bare = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
        assert crc == f"{zlib.crc32(bare):08x}"
        del values["n"], values["prev"]
        assert values == event


def test_goes_on_where_it_ended(path: Path) -> None:
    journal = Journal(path)
    assert journal.take_known() == EVENTS
    journal.append({"event": "c"})
    assert journal.since(0) == [*EVENTS, {"event": "c"}]
    assert journal.since(2) == [EVENTS[2], {"event": "c"}]
    assert journal.since(4) == []
    journal.close()
    assert Journal.read(path) == [*EVENTS, {"event": "c"}]


def test_is_readable_while_it_is_written(path: Path) -> None:
    journal = Journal(path)
    journal.append({"event": "c"})
    assert Journal.read(path)[-1] == {"event": "c"}
    journal.close()


def test_cut_anywhere_keeps_every_record_that_ends_before(path: Path) -> None:
    content = path.read_bytes()
    ends = [index for index, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        # A record ends before its line feed.
        expected = EVENTS[: sum(end <= cut for end in ends)]
        assert Journal.read(path) == expected
        journal = Journal(path)
        journal.append({"event": "later"})
        journal.close()
        assert Journal.read(path) == [*expected, {"event": "later"}]


def test_a_damaged_last_line_is_dropped_by_who_goes_on_and_by_nobody_else(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-5] + b"\0\0\0\0\n")
    with pytest.raises(InputError, match=r"last line .* checksum.*line 3.*--resume"):
        Journal.read(path)
    assert Journal.read(path, to_open=True) == EVENTS[:2]
    journal = Journal(path)
    length = len(content.splitlines()[-1])
    assert journal.dropped == Dropped(3, length, torn=False)
    journal.append({"event": "c"})
    journal.close()
    assert Journal.read(path) == [*EVENTS[:2], {"event": "c"}]


def test_a_torn_last_line_is_named_too(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    journal = Journal(path)
    assert journal.dropped == Dropped(3, len(content.splitlines()[-1]) - 19, torn=True)
    journal.close()
    # Who opens it and is refused takes nothing away.
    assert path.read_bytes() == content[:-20]
    journal = Journal(path)
    assert journal.dropped is not None
    journal.append({"event": "a"})
    journal.close()
    journal = Journal(path)
    assert journal.dropped is None
    journal.close()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [(b"0.1", b"0.2", 1), (b'"event":"a"', b'"event":', 1), (b"\n{", b"\nrubbish\n{", 2)],
)
def test_a_damaged_line_before_the_last_is_named(path: Path, old: bytes, new: bytes, line: int) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    for reader in (Journal.read, Journal):
        with pytest.raises(InputError, match=f"line {line}"):
            reader(path)
    # The refusal gave the lock back.
    path.write_bytes(content)
    Journal(path).close()


def test_no_journal_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Journal.read(tmp_path / "journal.jsonl")


def test_a_second_writer_is_refused_by_name(path: Path) -> None:
    journal = Journal(path)
    with pytest.raises(InputError, match=f"process {os.getpid()} on {socket.gethostname()}"):
        Journal(path)
    journal.close()
    Journal(path).close()


def test_the_lock_of_a_killed_process_is_taken_over(path: Path) -> None:
    code = (
        "import sys, time; from controllers.service.journal import Journal; j = Journal(sys.argv[1]); "
        "print('ready', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    with pytest.raises(InputError, match=f"process {holder.pid} on"):
        Journal(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    lock = path.with_name("journal.jsonl.lock")
    assert json.loads(lock.read_text())["pid"] == holder.pid
    journal = Journal(path)
    assert json.loads(lock.read_text()) == {"pid": os.getpid(), "host": socket.gethostname()}
    journal.close()


def test_the_lock_of_another_host_is_respected(path: Path) -> None:
    lock = path.with_name("journal.jsonl.lock")
    lock.write_text(json.dumps({"pid": 4, "host": "elsewhere"}))
    with pytest.raises(InputError, match=r"process 4 on elsewhere.*--take-over"):
        Journal(path)
    assert json.loads(lock.read_text())["pid"] == 4
    free_journal(path)
    Journal(path).close()


def test_a_full_disk_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    real, calls = os.pwrite, []

    def full(fd: int, content: bytes, offset: int) -> int:
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(1)
        return real(fd, content[:10], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match="No space left"):
        journal.append({"event": "lost"})
    monkeypatch.undo()
    # What was not written may stand in its writer's memory: it must not go on as if it were on the disk.
    with pytest.raises(InputError, match="No space left"):
        journal.append({"event": "after"})
    journal.close()
    assert Journal.read(path) == EVENTS


def test_what_is_no_json_is_refused(path: Path) -> None:
    journal = Journal(path)
    with pytest.raises(ValueError, match="JSON"):
        journal.append({"reward": float("nan")})
    journal.close()
    assert Journal.read(path) == EVENTS
