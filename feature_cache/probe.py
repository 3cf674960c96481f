"""Run as a program: ``python probe.py FILE`` prints what the HDF5 library finds in a cache file, as JSON.

A process of its own because the library can crash, hang or take all memory on a hostile file. It imports nothing
of this project, so that it starts fast, and reads no data.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from typing import Any

MEMORY_BYTES = 2 << 30
CPU_SECONDS = 30
OUTPUT_BYTES = 16 << 20
MOST_DATASETS = 1000


def probe(path: str) -> dict[str, Any]:
    """The root attributes, and shape, dtype, offset and encoding of each dataset.

    Raises:
        OSError, KeyError, ValueError, RuntimeError, TypeError: whatever h5py makes of a broken file.
    """
    import h5py

    with h5py.File(path, "r") as file:
        if len(file) > MOST_DATASETS:
            raise ValueError(f"{len(file)} datasets")
        found = {name: _plain(value) for name, value in file.attrs.items()}
        return found | {"datasets": {name: _dataset(file, name) for name in file}}


def _dataset(file: Any, name: str) -> dict[str, Any]:
    import h5py

    # A link may lead into another file.
    dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is no dataset of this file")
    return {
        "shape": [int(length) for length in dataset.shape],
        "dtype": dataset.dtype.str,
        # None for every storage but the contiguous one in this very file.
        "offset": dataset.id.get_offset() if dataset.external is None else None,
        "encoding": _plain(dataset.attrs.get("encoding")),
    }


def _plain(value: Any) -> str | int | None:
    if isinstance(value, str):
        return value
    return int(value) if getattr(value, "shape", None) == () and value.dtype.kind in "iu" else None


def _limit() -> None:
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: OUTPUT_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        # A lower limit that stands already cannot be raised, and some systems know no limit of memory.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def main(path: str, output: int) -> None:
    """Limit this process, and write what is found in ``path`` to the file descriptor ``output``."""
    _limit()
    try:
        found = probe(path)
    except OSError as error:
        found = {"error": str(error)}
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(output, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.stdout.fileno())
