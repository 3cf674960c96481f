"""Writing files so that a reader sees the old one or the new one, never half of it, and never through a link.

What is written goes to a new file beside the place, which then takes the place. A run's folder may come from elsewhere:
a link that stands where a file is to be written is replaced, not followed; where a folder is to be written into, it is
refused.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nasperc.errors import InputError

# A file's name may have 255 bytes.
_LONGEST_STEM, _LONGEST_SUFFIX = 40, 20


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file, text as UTF-8.

    Args:
        path: of the file; a link is replaced.
        content: of the file.
        durable: it is on the disk when this returns.

    Raises:
        InputError: something that is no file stands there (a folder, a pipe, a device).
        OSError: the disk is full or gone, or the folder is; an old file is left as it was.
    """
    with writing_whole(path, durable=durable) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_whole(path: Path, *, durable: bool = False, suffix: str | None = None) -> Iterator[Path]:
    """Context for a writer that wants a path: it gets that of a new, empty file, which takes the place of ``path``
    at the end, or is removed if the block raises.

    The new file's permissions follow the umask.

    Args:
        path: of the file; a link is replaced.
        durable: it is on the disk when this returns.
        suffix: of the new file, by which some writers choose a format; None: that of ``path``.

    Raises:
        InputError: as :func:`write_whole`.
        OSError: as :func:`write_whole`.
    """
    require_plain(path)
    part = _new_file(path, suffix)
    try:
        yield part
        if durable:
            _sync(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


@contextmanager
def writing_together(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """As :func:`writing_whole`, for files of one folder that belong together: of two who write the same ones at once,
    all files are those of the one or of the other."""
    with ExitStack() as stack:
        for path in paths:
            require_plain(path)
        parts = []
        for path in paths:
            parts.append(_new_file(path))
            stack.callback(parts[-1].unlink, missing_ok=True)
        yield parts
        with _locked_folder(paths[0].parent):
            for part, path in zip(parts, paths, strict=True):
                os.replace(part, path)


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Context for a writer that fills a folder: it gets a new one, which takes the place of ``path`` at the end, or is
    removed with all that is in it if the block raises.

    Raises:
        InputError: something stands there already, but for an empty folder.
        OSError: the disk is full or gone.
    """
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise InputError(
            "a folder of results must be a new one",
            value="something stands there already",
            where=path,
            repair="Name another one, or move that away.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    work = path.with_name(f".{path.name[:_LONGEST_STEM]}.{os.getpid()}-{secrets.token_hex(4)}.part")
    work.mkdir()
    try:
        yield work
        # Over an empty folder too; not over one that somebody filled meanwhile.
        os.rename(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def remove_leftovers(folder: Path, stem: str = "*") -> None:
    """Remove what writers of :func:`writing_whole` that were killed have left; whoever calls this knows that nobody
    writes such files there at this moment.

    Args:
        folder: where they are.
        stem: of the files that were to be written.

    Raises:
        OSError: they cannot be removed.
    """
    for part in folder.glob(f".{stem}.*-*.part*"):
        part.unlink(missing_ok=True)


def require_plain(path: Path) -> None:
    """Check that nothing stands at ``path`` which a file must not replace.

    Raises:
        InputError: a folder, a pipe, a device, a socket, or a link to one of these.
    """
    for status in (path.lstat, path.stat):
        try:
            mode = status().st_mode
        # Nothing there, or a link to nothing.
        except (FileNotFoundError, NotADirectoryError):
            return
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise _not_plain(path, mode)


def own_folder(path: Path) -> Path:
    """Make a folder that lies within a run's, where there is none.

    Raises:
        InputError: a link stands there, or a file.
        OSError: it cannot be made.
    """
    refuse_link(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            "a folder to write into must be one",
            value="a file",
            where=path,
            repair="Move that file away.",
        ) from error
    return path


def refuse_link(path: Path) -> None:
    """Check that ``path`` is no link: who writes there would write anywhere.

    Raises:
        InputError: it is one.
    """
    if path.is_symlink():
        raise link_refused(path)


def link_refused(path: Path) -> InputError:
    """What a link is answered with where nothing may be written through one."""
    try:
        target = os.readlink(path)
    except OSError:
        target = "elsewhere"
    return InputError(
        "nothing within a run's folder is written through a link",
        value=f"a link to {target}",
        where=path,
        repair="Remove the link, or put what it points to in its place. (The run's whole folder may be a link.)",
    )


def open_in_place(path: Path, flags: int) -> int:
    """A descriptor of a plain file that is to be written in place (a journal, a lock, a log), never through a link.

    Args:
        path: of the file.
        flags: of ``os.open``.

    Raises:
        InputError: a link, or no plain file.
        OSError: it cannot be opened.
    """
    # A pipe would wait for its reader.
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError:
        if path.is_symlink():
            raise link_refused(path) from None
        require_plain(path)
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_plain(path, mode)
    return descriptor


def names_file(path: Path, descriptor: int) -> bool:
    """Whether ``path`` is still the name of the open file: of its device and inode, and no link to it."""
    try:
        there, ours = path.lstat(), os.fstat(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def sync_folder(folder: Path) -> None:
    """Make the names of new files durable.

    Raises:
        OSError: the disk is gone.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_file(path: Path, suffix: str | None = None) -> Path:
    """A new, empty file beside ``path``: of a name that nobody knows before, and that no link may have."""
    if suffix is None:
        suffix = path.suffix if len(path.suffix.encode()) <= _LONGEST_SUFFIX else ""
    stem = path.name.removesuffix(path.suffix)[:_LONGEST_STEM]
    while True:
        part = path.with_name(f".{stem}.{os.getpid()}-{secrets.token_hex(4)}.part{suffix}")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        except FileExistsError:
            continue
        os.close(descriptor)
        return part


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    """One at a time puts files into place there; file systems that lock no folders do without."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _not_plain(path: Path, mode: int) -> InputError:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return InputError(
        "what is written must be a plain file",
        value=kinds.get(stat.S_IFMT(mode), "something else"),
        where=path,
        repair="Move that away, or choose another name.",
    )
