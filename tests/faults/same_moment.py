"""Commands that begin in the same millisecond: one process imports everything once, and forks them.

As a program it reads a job a line and answers with exit codes and pids; :class:`SameMoment` is its other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

# From the fork to the moment: long enough for every child to be there.
LEAD_S, SPIN_S = 0.3, 0.005


class Ended(NamedTuple):
    """A command that has ended; ``said``: its output, lines joined."""

    code: int
    pid: int
    said: str


class SameMoment:
    """Starts commands of ``nasperc`` together, again and again; a context manager."""

    def __init__(self, *modules: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, home: Path, commands: Sequence[Sequence[str]]) -> list[Ended]:
        """Run ``commands`` (arguments of nasperc) in ``home``, and wait for all of them."""
        home.mkdir(parents=True, exist_ok=True)
        outputs = [home / f"said-{number}.txt" for number in range(len(commands))]
        job = {"home": str(home), "commands": [list(c) for c in commands], "outputs": list(map(str, outputs))}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        ended = json.loads(self._process.stdout.readline())
        # Words are wrapped where the line ends.
        texts = [" ".join(output.read_text().split()) for output in outputs]
        return [Ended(code, pid, text) for (code, pid), text in zip(ended, texts, strict=True)]


def _serve() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        moment = time.monotonic() + LEAD_S
        pids = [
            _fork(command, job["home"], output, moment)
            for command, output in zip(job["commands"], job["outputs"], strict=True)
        ]
        ended = [(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), pid) for pid in pids]
        print(json.dumps(ended), flush=True)


def _fork(command: list[str], home: str, output: str, moment: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.chdir(home)
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = ["nasperc", *command]
        time.sleep(max(0.0, moment - time.monotonic() - SPIN_S))
        while time.monotonic() < moment:
            pass
        from nasperc.cli.main import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import importlib

    for name in ("nasperc.cli.main", *sys.argv[1:]):
        importlib.import_module(name)
    _serve()
