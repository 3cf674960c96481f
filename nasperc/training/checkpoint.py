"""Checkpoints: a dict of tensors and plain values, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nasperc.errors import InputError
from nasperc.torch_files import load_torch_file
from nasperc.whole_files import writing_whole

FORMAT = "nasperc-checkpoint/1"
_REPAIR = "Give a checkpoint.pt that nasperc wrote; if it was cut short, train again with the same command."


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` (tensors, numbers, strings, None, lists and dicts of these) to ``path``.

    It is written beside ``path``, flushed to disk and renamed: after a crash the old file or the new one is
    there, whole.

    Raises:
        InputError: the file cannot be written (disk full, no permission); an old one is left as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing_whole(path, durable=True) as part:
            torch.save({"format": FORMAT, **content}, part)
    # torch reports a full disk as a RuntimeError of its archive writer.
    except (OSError, RuntimeError) as error:
        raise InputError(
            "a checkpoint must be writable",
            value=str(error).splitlines()[0],
            where=path,
            repair="Make room or choose another folder, then type the same command: the last one is kept.",
        ) from error


def load_checkpoint(path: Path, keys: tuple[str, ...] = (), repair: str = _REPAIR) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Args:
        path: the file.
        keys: what the content must have.
        repair: what can be done about a file that is none.

    Raises:
        InputError: missing, unreadable, cut short, changed, of another format, or without one of ``keys``.
    """
    content = load_torch_file(path, rule="a checkpoint must be a whole file", repair=repair)
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise InputError(
            f"a checkpoint must have the format {FORMAT}", value=found, where=path, repair=repair
        )
    require_keys(content, keys, path, repair)
    return content


def require_keys(
    content: Mapping[str, Any], keys: tuple[str, ...], path: Path, repair: str = _REPAIR
) -> None:
    """Raises InputError unless the content of the checkpoint ``path`` has ``keys``."""
    for key in keys:
        if key not in content:
            raise InputError(f"a checkpoint must hold '{key}'", value="none", where=path, repair=repair)
