"""Checking a cache file against its own checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_cache.format import canonical_json, checksum, fingerprint
from feature_cache.header import Header
from feature_cache.opening import REBUILD, probe_header
from nasperc.errors import InputError

BLOCK = 1 << 22


@dataclass(frozen=True)
class VerifyReport:
    """A cache that is as it was written. ``tensors``: name -> (shape of a record, dtype)."""

    path: Path
    count: int
    nbytes: int
    sha256: str
    fingerprint: str
    tensors: dict[str, tuple[tuple[int, ...], str]]
    contents: dict[str, Any]

    def __str__(self) -> str:
        tensors = ", ".join(
            f"{name} {'x'.join(map(str, shape)) or 'scalar'} {dtype}"
            for name, (shape, dtype) in self.tensors.items()
        )
        return (
            f"{self.path}: whole. {self.count} records, {self.nbytes / 2**20:.1f} MiB, "
            f"SHA-256 {self.sha256[:16]}, fingerprint {self.fingerprint[:16]}. {tensors}"
        )


def verify(path: Path) -> VerifyReport:
    """Read every byte and compare.

    Raises:
        InputError: no cache, cut short, or changed since it was written.
    """
    header = probe_header(path)
    datasets = {name: (layout, _digest(path, header, name)) for name, layout in header.layouts.items()}
    found = checksum(fingerprint(header.contents), canonical_json(header.attributes), datasets)
    if found != header.sha256:
        raise InputError(
            f"the SHA-256 of a cache must be the one written in it, {header.sha256}",
            value=found,
            where=path,
            repair=REBUILD,
        )
    return VerifyReport(
        path=path,
        count=header.records,
        nbytes=path.stat().st_size,
        sha256=found,
        fingerprint=header.fingerprint,
        tensors={name: (layout.shape[1:], layout.dtype.name) for name, layout in header.layouts.items()},
        contents=header.contents,
    )


def _digest(path: Path, header: Header, name: str) -> str:
    digest = hashlib.sha256()
    remaining = header.layouts[name].nbytes
    with path.open("rb") as file:
        file.seek(header.offsets[name])
        while remaining:
            block = file.read(min(BLOCK, remaining))
            if not block:
                raise InputError(
                    "a cache must not be cut short",
                    value=f"{remaining} bytes missing",
                    where=path,
                    repair=REBUILD,
                )
            digest.update(block)
            remaining -= len(block)
    return digest.hexdigest()
