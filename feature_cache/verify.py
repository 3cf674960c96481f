"""Checking a cache file against its own checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from feature_cache.format import canonical_json, checksum, fingerprint
from feature_cache.header import Header
from feature_cache.opening import REBUILD, probe_header
from nasperc.errors import InputError

# Small enough to stay in the processor's cache between reading and hashing.
BLOCK = 1 << 18


@dataclass(frozen=True)
class VerifyReport:
    """A cache that is as it was written. ``tensors``: name -> (shape of a record, dtype)."""

    path: Path
    header: Header
    nbytes: int
    sha256: str
    tensors: dict[str, tuple[tuple[int, ...], str]]

    def __str__(self) -> str:
        tensors = ", ".join(
            f"{name} {'x'.join(map(str, shape)) or 'scalar'} {dtype}"
            for name, (shape, dtype) in self.tensors.items()
        )
        return (
            f"{self.path}: whole. {self.header.records} records, {self.nbytes / 2**20:.1f} MiB, "
            f"SHA-256 {self.sha256[:16]}, fingerprint {self.header.fingerprint[:16]}. {tensors}"
        )


def verify(path: Path, on_progress: Callable[[float], None] = lambda fraction: None) -> VerifyReport:
    """Read every byte and compare.

    Args:
        path: of the file.
        on_progress: called with the fraction read.

    Raises:
        InputError: no cache, cut short, or changed since it was written.
    """
    header = probe_header(path)
    if header.fingerprint != fingerprint(header.contents):
        raise InputError(
            f"the fingerprint of a cache must be that of its contents, {fingerprint(header.contents)[:16]}",
            value=header.fingerprint[:16],
            where=path,
            repair=REBUILD,
        )
    total, done = sum(layout.nbytes for layout in header.layouts.values()), 0

    def on_read(count: int) -> None:
        nonlocal done
        done += count
        on_progress(done / total)

    datasets = {
        name: (layout, _digest(path, header, name, on_read)) for name, layout in header.layouts.items()
    }
    found = checksum(header.fingerprint, canonical_json(header.attributes), datasets)
    if found != header.sha256:
        raise InputError(
            f"the SHA-256 of a cache must be the one written in it, {header.sha256}",
            value=found,
            where=path,
            repair=REBUILD,
        )
    return VerifyReport(
        path=path,
        header=header,
        nbytes=path.stat().st_size,
        sha256=found,
        tensors={name: (layout.shape[1:], layout.dtype.name) for name, layout in header.layouts.items()},
    )


def _digest(path: Path, header: Header, name: str, on_read: Callable[[int], None]) -> str:
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    remaining = header.layouts[name].nbytes
    # Unbuffered: the bytes are copied once, into the block.
    with path.open("rb", buffering=0) as file:
        file.seek(header.offsets[name])
        while remaining:
            count = file.readinto(block[: min(BLOCK, remaining)])
            if not count:
                raise InputError(
                    "a cache must not be cut short",
                    value=f"{remaining} bytes missing",
                    where=path,
                    repair=REBUILD,
                )
            digest.update(block[:count])
            remaining -= count
            on_read(count)
    return digest.hexdigest()
