"""Readers of what was kept of files that were hashed before: whatever stands there, the hash that counts is right."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from target import Read, dump
from weight_targets import cache_seeds


def file_hash_seeds() -> list[bytes]:
    from nasperc.data.content import LIST, FileHashes

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "a.png").write_bytes(b"an image")
        FileHashes(Path(name)).of([Path(name) / "a.png"])
        return [(Path(name) / LIST).read_bytes()]


def open_file_hashes(folder: Path) -> Read:
    """``file-hashes.txt``: a list that nobody signed, of other files or of none."""
    from nasperc.data.content import LIST, FileHashes

    image = folder / "a.png"
    image.write_bytes(b"an image")
    wanted = hashlib.sha256(b"an image").hexdigest()

    def read(data: bytes) -> None:
        (folder / LIST).write_bytes(data)
        assert FileHashes(folder).of([image]) == (wanted,)

    return read


def hashes_seeds() -> list[bytes]:
    return [f"{hashlib.sha256(b'1').hexdigest()}\n{hashlib.sha256(b'2').hexdigest()}\n".encode()]


def open_earlier_hashes(folder: Path) -> Read:
    """``images-*.sha256``: what a fingerprint stood for, from which the first file that changed is found."""
    from nasperc.data.dataset import DetectionDataset

    (folder / "a.png").write_bytes(b"an image")
    dataset = DetectionDataset("toy", "train", ("cat",), ())
    dataset.files = lambda: (folder / "a.png", folder / "a.png")  # type: ignore[method-assign]
    dataset.read_files(folder)

    def read(data: bytes) -> None:
        (folder / "images-0123456789abcdef.sha256").write_bytes(data)
        assert dataset.changed_since(lambda fingerprint: True) in (None, folder / "a.png")

    return read


def caches_seeds() -> list[bytes]:
    return [dump({"cache-1.h5": "0" * 64})]


def open_run_caches(folder: Path) -> Read:
    """``caches.json`` of a run that is resumed."""
    from nasperc.search.run_caches import CACHES, RunCaches
    from nasperc.shown_text import printable

    def say(line: str) -> None:
        assert printable(line).isprintable()

    def read(data: bytes) -> None:
        (folder / CACHES).write_bytes(data)
        RunCaches(folder, resumed=True, say=say).take("cache-2.h5", "1" * 64, None)
        assert json.loads((folder / CACHES).read_bytes())["cache-2.h5"]

    return read


def whole_seeds() -> list[bytes]:
    return [dump({"stamp": [1, 2, 3, 4], "sha256": "0" * 64})]


def open_whole(folder: Path) -> Read:
    """The note that a cache was found whole, of another file."""
    from feature_cache.whole import whole_sha256

    path = folder / "c.h5"
    path.write_bytes(cache_seeds()[0])

    def read(data: bytes) -> None:
        (folder / ".c.h5.whole").write_bytes(data)
        assert whole_sha256(path) is None

    return read
