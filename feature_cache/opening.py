"""Getting at the header of a cache file without letting the HDF5 library touch it in this process.

The library can crash, hang or take all memory on a hostile file, so it reads in a process of its own
(``probe.py``). What it found is signed with a key that this run's processes alone have (in their environment) and
kept beside the cache: a run pays for one such process, not each of its workers. A file that somebody placed there
cannot be signed, and a cache that was changed since does not fit the signature.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from feature_cache.format import FORMAT, VERSION
from feature_cache.header import Header, parse_header
from feature_cache.probe import OUTPUT_BYTES
from nasperc.errors import InputError
from nasperc.whole_files import write_whole

REBUILD = "Delete the file: it is built again by the next run."
# The environment goes down to the workers that a driver starts, and to nobody else.
KEY = "NASPERC_RUN_KEY"
SECONDS = 60.0
_PROBE = Path(__file__).with_name("probe.py")


def read_header(path: Path) -> Header:
    """Layout and attributes of a cache file; the HDF5 library is not needed after this, and not loaded here.

    Raises:
        InputError: no file, no cache, another version, cut short, or one that the HDF5 library dies of.
    """
    header = _signed_header(path)
    if header is None:
        header = probe_header(path)
        sign(path, header)
    return header


def sign(path: Path, header: Header) -> None:
    """Vouch for a cache that this run has written or probed, to the other processes of this run."""
    text = json.dumps({"file": _identity(path), "header": header.to_plain()})
    # A folder that cannot be written to, or a full disk: each worker probes for itself then.
    with suppress(OSError, InputError):
        write_whole(_record(path), f"{_signature(text)}\n{text}")


def probe_header(path: Path) -> Header:
    """The header, read by a process of its own whoever vouches for the file.

    Raises:
        InputError: as :func:`read_header`.
    """
    if not path.is_file():
        raise InputError(
            "a cache file must exist", value="no such file", where=path, repair="Check the path."
        )
    found = _probe(path)
    error = found.get("error")
    kind, version = found.get("format"), found.get("version")
    if error is None and (kind != FORMAT or version != VERSION):
        raise InputError(
            f"a feature cache must have the format {FORMAT!r}, version {VERSION}",
            value=f"format {kind!r}, version {version}",
            where=path,
            repair=REBUILD if kind == FORMAT else "Give a cache file that nasperc wrote.",
        )
    try:
        if error is not None:
            raise ValueError(error)
        return parse_header(found, path.stat().st_size)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as problem:
        short = "truncated" in str(problem)
        rule = "a cache must not be cut short" if short else "a cache must be a readable HDF5 file"
        raise InputError(rule, value=problem, where=path, repair=REBUILD) from problem


def _probe(path: Path) -> dict[str, Any]:
    # -P: nothing is imported from the folder that the command was typed in.
    command = [sys.executable, "-P", str(_PROBE), os.fspath(path.absolute())]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                env=environment,
            )
        except subprocess.TimeoutExpired as error:
            raise _deadly(path, f"nothing after {SECONDS:g} s") from error
        if done.returncode < 0:
            raise _deadly(path, f"its end by {signal.Signals(-done.returncode).name}")
        output.seek(0)
        try:
            found = json.loads(output.read(OUTPUT_BYTES))
        except (ValueError, RecursionError) as error:
            raise _deadly(path, f"exit code {done.returncode} and no answer") from error
    assert isinstance(found, dict)
    return found


def _deadly(path: Path, found: str) -> InputError:
    return InputError(
        "the HDF5 library must be able to read a cache", value=found, where=path, repair=REBUILD
    )


def _signed_header(path: Path) -> Header | None:
    """The header that a process of this run has signed; None without one, or if the cache is another now."""
    try:
        given, _, text = _record(path).read_text(encoding="utf-8").partition("\n")
        if not hmac.compare_digest(given.encode(), _signature(text).encode()):
            return None
        record = json.loads(text)
        return (
            parse_header(record["header"], path.stat().st_size) if record["file"] == _identity(path) else None
        )
    except (OSError, ValueError):
        return None


def _record(path: Path) -> Path:
    return path.with_name(f".{path.name}.header")


def _identity(path: Path) -> list[Any]:
    """Which file this is, and when it was last written to."""
    status = path.stat()
    return [path.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _signature(text: str) -> str:
    key = os.environ.setdefault(KEY, secrets.token_hex(32))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
