"""A cache is read once: not when it was just written, not when nothing happened to it, never by its age."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from feature_cache.format import TensorSpec
from feature_cache.reader import CacheReader
from feature_cache.whole import read_whole, whole_sha256
from feature_cache.writer import CacheWriter
from nasperc.errors import InputError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "cache.h5"
    with CacheWriter(path, {"x": TensorSpec((1000,), "float32")}, 3, {"a": 1}) as writer:
        writer.append({"x": torch.rand(3, 1000)})
    return path


def flip(path: Path) -> None:
    offset = CacheReader(path).header.offsets["x"]
    with path.open("r+b") as file:
        file.seek(offset + 5000)
        byte = file.read(1)[0]
        file.seek(offset + 5000)
        file.write(bytes([byte ^ 0x40]))


def test_what_was_just_written_is_known_to_be_whole(cache: Path) -> None:
    assert whole_sha256(cache) == CacheReader(cache).header.sha256


def test_a_written_byte_is_noticed_even_if_size_and_time_are_as_before(cache: Path) -> None:
    before = cache.stat()
    flip(cache)
    os.utime(cache, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.stat().st_size == before.st_size
    assert whole_sha256(cache) is None
    with pytest.raises(InputError, match="SHA-256 of a cache must be"):
        read_whole(cache)
    assert whole_sha256(cache) is None


def test_a_copy_is_read_once(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for file in (cache, cache.with_name(".cache.h5.whole")):
        shutil.copy2(file, tmp_path / "there")
    copy = tmp_path / "there" / "cache.h5"
    assert whole_sha256(copy) is None
    read: list[float] = []
    assert read_whole(copy, read.append) == CacheReader(cache).header.sha256
    assert read[-1] == 1.0
    assert whole_sha256(copy) == CacheReader(cache).header.sha256


def test_a_cache_may_be_old(cache: Path) -> None:
    os.utime(cache, ns=(1, 1))
    read_whole(cache)
    assert whole_sha256(cache) is not None


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b'{"stamp": 1}', b'{"stamp": [1, 2, 3, 4], "sha256": "a"}']
)
def test_a_note_that_is_none_is_not_believed(cache: Path, note: bytes) -> None:
    cache.with_name(".cache.h5.whole").write_bytes(note)
    assert whole_sha256(cache) is None


def test_a_note_of_no_hash_is_not_believed(cache: Path) -> None:
    note = cache.with_name(".cache.h5.whole")
    note.write_text(json.dumps({**json.loads(note.read_text()), "sha256": 5}))
    assert whole_sha256(cache) is None


def test_without_a_cache_nothing_is_known(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no\.h5"):
        whole_sha256(tmp_path / "no.h5")
