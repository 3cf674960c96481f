"""What a cache file says of itself: everything but the data."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, get_args

import numpy as np

from feature_cache.format import FORMAT, SCALE, VERSION, ZERO, Encoding, Layout

# Plain numbers only: anything else (objects, records) would be built from bytes that somebody else chose.
_KINDS = frozenset("biuf")


class Header(NamedTuple):
    """Everything of a cache file but the data. ``offsets``: of each dataset, in bytes from the start."""

    records: int
    fingerprint: str
    contents: dict[str, Any]
    attributes: dict[str, Any]
    sha256: str
    layouts: dict[str, Layout]
    offsets: dict[str, int]
    quantised: frozenset[str]

    def to_plain(self) -> dict[str, Any]:
        """Plain values that :func:`parse_header` takes."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "count": self.records,
            "fingerprint": self.fingerprint,
            "contents": json.dumps(self.contents),
            "attributes": json.dumps(self.attributes),
            "sha256": self.sha256,
            "datasets": {
                name: {
                    "shape": list(layout.shape),
                    "dtype": layout.dtype.str,
                    "offset": self.offsets[name],
                    "encoding": "quantised" if name in self.quantised else "plain",
                }
                for name, layout in self.layouts.items()
            },
        }


def parse_header(plain: dict[str, Any], size: int) -> Header:
    """The header from plain values, every one of them checked: they come from a file that anybody may have made.

    Args:
        plain: the root attributes by name, and ``datasets``: shape, dtype, offset and encoding of each.
        size: of the file in bytes; every dataset must lie inside.

    Raises:
        ValueError: says what is wrong; "truncated" where the file is too short.
    """
    if not all(
        isinstance(plain.get(key), str) for key in ("fingerprint", "contents", "attributes", "sha256")
    ):
        raise ValueError("fingerprint, contents, attributes and sha256 must be text")
    records, contents, attributes = plain["count"], *map(json.loads, (plain["contents"], plain["attributes"]))
    if not isinstance(contents, dict) or not isinstance(attributes, dict):
        raise ValueError("contents and attributes must be JSON objects")
    datasets: dict[str, Any] = plain["datasets"]
    layouts = {name: _layout(name, entry, records, size) for name, entry in datasets.items()}
    quantised = frozenset(name for name, entry in datasets.items() if entry["encoding"] == "quantised")
    for name in quantised:
        shape = layouts[name].shape
        scales = Layout((shape[0], *shape[1:][-1:]), np.dtype("float32"))
        if layouts[name].dtype != np.uint8 or any(layouts.get(name + end) != scales for end in (SCALE, ZERO)):
            raise ValueError(f"dataset {name} is no quantised tensor with its scale and zero")
    return Header(
        records=records,
        fingerprint=plain["fingerprint"],
        contents=contents,
        attributes=attributes,
        sha256=plain["sha256"],
        layouts=layouts,
        offsets={name: entry["offset"] for name, entry in datasets.items()},
        quantised=quantised,
    )


def _layout(name: str, entry: dict[str, Any], records: Any, size: int) -> Layout:
    shape, offset, dtype = tuple(entry["shape"]), entry["offset"], np.dtype(entry["dtype"])
    if offset is None:
        raise ValueError(f"dataset {name} is not contiguous")
    if entry["encoding"] not in get_args(Encoding):
        raise ValueError(f"dataset {name} has the encoding {entry['encoding']}")
    if dtype.kind not in _KINDS:
        raise ValueError(f"dataset {name} is of {dtype}, not of numbers")
    if not shape or shape[0] != records or records < 1:
        raise ValueError(f"dataset {name} has shape {shape} in a cache of {records} records")
    # Python's integers: numpy's would wrap around.
    end = offset + dtype.itemsize
    for length in shape:
        end += (end - offset) * (length - 1)
    if min(shape) < 0 or offset < 0 or end > size:
        raise ValueError(f"truncated: {size} bytes, {name} ends at {end}")
    return Layout(shape, dtype)
