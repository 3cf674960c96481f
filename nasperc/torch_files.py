"""Reading PyTorch files without running anything in them, and saying in one line why that failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from nasperc.errors import InputError

# What torch found, among its advice to load the file unsafely.
_FOUND = re.compile(r"(?:Trying to load unsupported|Unsupported) (?:(?!\. |\.?\n).)*")


def load_torch_file(path: Path, *, rule: str, repair: str) -> Any:
    """The content of a file of tensors and plain values, on the CPU.

    Args:
        path: the file.
        rule: of the error: what the file must be.
        repair: of the error.

    Raises:
        InputError: missing, unreadable, cut short, or more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # Bytes that are no checkpoint make the unpickler fail in every way there is (IndexError and others).
    except Exception as error:
        raise InputError(rule, value=_reason(error), where=path, repair=repair) from error


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if text.startswith("Weights only load failed"):
        found = _FOUND.search(text)
        return found[0] if found else "more than tensors and plain values"
    return text.splitlines()[0]
