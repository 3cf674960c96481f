"""Writing a generated data set to a folder: whole or not at all, and not twice."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nasperc.errors import InputError
from nasperc.plain_files import read_json

MARKER = "synthetic.json"


def write_once(folder: Path, recipe: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a folder of a temporary name, add ``recipe`` as a marker, and rename it to ``folder``.

    A folder that holds this very recipe is left as it is.

    Args:
        folder: to be made.
        recipe: plain JSON values, all that the content depends on.
        write: called with the temporary folder; what it raises leaves nothing behind.

    Raises:
        InputError: ``folder`` holds something else.
    """
    if _is_written(folder, recipe):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write(work)
        (work / MARKER).write_text(json.dumps(recipe, indent=1) + "\n")
        work.chmod(0o755)
        try:
            os.rename(work, folder)
        except OSError:
            # Another process finished first; its data set is as good as ours if it is the same.
            if not _is_written(folder, recipe):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _is_written(folder: Path, recipe: dict[str, Any]) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = read_json(folder / MARKER)
    except (OSError, ValueError):
        found = "something else"
    if found != recipe:
        raise InputError(
            "a synthetic data set is written to a new folder",
            value=found,
            where=folder,
            repair="Choose another one.",
        )
    return True
