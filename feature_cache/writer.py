"""Writing a cache: whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from torch import Tensor

from feature_cache.format import (
    ALIGNMENT,
    FORMAT,
    METADATA_BYTES,
    SCALE,
    VERSION,
    ZERO,
    TensorSpec,
    canonical_json,
    checksum,
    fingerprint,
    layouts,
)
from feature_cache.header import Header
from feature_cache.opening import sign
from feature_cache.quantise import quantise
from feature_cache.whole import note_whole
from nasperc.errors import InputError
from nasperc.file_stamp import file_stamp


class CacheWriter:
    """A context in which records are appended; the file appears under its name when all are there.

    The layout is HDF5's, made first; the bytes go to the datasets' offsets by plain writes, so that a full
    disk is reported by the operating system at the write that meets it, not by HDF5 when it flushes.

    Args:
        path: of the finished file. Until then the data are in a file beside it with a unique name.
        specs: the named tensors of one record.
        count: how many records there will be.
        contents: plain values that the fingerprint covers: everything that the records depend on.
        attributes: plain values that are kept beside.

    Raises:
        InputError: the disk has not enough room, checked before the first byte and reserved then.
    """

    def __init__(
        self,
        path: Path,
        specs: Mapping[str, TensorSpec],
        count: int,
        contents: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.specs = dict(specs)
        self.count = count
        self._contents = contents
        self._attributes = dict(attributes or {})
        self._layouts = layouts(specs, count)
        self._digests = {name: hashlib.sha256() for name in self._layouts}
        self._written = 0
        self._partial = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")
        self._offsets: dict[str, int] = {}
        self._descriptor = -1

    @property
    def nbytes(self) -> int:
        """Upper bound of the finished file's size in bytes."""
        return METADATA_BYTES + sum(layout.nbytes + ALIGNMENT for layout in self._layouts.values())

    def __enter__(self) -> CacheWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.path.parent).free
        if free < self.nbytes:
            raise self._disk_full(free)
        try:
            self._create()
            self._descriptor = os.open(self._partial, os.O_RDWR)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._descriptor, 0, os.fstat(self._descriptor).st_size)
        except OSError as error:
            self._discard()
            if _is_disk_full(error):
                raise self._disk_full() from error
            raise
        return self

    def append(self, records: Mapping[str, Tensor]) -> None:
        """Write the next records: every named tensor, with the same number of rows.

        Raises:
            ValueError: a tensor is missing or has another shape than its spec, or there are too many records.
            InputError: a number is not finite, or too large for its type; the disk is full.
        """
        if set(records) != set(self.specs):
            raise ValueError(f"records have {sorted(records)}, the cache holds {sorted(self.specs)}")
        rows = {len(tensor) for tensor in records.values()}
        if len(rows) != 1:
            raise ValueError(f"the tensors of one call must have the same number of rows, got {sorted(rows)}")
        start, stop = self._written, self._written + rows.pop()
        if stop > self.count:
            raise ValueError(f"the cache was announced with {self.count} records, this makes {stop}")
        for name, tensor in records.items():
            if tuple(tensor.shape[1:]) != self.specs[name].shape:
                raise ValueError(f"{name} must be {self.specs[name].shape}, got {tuple(tensor.shape[1:])}")
            values = tensor.detach().cpu().numpy()
            self._require_finite(name, values)
            if not self.specs[name].quantised:
                self._write(name, start, values)
                continue
            for ending, part in zip(("", SCALE, ZERO), quantise(values), strict=True):
                self._write(name + ending, start, part)
        self._written = stop

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard()
            return
        if self._written != self.count:
            self._discard()
            raise ValueError(f"the cache was announced with {self.count} records, got {self._written}")
        try:
            self._finish()
        except BaseException as failure:
            self._discard()
            if isinstance(failure, OSError) and _is_disk_full(failure):
                raise self._disk_full() from failure
            raise

    def _create(self) -> None:
        """The empty file: all datasets allocated, so that their offsets are known."""
        with h5py.File(self._partial, "w-", alignment_threshold=1, alignment_interval=ALIGNMENT) as file:
            file.attrs.update(
                {
                    "format": FORMAT,
                    "version": VERSION,
                    "count": self.count,
                    "fingerprint": fingerprint(self._contents),
                    "contents": canonical_json(self._contents),
                    "attributes": canonical_json(self._attributes),
                    "sha256": "0" * 64,
                }
            )
            for name, layout in self._layouts.items():
                properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                properties.set_layout(h5py.h5d.CONTIGUOUS)
                properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                # The same records make the same bytes.
                properties.set_obj_track_times(False)
                dataset = h5py.h5d.create(
                    file.id,
                    name.encode(),
                    h5py.h5t.py_create(layout.dtype, logical=True),
                    h5py.h5s.create_simple(layout.shape),
                    properties,
                )
                self._offsets[name] = dataset.get_offset()
                quantised = name in self.specs and self.specs[name].quantised
                h5py.Dataset(dataset).attrs["encoding"] = "quantised" if quantised else "plain"

    def _require_finite(self, name: str, values: np.ndarray) -> None:
        spec = self.specs[name]
        stored = np.dtype("float32" if spec.quantised else spec.dtype)
        if stored.kind != "f" or not values.size:
            return
        # Either is NaN where any value is.
        low, high = float(values.min()), float(values.max())
        most = float(np.finfo(stored).max)
        if not (-most <= low and high <= most):
            raise InputError(
                f"what is cached must be finite numbers of {stored.name}, at most {most:g}",
                value=f"{low:g} to {high:g}",
                where=f"{name} of {self.path.name}",
                repair="Check the weights that it is computed with, or cache float32 (recipe key proxy.dtype).",
            )

    def _write(self, name: str, start: int, values: np.ndarray) -> None:
        layout = self._layouts[name]
        data = np.ascontiguousarray(values, dtype=layout.dtype).reshape(-1).view(np.uint8).data
        self._digests[name].update(data)
        position = self._offsets[name] + start * (layout.nbytes // self.count)
        try:
            while data:
                done = os.pwrite(self._descriptor, data, position)
                data, position = data[done:], position + done
        except OSError as error:
            if _is_disk_full(error):
                raise self._disk_full() from error
            raise

    def _finish(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        sha256 = checksum(
            fingerprint(self._contents),
            canonical_json(self._attributes),
            {name: (layout, self._digests[name].hexdigest()) for name, layout in self._layouts.items()},
        )
        with h5py.File(self._partial, "r+") as file:
            file.attrs.modify("sha256", sha256)
        descriptor = os.open(self._partial, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(self._partial, self.path)
        sign(self.path, self._header(sha256))
        # Hashed on its way to the disk: it need not be read again.
        note_whole(self.path, sha256, file_stamp(self.path))

    def _header(self, sha256: str) -> Header:
        """What this process has written, without asking the file."""
        return Header(
            records=self.count,
            fingerprint=fingerprint(self._contents),
            contents=dict(self._contents),
            attributes=self._attributes,
            sha256=sha256,
            layouts=self._layouts,
            offsets=self._offsets,
            quantised=frozenset(name for name, spec in self.specs.items() if spec.quantised),
        )

    def _discard(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._partial.unlink(missing_ok=True)

    def _disk_full(self, free: int | None = None) -> InputError:
        if free is None:
            free = shutil.disk_usage(self.path.parent).free
        return InputError(
            f"a cache of {_gib(self.nbytes)} must fit on the disk",
            value=f"{_gib(free)} free",
            where=self.path.parent,
            repair="Free some space, choose another folder, or cache fewer views or 8-bit features.",
        )


def _is_disk_full(error: OSError) -> bool:
    # HDF5 wraps the system's error and leaves its number in the text only.
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or f"errno = {errno.ENOSPC}," in str(error)


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB"
