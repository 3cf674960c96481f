"""Snapshots of the controller beside the journal, so that resuming need not repeat every update."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from nasperc.errors import InputError
from nasperc.torch_files import load_torch_file
from nasperc.whole_files import remove_leftovers, write_whole

# Snapshots that stay: the last one and those before it.
KEPT = 3
REPLAY = "Delete the file: the run goes on from an older one, or from the start of the stage."


def write_snapshot(folder: Path, number: int, state: dict[str, Any]) -> tuple[str, str]:
    """Write ``state`` (tensors and plain values) durably; returns the file's name and SHA-256.

    The :data:`KEPT` last ones stay. All others are deleted: older ones, those of a journal that was longer
    before it was cut, and what a process that died here has left half-written.

    Raises:
        InputError: no plain file stands in its place.
        OSError: the disk is full or gone; nothing is left of this snapshot then.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / f"controller-{number:08d}.pt"
    write_whole(path, content, durable=True)
    remove_leftovers(folder, "controller-*")
    kept = [name for name in sorted(folder.glob("controller-*.pt")) if name <= path][-KEPT:]
    for other in [*folder.glob("controller-*.pt"), *folder.glob("controller-*.tmp")]:
        if other not in kept:
            other.unlink()
    return path.name, hashlib.sha256(content).hexdigest()


class NotTheSnapshotError(Exception):
    """A file is missing or not the one that the journal names: an older one serves as well."""


def read_snapshot(folder: Path, name: str, sha256: str) -> dict[str, Any]:
    """The state of a snapshot.

    Raises:
        NotTheSnapshotError: the file is missing or not the one that the journal names.
        InputError: it is the one that the journal names, and no snapshot.
    """
    path = folder / Path(name).name
    try:
        # A pipe of that name would be waited for.
        if path.exists() and not path.is_file():
            raise NotTheSnapshotError("no plain file")
        content = path.read_bytes()
    except OSError as error:
        raise NotTheSnapshotError(error.strerror or str(error)) from error
    # A name that no file can have.
    except ValueError as error:
        raise NotTheSnapshotError(str(error)) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise NotTheSnapshotError(f"its SHA-256 is {found[:16]}, the journal has {sha256[:16]}")
    # The file again, not what was read: torch and the checks before it want one. A snapshot is never written twice.
    state = load_torch_file(path, rule="a snapshot must be a file of tensors and plain values", repair=REPLAY)
    if not isinstance(state, dict) or not {"controller", "proposals"} <= state.keys():
        raise bad_snapshot(path, "no controller in it")
    return state


def bad_snapshot(path: Path, found: object) -> InputError:
    """What a snapshot that cannot be used is answered with."""
    return InputError("a snapshot must hold the controller's state", value=found, where=path, repair=REPLAY)
