"""Of the caches that it finds a driver reads what may be another, and builds again what is not whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from feature_cache import verify as verify_module
from feature_cache.format import TensorSpec
from feature_cache.reader import CacheReader
from feature_cache.whole import note_whole
from feature_cache.writer import CacheWriter
from nasperc.file_stamp import file_stamp
from proxy_tasks import cache_check as module
from proxy_tasks.cache_check import CacheCheck, prepare_cache


class Folder:
    """A cache of given values; how often it was read and built, and what was said."""

    def __init__(self, path: Path) -> None:
        self.path = path / "cache.h5"
        self.values = torch.arange(6.0).view(3, 2)
        self.built = 0
        self.said: list[str] = []
        self.caches: list[tuple[str, str, str | None]] = []

    def build(self) -> None:
        self.built += 1
        with CacheWriter(self.path, {"x": TensorSpec((2,), "float32")}, 3, {"a": 1}) as writer:
            writer.append({"x": self.values})

    def prepare(self, *, verify: bool = False) -> None:
        check = CacheCheck(self.said.append, lambda *found: self.caches.append(found), verify)
        prepare_cache(self.path, self.build, check, lambda phase, fraction: None)

    def work(self) -> None:
        prepare_cache(self.path, self.build, None, lambda phase, fraction: None)

    def flip(self) -> None:
        offset = CacheReader(self.path).header.offsets["x"]
        content = bytearray(self.path.read_bytes())
        content[offset + 2] ^= 1
        self.path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The caches that were read whole."""
    read: list[Path] = []

    def counted(path: Path, *rest: Callable[..., None]) -> object:
        read.append(path)
        return verify_module.verify(path, *rest)

    monkeypatch.setattr("feature_cache.whole.verify", counted)
    return read


def test_what_was_just_written_is_not_read_and_nothing_is_read_twice(
    folder: Folder, readings: list[Path], tmp_path: Path
) -> None:
    folder.prepare(verify=True)
    folder.prepare()
    assert (folder.built, readings) == (1, [])
    shutil.copy2(folder.path, tmp_path / "copy")
    (tmp_path / "copy").replace(folder.path)
    folder.prepare()
    folder.prepare()
    assert (folder.built, len(readings)) == (1, 1)
    folder.prepare(verify=True)
    assert (folder.built, len(readings)) == (1, 2)
    assert len(set(folder.caches)) == 1
    assert folder.said == []


def test_a_flipped_bit_is_said_and_the_cache_built_again(folder: Folder) -> None:
    folder.prepare()
    whole = folder.path.read_bytes()
    folder.flip()
    folder.prepare()
    assert folder.built == 2
    assert folder.path.read_bytes() == whole
    assert len(folder.said) == 1
    assert "cache.h5 is damaged and built again: the SHA-256 of a cache must be" in folder.said[0]
    name, sha256, before = folder.caches[-1]
    assert (name, sha256) == ("cache.h5", before)
    folder.prepare()
    assert folder.built == 2


def test_a_bit_that_no_write_flipped_is_found_by_verify(folder: Folder) -> None:
    folder.prepare()
    folder.flip()
    # As a failing disk would do it: the note is that of the file as it is.
    note = folder.path.with_name(".cache.h5.whole")
    note.unlink()
    note_whole(folder.path, "0" * 64, file_stamp(folder.path))
    folder.prepare()
    assert folder.built == 1
    folder.prepare(verify=True)
    assert folder.built == 2


@pytest.mark.parametrize("content", [b"", b"no cache", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_cache_any_more_is_built_again(folder: Folder, content: bytes) -> None:
    folder.path.write_bytes(content)
    folder.prepare()
    assert folder.built == 1
    assert "is damaged and built again" in folder.said[0]
    assert folder.caches[-1][2] is None


def test_another_cache_than_before_is_told(folder: Folder) -> None:
    folder.prepare()
    first = CacheReader(folder.path).header.sha256
    folder.flip()
    folder.values = folder.values + 1
    folder.prepare()
    _, sha256, before = folder.caches[-1]
    assert before == first
    assert sha256 == CacheReader(folder.path).header.sha256 != first


def test_a_worker_takes_the_drivers_word(folder: Folder, readings: list[Path]) -> None:
    folder.work()
    folder.flip()
    folder.work()
    assert (folder.built, readings, folder.said) == (1, [], [])


def test_a_cache_is_read_under_the_lock_and_only_if_nobody_else_has(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, readings: list[Path]
) -> None:
    """Another driver builds it again while this one waits for the lock."""
    folder.prepare()
    folder.flip()
    lock = module.folder_lock

    def slow(path: Path) -> object:
        folder.build()
        return lock(path)

    monkeypatch.setattr(module, "folder_lock", slow)
    folder.prepare()
    assert (folder.built, readings) == (2, [])
