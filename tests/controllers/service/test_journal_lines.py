"""The chain of lines, against one that is computed here by hashlib alone."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.service.journal import Journal
from controllers.service.journal_lines import encode, hash_of, parse
from nasperc.errors import InputError

PATH = Path("journal.jsonl")


def old_line(event: dict[str, object]) -> bytes:
    """As it was written before lines were chained."""
    text = json.dumps(event, separators=(",", ":")).encode()
    return text[:-1] + f',"crc":"{zlib.crc32(text):08x}"}}\n'.encode()


def chain(count: int) -> list[bytes]:
    lines: list[bytes] = []
    prev = hashlib.sha256(b"").hexdigest()
    for number in range(1, count + 1):
        lines.append(encode({"event": "a", "value": number}, number, prev))
        prev = hash_of(lines[-1])
    return lines


def test_every_line_carries_its_number_and_the_hash_of_the_one_before() -> None:
    before = b""
    for number, line in enumerate(chain(4), start=1):
        values = json.loads(line)
        assert list(values)[-3:] == ["n", "prev", "crc"]
        assert values["n"] == number
        assert values["prev"] == hashlib.sha256(before).hexdigest()
        before = line.rstrip(b"\n")
    parsed = parse(b"".join(chain(4)), PATH)
    assert parsed.events == [{"event": "a", "value": number} for number in (1, 2, 3, 4)]
    assert parsed.prev == hashlib.sha256(before).hexdigest()
    assert parsed.dropped is None


@pytest.mark.parametrize(
    ("order", "line"),
    # A line is missing, at the front, in the middle; doubled; swapped.
    [([1, 2, 3], 1), ([0, 2, 3], 2), ([0, 1, 1, 2], 3), ([0, 2, 1, 3], 2), ([1, 0, 2, 3], 1)],
)
def test_lines_that_are_not_in_their_place_are_named(order: list[int], line: int) -> None:
    lines = chain(4)
    with pytest.raises(InputError, match=rf"must follow the one before it.*line {line}\b.*missing, doubled"):
        parse(b"".join(lines[index] for index in order), PATH)


def test_a_line_of_another_journal_is_named_at_the_line_after_it() -> None:
    lines = chain(4)
    lines[1] = encode({"event": "a", "value": 99}, 2, hash_of(lines[0]))
    with pytest.raises(InputError, match=r"after another line.*line 3\b"):
        parse(b"".join(lines), PATH)


def test_the_chain_of_an_old_journal_begins_with_the_hash_of_all_before(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    old = old_line({"event": "a", "value": 1}) + old_line({"event": "a", "value": 2})
    path.write_bytes(old)
    assert len(Journal.read(path)) == 2
    journal = Journal(path)
    journal.append({"event": "run_resume", "time": 0.0, "session": "s"}, {"event": "b"})
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    third, fourth = json.loads(lines[2]), json.loads(lines[3])
    assert (third["n"], third["prev"]) == (3, hashlib.sha256(old).hexdigest())
    assert (fourth["n"], fourth["prev"]) == (4, hashlib.sha256(lines[2].rstrip(b"\n")).hexdigest())
    assert len(Journal.read(path)) == 4
    # What came before the chain is bound by it, too: two old lines swapped, then one changed with its checksum.
    for changed in ([1, 0, 2, 3], [0, 0, 2, 3]):
        path.write_bytes(b"".join(lines[index] for index in changed))
        with pytest.raises(InputError, match=r"line 3\b"):
            Journal.read(path)
    path.write_bytes(old_line({"event": "a", "value": 7}) + b"".join(lines[1:]))
    with pytest.raises(InputError, match=r"line 3\b"):
        Journal.read(path)


def test_an_older_version_may_go_on_with_a_chained_journal() -> None:
    resumed = old_line({"event": "run_resume", "time": 0.0, "session": "s"})
    content = b"".join([*chain(2), resumed, old_line({"event": "a"})])
    parsed = parse(content, PATH)
    assert len(parsed.events) == 4
    assert parsed.prev == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match=r"without number.*line 3\b"):
        parse(b"".join([*chain(2), old_line({"event": "a"})]), PATH)


def test_lines_from_the_middle_are_chained_among_themselves() -> None:
    lines = chain(5)
    assert [event["value"] for event in parse(b"".join(lines[2:]), PATH, before=2).events] == [3, 4, 5]
    for order in ([2, 4], [3, 4], [2, 3, 3]):
        with pytest.raises(InputError, match="must follow"):
            parse(b"".join(lines[index] for index in order), PATH, before=2)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_flipped_bit_goes_unseen(data: st.DataObject) -> None:
    content = bytearray(b"".join(chain(6)))
    whole = parse(bytes(content), PATH).events
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        parsed = parse(bytes(content), PATH)
    except InputError:
        return
    # Where a line feed is gone, two lines are one.
    assert parsed.dropped is not None
    assert parsed.events == whole[: len(parsed.events)]
    assert len(parsed.events) >= 4


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=8))
def test_only_the_beginning_of_a_journal_is_a_journal(order: list[int]) -> None:
    lines = chain(6)
    content = b"".join(lines[index] for index in order)
    if order == list(range(len(order))):
        assert len(parse(content, PATH).events) == len(order)
    else:
        with pytest.raises(InputError):
            parse(content, PATH)
