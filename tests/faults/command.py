"""``nasperc search`` as a process of its own, to be killed at a chosen moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import yaml
from faulty_plugin import read_notes
from listening_sockets import with_descendants

from controllers.service.journal import Event, Journal

PLUGIN = Path(__file__).with_name("faulty_plugin.py")
SPACE = Path(__file__).parents[1] / "nasperc" / "search" / "toy_plugin.py"
# What is searched: a plugin's two stages of 1,287 and 8 networks, one real space of two stages, one of one.
SPACES: dict[str, dict[str, Any]] = {
    "toy": {"name": f"{SPACE}:ToySpace", "body": 8, "choices": 6},
    "fcos_decoder": {"name": "fcos_decoder"},
    "dynamic_cell": {"name": "dynamic_cell", "variant": "4_layers"},
}
PROGRAM = "from nasperc.cli.main import main; main()"
# A Ray under load takes minutes to start; a machine that is only slow shall fail no test.
PATIENCE_S = 900.0
SESSIONS = ("run_start", "run_resume")


def document(
    notes: Path, search: Mapping[str, Any], controller: str = "random", space: str = "toy", **proxy: Any
) -> dict[str, Any]:
    """A recipe for one of ``SPACES``; the faulty proxy task writes ``notes`` (a folder of its own is made for them)
    and takes the keys ``proxy``."""
    return {
        "seed": 3,
        "space": SPACES[space],
        "controller": {"name": controller},
        "proxy": {"name": f"{PLUGIN}:FaultyProxy", "notes": str(notes / "evaluations.jsonl"), **proxy},
        "search": {"executor": "local", "dashboard": False, "early_stop_k": None, **search},
    }


class Command:
    """One process of ``nasperc search`` on the run ``home/runs/run``, which it begins or resumes.

    As a context manager it leaves no process behind, whatever a test finds out.
    """

    def __init__(self, home: Path, recipe: Mapping[str, Any], *options: str, **settings: Any) -> None:
        self.run = home / "runs" / "run"
        # Not beside the run, whose disk may be full; several may run at once.
        self.output = Path(tempfile.mkstemp(prefix="nasperc-search-")[1])
        if (self.run / "recipe.yaml").exists():
            arguments = ["--resume", "runs/run", *options]
        else:
            home.mkdir(parents=True, exist_ok=True)
            (home / "recipe.yaml").write_text(yaml.safe_dump(dict(recipe)))
            arguments = ["--recipe", "recipe.yaml", "--name", "run", *options]
        self._said: str | None = None
        self._notes = Path(recipe["proxy"]["notes"])
        self.sessions_before = len(self.sessions())
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, "search", *arguments],
                cwd=home,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **settings,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._said = self.said()
        self.output.unlink()

    @property
    def journal(self) -> Path:
        return self.run / "journal.jsonl"

    def events(self, *kinds: str) -> list[Event]:
        """Of the journal as it is on the disk now."""
        events = Journal.read(self.journal) if self.journal.exists() else []
        return [event for event in events if not kinds or event["event"] in kinds]

    def sessions(self) -> list[Event]:
        return self.events(*SESSIONS)

    def evaluations(self) -> list[dict[str, Any]]:
        """What its workers have noted so far."""
        return read_notes(self._notes) if self._notes.exists() else []

    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text() if self._said is None else self._said

    def until(self, ready: Callable[[], object]) -> bool:
        """Wait for ``ready``; False when the process ended before."""
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if self.process.poll() is not None:
                return bool(ready())
            assert time.monotonic() < deadline, f"nothing came within {PATIENCE_S:g} s:\n{self.said()}"
            time.sleep(0.01)
        return True

    def ray_did_not_start(self) -> bool:
        """Ray gives a node half a minute to come up; on a busy machine that is not always enough."""
        return self.process.poll() == 2 and "Ray must start" in self.said()

    def until_at_work(self) -> bool:
        """Wait until this process's own service has opened the journal."""
        return self.until(lambda: len(self.sessions()) > self.sessions_before)

    def kill(self) -> None:
        """``kill -9``, in the middle of its work.

        Raises:
            AssertionError: it had ended by itself.
        """
        assert self.process.poll() is None, f"ended before it was killed:\n{self.said()}"
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL

    def finish(self) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(PATIENCE_S)


@contextmanager
def on_ray(home: Path, recipe: Mapping[str, Any], *options: str) -> Iterator[Command]:
    """A command that is at work; begun again where Ray itself did not start."""
    for _ in range(5):
        with Command(home, recipe, *options) as search:
            if search.until_at_work() or not search.ray_did_not_start():
                yield search
                return
    raise AssertionError("Ray did not start five times in a row")


def descendants(pid: int) -> list[int]:
    """Processes that ``pid`` started, and theirs."""
    return sorted(with_descendants(pid) - {pid})


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill_all(pids: list[int]) -> None:
    """``kill -9`` of processes that this test's own command started; those gone already do not matter."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
