"""Which caches a run has measured on: what is built again in the middle of it may be another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from nasperc.plain_files import read_json
from nasperc.whole_files import write_whole

CACHES = "caches.json"


class RunCaches:
    """The SHA-256 of each cache as the run first had it, in ``caches.json`` of its folder.

    Rewards depend on a cache's values, not on its fingerprint alone: on another processor or another version of torch
    the same recipe gives other last bits.

    Args:
        folder: of the run.
        resumed: the run has measured before.
        say: called with a line for the user.
    """

    def __init__(self, folder: Path, *, resumed: bool, say: Callable[[str], None]) -> None:
        self._path, self._resumed, self._say = folder / CACHES, resumed, say
        self._first: dict[str, str] = self._read() if resumed else {}

    def take(self, name: str, sha256: str, before: str | None) -> None:
        """Note a cache, or say that it is not the run's first one.

        Args:
            name: of its file.
            sha256: of the cache.
            before: what the file said of itself that this one has replaced, if that could be read: the first one of a
                run that began before caches were noted.

        Raises:
            OSError: the folder cannot be written to.
        """
        known = name in self._first
        first = self._first.setdefault(name, before if self._resumed and before is not None else sha256)
        if not known:
            write_whole(self._path, json.dumps(self._first, indent=1) + "\n")
        if first != sha256:
            self._say(
                f"{name} is another cache than this run began with (SHA-256 {sha256[:16]} instead of {first[:16]}): "
                "what was measured before and what is measured now do not compare to the last digit"
            )

    def _read(self) -> dict[str, str]:
        try:
            content = read_json(self._path)
            if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
                raise ValueError("no hashes by name")
        except FileNotFoundError:
            # A run of before, or one that ended before it had a cache.
            return {}
        except (OSError, ValueError) as error:
            self._say(f"{self._path} is not readable ({error}): the caches of now count as this run's first")
            return {}
        return content
