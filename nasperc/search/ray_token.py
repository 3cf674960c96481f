"""The token of a local Ray: whoever has it runs code as this user, so the file is for this user alone.

Ray would write it with the permissions of any file, readable for everybody on most machines.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from nasperc.errors import InputError

# FAT, and some file systems of networks and in user space.
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

# With one of these the token lies where the user says.
_ELSEWHERE = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def private_token(*, make: bool) -> list[str]:
    """Make ``~/.ray/auth_token`` before Ray does, for this user alone; close one that others can read or exchange.

    Nothing is done where Ray's own variables name another token or ask for none (``RAY_AUTH_TOKEN``,
    ``RAY_AUTH_TOKEN_PATH``, ``RAY_AUTH_MODE``).

    Args:
        make: whether a missing one is made; a cluster has its own.

    Returns:
        What was changed of files that were there, a line each.

    Raises:
        InputError: the file belongs to another user, who could run code here with it; it cannot be written.
    """
    if any(os.environ.get(name) for name in _ELSEWHERE):
        return []
    # Ray's own rule for a Ray that it starts itself: without the variable it asks for a token.
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return []
    token = Path.home() / ".ray" / "auth_token"
    try:
        if make and not token.exists():
            token.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(token.resolve())
        if not token.exists():
            return []
        # Whoever can write to the folder can put a token of his own there.
        return _close(token.parent, 0o022) + _close(token, 0o077)
    except OSError as error:
        raise InputError(
            "the token of Ray must be a file of this user",
            value=error.strerror or error,
            where=token,
            repair="Make its folder writable, or name another file with RAY_AUTH_TOKEN_PATH.",
        ) from error


def _make(token: Path) -> None:
    """A new token under its name, whole from the beginning; one that appeared meanwhile stays."""
    whole = token.with_name(f".auth_token-{secrets.token_hex(8)}")
    # As Ray's own: 256 bits, hexadecimal, without a newline.
    secret = secrets.token_hex(32)
    _write_new(whole, secret)
    try:
        # Unlike a rename it fails where another start was first, whose Ray has that token already.
        os.link(whole, token)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        with suppress(FileExistsError):
            _write_new(token, secret)
    finally:
        whole.unlink()


def _write_new(path: Path, text: str) -> None:
    """A file of this user alone, on the disk.

    Raises:
        FileExistsError: there is one of that name.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(file)


def _close(path: Path, others: int) -> list[str]:
    """Take the permissions ``others`` away from what lies at ``path`` (a link is followed: it is the user's)."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(file)
        if os.getuid() not in (0, found.st_uid) and found.st_uid != 0:
            raise InputError(
                "the token of Ray must belong to the user who runs it",
                value=f"the user with number {found.st_uid}",
                where=path,
                repair="Remove it, or name another file with RAY_AUTH_TOKEN_PATH.",
            )
        if not found.st_mode & others:
            return []
        mode = stat.S_IMODE(found.st_mode)
        could = "read" if others & 0o044 else "write to"
        try:
            os.fchmod(file, mode & ~others)
        except PermissionError:
            return [f"{path} lets other users {could} it (mode {mode:o}), and this user cannot change that"]
        return [f"{path} let other users {could} it (mode {mode:o}): now {mode & ~others:o}"]
    finally:
        os.close(file)
