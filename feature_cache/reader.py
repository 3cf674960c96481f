"""Reading a cache: memory-mapped, shared by all workers of a node through the page cache."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from feature_cache.format import SCALE, ZERO, fingerprint
from feature_cache.header import Header
from feature_cache.opening import read_header
from feature_cache.quantise import dequantise
from nasperc.errors import InputError


class CacheReader:
    """The named tensors of a cache file.

    Each process maps the file when it first reads; an object sent to another process maps it there anew.

    Args:
        path: of the file.
        expect: the contents that the cache must have been made from; None takes any.

    Raises:
        InputError: see :func:`feature_cache.opening.read_header`; or the cache was made from other contents.
    """

    def __init__(self, path: Path, expect: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._expect = None if expect is None else dict(expect)
        self.header = read_header(path)
        self._tensors: dict[str, Tensor] = {}
        self.device = torch.device("cpu")
        if expect is not None and fingerprint(expect) != self.header.fingerprint:
            raise _other_contents(path, self.header, expect)

    def __reduce__(self) -> tuple[object, ...]:
        return (CacheReader, (self.path, self._expect))

    def __len__(self) -> int:
        return self.header.records

    @property
    def names(self) -> tuple[str, ...]:
        """The named tensors, without the scales of quantised ones."""
        hidden = {name + ending for name in self.header.quantised for ending in (SCALE, ZERO)}
        return tuple(name for name in self.header.layouts if name not in hidden)

    @property
    def nbytes(self) -> int:
        """Bytes of all datasets."""
        return sum(layout.nbytes for layout in self.header.layouts.values())

    def tensor(self, name: str) -> Tensor:
        """All records of ``name`` as stored (count, ...), without a copy; it must not be written to."""
        if name not in self._tensors:
            layout = self.header.layouts[name]
            # Copy-on-write: torch wants writable memory, and nothing that is written can reach the file.
            mapped = np.memmap(
                self.path, dtype=layout.dtype, mode="c", offset=self.header.offsets[name], shape=layout.shape
            )
            self._tensors[name] = torch.from_numpy(mapped).to(self.device)
        return self._tensors[name]

    def batch(self, names: Iterable[str], indices: Tensor) -> dict[str, Tensor]:
        """The records at ``indices`` (int64, (N,)): each named tensor (N, ...); quantised ones as float32."""
        # Without waiting: a blocking copy would empty the queue of a GPU at every batch.
        indices = indices.to(self.device, non_blocking=True)
        result = {}
        for name in names:
            rows = self.tensor(name).index_select(0, indices)
            if name in self.header.quantised:
                scale, zero = (
                    self.tensor(name + ending).index_select(0, indices) for ending in (SCALE, ZERO)
                )
                rows = dequantise(rows, scale, zero)
            result[name] = rows
        return result

    def to_device(self, device: torch.device) -> CacheReader:
        """Keep all tensors on ``device`` from now on; returns itself."""
        if device != self.device:
            self.device = device
            self._tensors.clear()
        return self


def _other_contents(path: Path, header: Header, expect: Mapping[str, Any]) -> InputError:
    """Names the first thing that differs: "another backbone" helps, two hashes do not."""
    key, wanted, found = _first_difference(json.loads(json.dumps(dict(expect))), header.contents)
    return InputError(
        f"the cache must have been made with {key} = {_short(wanted)}",
        value=f"{_short(found)} (cache {header.fingerprint[:12]}, wanted {fingerprint(expect)[:12]})",
        where=path,
        repair="Name the folder of the matching cache, or delete this one: the next run builds it again.",
    )


def _first_difference(wanted: Any, found: Any, path: str = "") -> tuple[str, Any, Any]:
    """The place and the two values of the first difference, however deep it lies."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        key = next(key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key))
        return _first_difference(wanted.get(key), found.get(key), f"{path}.{key}" if path else key)
    return path, wanted, found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
