"""What a cache file looks like: HDF5 with contiguous, uncompressed datasets, one row a record.

Any HDF5 tool reads it, and because every dataset is one run of bytes at a page boundary, it can be
memory-mapped without HDF5. Root attributes: ``format``, ``version``, ``count``, ``sha256``, ``fingerprint``,
``contents`` (JSON: what the fingerprint covers), ``attributes`` (JSON: what else the writer wants to keep).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

FORMAT = "nasperc-feature-cache"
VERSION = 1
# Memory pages: a dataset that starts on one can be mapped at its offset.
ALIGNMENT = 4096
# HDF5's own metadata for a few dozen datasets; generous, it only enters the disk space check.
METADATA_BYTES = 1 << 20
# Quantised tensors are kept beside their scale and zero under these endings.
SCALE, ZERO = ".scale", ".zero"

Encoding = Literal["plain", "quantised"]


class TensorSpec(NamedTuple):
    """One record of a named tensor.

    ``shape``: without the record dimension; channels last where there are channels. ``dtype``: numpy's name.
    ``quantised``: floats of any range stored as uint8, with one scale and one zero for each record and
    channel (the last dimension); ``dtype`` must be ``uint8`` then.
    """

    shape: tuple[int, ...]
    dtype: str
    quantised: bool = False


class Layout(NamedTuple):
    """One dataset of the file: shape with the record dimension."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole dataset."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def layouts(specs: Mapping[str, TensorSpec], count: int) -> dict[str, Layout]:
    """The datasets that hold ``count`` records of ``specs``."""
    result: dict[str, Layout] = {}
    for name, spec in specs.items():
        result[name] = Layout((count, *spec.shape), np.dtype(spec.dtype))
        if spec.quantised:
            assert spec.dtype == "uint8", f"a quantised tensor is stored as uint8, not {spec.dtype}"
            for ending in (SCALE, ZERO):
                result[name + ending] = Layout((count, spec.shape[-1]), np.dtype("float32"))
    return result


def fingerprint(contents: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of plain values, whatever the order of their keys."""
    return hashlib.sha256(canonical_json(contents).encode()).hexdigest()


def canonical_json(values: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def checksum(fingerprint: str, attributes: str, datasets: Mapping[str, tuple[Layout, str]]) -> str:
    """The file's SHA-256: over fingerprint, attributes and each dataset's name, layout and own SHA-256."""
    digest = hashlib.sha256()
    digest.update(fingerprint.encode())
    digest.update(attributes.encode())
    for name in sorted(datasets):
        layout, data = datasets[name]
        digest.update(f"\n{name} {layout.dtype.str} {layout.shape} {data}".encode())
    return digest.hexdigest()
