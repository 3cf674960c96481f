"""What the driver does about the caches of a run before workers exist; workers take its word for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from feature_cache.opening import probe_header, read_header
from feature_cache.whole import read_whole, whole_sha256
from nasperc.assembly.static_network import Progress
from nasperc.errors import InputError
from proxy_tasks.folder_lock import folder_lock

VERIFYING = "verifying"


@dataclass(frozen=True)
class CacheCheck:
    """How a driver looks at caches that it did not write.

    A cache is read where it is not the file that was found whole last (:mod:`feature_cache.whole`), whatever its age.
    One that is not as it was written is built again, and takes the other's place when it is whole.

    Args:
        say: called with a line for the user.
        on_cache: called with the name of each cache, its SHA-256, and what a cache in its place said of itself that
            had to be built again; None: nothing, or there was none.
        verify: read those that were found whole too, but not what this process has just written.
    """

    say: Callable[[str], None]
    on_cache: Callable[[str, str, str | None], None] = lambda name, sha256, before: None
    verify: bool = False

    def prepare(self, path: Path, build: Callable[[], None], on_progress: Progress) -> None:
        """See :func:`prepare_cache`."""
        known = whole_sha256(path) if path.exists() and not self.verify else None
        before = None
        if known is None:
            with folder_lock(path.with_suffix(".lock")):
                # Another process may have made or read it while this one waited.
                known, before = self._found(path, on_progress) if path.exists() else (None, None)
                if known is None:
                    build()
                    known = read_header(path).sha256
        self.on_cache(path.name, known, before)

    def _found(self, path: Path, on_progress: Progress) -> tuple[str | None, str | None]:
        """The SHA-256 of a whole cache; None for one that is not, and the SHA-256 that stands in it."""
        known = None if self.verify else whole_sha256(path)
        if known is not None:
            return known, None
        try:
            return read_whole(path, lambda fraction: on_progress(VERIFYING, fraction)), None
        except (InputError, OSError) as error:
            # As it is shown: parts of it may come from the file.
            found = str(error).removesuffix(error.repair) if isinstance(error, InputError) else error.strerror
            self.say(f"{path} is damaged and built again: {found}")
        with suppress(InputError):
            return None, probe_header(path).sha256
        return None, None


def prepare_cache(
    path: Path, build: Callable[[], None], check: CacheCheck | None, on_progress: Progress
) -> None:
    """Make the cache ``path`` unless it is there, and where a driver asks for it, whole; one process at a time.

    Args:
        path: of the file.
        build: makes it, whole or not at all.
        check: of a driver; None: a worker, for whom it is enough that there is one.
        on_progress: called with ``verifying`` and the fraction read.

    Raises:
        InputError: what ``build`` raises.
    """
    if check is not None:
        check.prepare(path, build, on_progress)
        return
    if path.exists():
        return
    with folder_lock(path.with_suffix(".lock")):
        if not path.exists():
            build()
