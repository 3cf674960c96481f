import hashlib
import os
import time

import pytest

from nasperc.data import content
from nasperc.data.content import LIST, FileHashes
from nasperc.errors import InputError
from nasperc.file_stamp import file_stamp


@pytest.fixture
def files(tmp_path):
    (tmp_path / "data").mkdir()
    paths = [tmp_path / "data" / f"{k} \x7f é.png" for k in range(3)]
    for k, path in enumerate(paths):
        path.write_bytes(bytes([k]) * 1000)
    return paths


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "prepared"


def wanted(files):
    return tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


def read(folder, files):
    """The hashes, how far reading was each time it was told, and what was said."""
    hashes, fractions = FileHashes(folder), []
    return hashes.of(files, fractions.append), fractions, hashes.notes


def test_every_file_is_read_once(files, folder):
    found, fractions, notes = read(folder, files)
    assert found == wanted(files)
    assert fractions == pytest.approx([1 / 3, 2 / 3, 1])
    assert notes == []
    before = file_stamp(folder / LIST)
    assert read(folder, files) == (found, [], [])
    assert file_stamp(folder / LIST) == before
    # Nothing is written to where the data are.
    assert sorted(files[0].parent.iterdir()) == sorted(files)


def test_a_file_of_another_stamp_is_read_again(files, folder):
    read(folder, files)
    status = files[1].stat()
    files[1].write_bytes(b"x" * 1000)
    os.utime(files[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    found, fractions, _ = read(folder, files)
    assert found == wanted(files)
    assert fractions == [1]
    # A copy of another inode with all its times set back is another file, too.
    other = files[0].with_name("other")
    other.write_bytes(b"y" * 1000)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(files[1])
    assert read(folder, files)[0] == wanted(files)


def test_a_file_named_twice_is_read_once(files, folder, monkeypatch):
    monkeypatch.chdir(files[0].parent)
    relative = files[0].relative_to(files[0].parent)
    found, fractions, _ = read(folder, [files[0], relative])
    assert found == wanted([files[0]]) * 2
    assert fractions[-1] == 1
    assert (folder / LIST).read_text().count("\n") == 2


def flip_hash(text):
    line = text.splitlines()[1]
    return text.replace(line, ("0" if line[0] != "0" else "1") + line[1:])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_hash, "checksum"),
        (lambda text: text[:-10], "checksum"),
        (lambda text: text + "\n", "checksum"),
        (lambda text: "", "no such list"),
        (lambda text: "{}", "no such list"),
    ],
)
def test_a_damaged_list_is_built_anew_and_that_is_said(files, folder, damage, said):
    read(folder, files)
    list_file = folder / LIST
    list_file.write_text(damage(list_file.read_text()))
    found, fractions, notes = read(folder, files)
    assert found == wanted(files)
    assert len(fractions) == 3
    assert len(notes) == 1
    assert said in notes[0]
    assert str(list_file) in notes[0]
    assert read(folder, files) == (found, [], [])


def test_lines_that_are_none_are_damage_even_below_the_right_checksum(files, folder):
    read(folder, files)
    body = b"0123 not a line\n"
    (folder / LIST).write_bytes(content._head(body) + b"\n" + body)
    found, _, notes = read(folder, files)
    assert found == wanted(files)
    assert "a line '0123" in notes[0]


def test_a_list_without_an_end_is_not_read(files, folder, monkeypatch):
    read(folder, files)
    monkeypatch.setattr(content, "MOST_BYTES", 100)
    found, _, notes = read(folder, files)
    assert found == wanted(files)
    assert "more than 100 bytes" in notes[0]


def test_what_another_process_wrote_meanwhile_is_kept(files, folder):
    one, other = FileHashes(folder), []

    def meanwhile(fraction):
        if not other:
            other.append(FileHashes(folder).of(files[:1]))

    one.of(files[1:], meanwhile)
    assert read(folder, files) == (wanted(files), [], [])


def test_an_interrupted_reading_is_not_lost(files, folder):
    def interrupt(fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FileHashes(folder).of(files, interrupt)
    assert len(read(folder, files)[1]) == 1


def test_a_folder_that_cannot_be_written_to_costs_another_reading_only(files, folder):
    folder.write_text("a file")
    for _ in range(2):
        found, fractions, _ = read(folder, files)
        assert found == wanted(files)
        assert len(fractions) == 3


def changing(monkeypatch, file, times):
    """From outside: the file is written to while it is read, so many times."""
    digest, left = hashlib.file_digest, [times]

    def while_read(stream, name):
        found = digest(stream, name)
        if left[0]:
            left[0] -= 1
            # Later than the tick of the file system's clock.
            time.sleep(0.03)
            file.write_bytes(b"z%d" % left[0] * 500)
        return found

    monkeypatch.setattr(hashlib, "file_digest", while_read)


def test_a_file_that_changes_while_it_is_read_is_read_again(files, folder, monkeypatch):
    changing(monkeypatch, files[0], 1)
    assert read(folder, files)[0] == wanted(files)
    changing(monkeypatch, files[0], 9)
    files[0].write_bytes(b"!" * 1000)
    with pytest.raises(InputError, match="must not change while it is read"):
        read(folder, files)


def test_what_is_no_file_is_one_clear_line(files, folder):
    os.mkfifo(files[0].with_name("pipe"))
    for file in (files[0].with_name("missing"), files[0].with_name("pipe"), files[0].parent):
        with pytest.raises(InputError, match="must be readable") as error:
            read(folder, [file])
        assert error.value.where == str(file)
