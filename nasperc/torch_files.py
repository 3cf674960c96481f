"""Reading PyTorch files without running anything in them, and saying in one line why that failed."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasperc.errors import InputError
from nasperc.plain_files import DEEPEST, MOST_VALUES

_CONTAINERS = (dict, list, tuple)
# What torch found, among its advice to load the file unsafely.
_FOUND = re.compile(r"(?:Trying to load unsupported|Unsupported) (?:(?!\. |\.?\n).)*")


def load_torch_file(path: Path, *, rule: str, repair: str) -> Any:
    """The content of a file of tensors and plain values, on the CPU.

    Args:
        path: the file.
        rule: of the error: what the file must be.
        repair: of the error.

    Raises:
        InputError: missing, unreadable, cut short, compressed, changed since it was written (as far as it has
            checksums), or more than tensors and plain values.
    """
    try:
        if path.exists() and not path.is_file():
            # A pipe would be waited for.
            raise ValueError("something that is no plain file")
        _require_stored(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        _require_bounded(content)
        return content
    # Bytes that are no checkpoint make the unpickler fail in every way there is (IndexError and others).
    except Exception as error:
        raise InputError(rule, value=_reason(error), where=path, repair=repair) from error


def _require_stored(path: Path) -> None:
    """Check that a zip archive holds no more bytes than the file (torch stores, and never compresses), and that each
    record has the CRC-32 that stands beside it, which torch does not look at.

    The format before torch 1.6 has no checksums. Nor have archives that were written with those of torch switched off:
    all of theirs are 0.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        size = path.stat().st_size
        compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if compressed or sum(entry.file_size for entry in entries) > size:
            raise ValueError("an archive that unpacks to more than it is, which torch does not write")
        changed = archive.testzip() if any(entry.CRC for entry in entries) else None
    if changed is not None:
        raise ValueError(f"a record that was changed since it was written: {changed}")


def _require_bounded(content: Any) -> None:
    """Check that what hangs together is not too much to go through: a pickle may hold a list in itself many times, and
    a tensor be larger than its numbers."""
    below, seen, depth = [content], 0, 0
    while below:
        for each in below:
            if isinstance(each, Tensor) and each.nbytes > each.untyped_storage().nbytes():
                raise ValueError(f"a tensor of {tuple(each.shape)} with fewer numbers")
        inner = [
            each.values() if isinstance(each, dict) else each
            for each in below
            if isinstance(each, _CONTAINERS)
        ]
        seen, depth = seen + sum(map(len, inner)), depth + 1
        if seen > MOST_VALUES or depth > DEEPEST:
            raise ValueError(f"more than {MOST_VALUES} values, or nested more than {DEEPEST} deep")
        below = [value for values in inner for value in values]


def not_finite(values: Any, name: str = "") -> str | None:
    """The name of a tensor in nested dicts, lists and tuples that holds NaN or infinity; None: there is none."""
    if isinstance(values, Tensor):
        fractions = (values.is_floating_point() or values.is_complex()) and not values.is_meta
        return name if fractions and not bool(torch.isfinite(values).all()) else None
    items = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values)
        if isinstance(values, list | tuple)
        else ()
    )
    found = (not_finite(value, f"{name}.{key}" if name else str(key)) for key, value in items)
    return next((each for each in found if each is not None), None)


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if text.startswith("Weights only load failed"):
        found = _FOUND.search(text)
        return found[0] if found else "more than tensors and plain values"
    return text.splitlines()[0]


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file of weights.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            "a weights file must be readable", value=error.strerror, where=path, repair="Check --weights."
        ) from error
