"""``make fuzz``: many inputs for every reader, and what became of them.

    python tests/fuzz/long_run.py --inputs 10000 --seed 0 --out build/fuzz [--readers journal,COCO] [--engine random]

Each reader runs in a process of its own, and one whose counts stand in the folder already is not run again. With the
engine ``atheris`` (libFuzzer; pip install "nasperc[fuzz]") coverage of nasperc's code leads the search, and half of
the inputs are its own changes of bytes, the other half the mutations of this folder; ``random`` has the latter alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]
PACKAGES = ["nasperc", "controllers", "search_spaces", "feature_cache", "proxy_tasks"]
SECONDS_AN_INPUT = 30
KEPT_FAILURES = 20
COLUMNS = ("inputs", "accepted", "refused", "failed")


class TooSlow(BaseException):
    """An input takes longer than any reader may; not an Exception, so that no reader takes it for a bad file."""


class Trial:
    """Reads inputs and counts what became of them.

    Args:
        name: of the target.
        inputs: after which the process ends.
        out: folder of the counts and of inputs that failed.
    """

    def __init__(self, name: str, inputs: int, out: Path, seeds: Path) -> None:
        from targets import TARGETS

        self.name, self.inputs, self.out = name, inputs, out
        self.counts: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.failures: list[str] = []
        self.target = TARGETS[name]
        self.seeds = [file.read_bytes() for file in sorted(seeds.iterdir())]
        self._started = time.monotonic()
        # Everything beside this folder was written where nothing may be.
        self._room = Path(
            tempfile.mkdtemp(prefix="nasperc-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        os.chdir(self._room)
        inside = self._room / "inside"
        inside.mkdir()
        if name == "feature cache":
            import forked_probe

            forked_probe.install()
        self._read = self.target.open(inside)
        signal.signal(signal.SIGALRM, self._too_slow)

    def _too_slow(self, number: int, frame: FrameType | None) -> None:
        raise TooSlow

    def read(self, data: bytes) -> None:
        """One input."""
        from nasperc.errors import InputError

        self.counts["inputs"] += 1
        signal.alarm(SECONDS_AN_INPUT)
        try:
            self._read(data)
            self.counts["accepted"] += 1
        except InputError as error:
            self.counts["refused"] += 1
            self.rules[error.rule[:100]] += 1
            if not str(error).isprintable():
                self._fail(data, "an error of more than one printable line")
        except (Exception, TooSlow):
            self._fail(data, traceback.format_exc())
        finally:
            signal.alarm(0)
        if [file.name for file in self._room.iterdir()] != ["inside"]:
            self._fail(data, f"wrote {[file.name for file in self._room.iterdir()]}")
        if self.counts["inputs"] >= self.inputs:
            self.finish()
        if self.counts["inputs"] % 500 == 0:
            self._write(result_file(self.out, self.name).with_suffix(".part"))

    def _fail(self, data: bytes, trace: str) -> None:
        self.counts["failed"] += 1
        last = trace.strip().splitlines()[-1]
        if len(self.failures) < KEPT_FAILURES:
            number = len(self.failures)
            (self.out / f"{self.name.replace(' ', '_')}-{number:02d}.input").write_bytes(data)
            (self.out / f"{self.name.replace(' ', '_')}-{number:02d}.txt").write_text(trace, errors="replace")
        self.failures.append(last)

    def finish(self) -> None:
        """Write the counts and end the process."""
        self._write(result_file(self.out, self.name))
        subprocess.run(["rm", "-rf", str(self._room)], check=True)
        os._exit(0)

    def _write(self, path: Path) -> None:
        found: dict[str, Any] = {name: self.counts[name] for name in COLUMNS}
        found |= {"seconds": round(time.monotonic() - self._started, 1)}
        found |= {"rules": dict(self.rules.most_common()), "failures": dict(Counter(self.failures))}
        path.write_text(json.dumps(found, indent=1) + "\n")

    def mutated(self, data: bytes, seed: int) -> bytes:
        """An input made of ``data``, or of one of the valid documents."""
        draw = Random(seed)
        if not data or draw.random() < 0.5:
            data = draw.choice(self.seeds)
        try:
            for _ in range(draw.choice((1, 1, 2, 4))):
                data = self.target.mutate(data, draw)
        except Exception:
            # The fuzzer would wait for ever.
            traceback.print_exc()
            os._exit(3)
        return data


def result_file(out: Path, name: str) -> Path:
    return out / f"{name.replace(' ', '_')}.json"


def run_atheris(name: str, inputs: int, seed: int, out: Path, seeds: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        trial = Trial(name, inputs, out, seeds)

    def mutate(data: bytes, size: int, number: int) -> bytes:
        return atheris.Mutate(data, len(data)) if number % 2 and data else trial.mutated(data, number)[:size]

    options = [
        f"-seed={seed + 1}",
        "-runs=-1",
        "-max_len=200000",
        "-rss_limit_mb=6000",
        "-timeout=120",
        "-verbosity=0",
        "-report_slow_units=100000",
    ]
    atheris.Setup([sys.argv[0], *options, str(seeds)], trial.read, custom_mutator=mutate)
    atheris.Fuzz()


def run_random(name: str, inputs: int, seed: int, out: Path, seeds: Path) -> None:
    trial = Trial(name, inputs, out, seeds)
    for number in range(inputs):
        trial.read(trial.mutated(b"", seed * inputs + number))


def run(name: str, arguments: argparse.Namespace) -> None:
    """One reader, in a process of its own, from the valid documents in a folder."""
    from targets import TARGETS

    with tempfile.TemporaryDirectory() as seeds:
        for number, document in enumerate(TARGETS[name].seeds()):
            (Path(seeds) / f"{number:02d}").write_bytes(document)
        command = [sys.executable, __file__, "--child", name, "--inputs", str(arguments.inputs)]
        command += ["--seed", str(arguments.seed), "--out", str(arguments.out), "--engine", arguments.engine]
        with (arguments.out / f"{name.replace(' ', '_')}.log").open("wb") as log:
            code = subprocess.run([*command, "--seeds", seeds], stdout=log, stderr=log).returncode
    if not result_file(arguments.out, name).exists():
        print(f"{name}: the process died with {code}; see its .log")


def table(out: Path, names: list[str]) -> str:
    """The counts as Markdown."""
    lines = [
        "| reader | inputs | accepted | refused with InputError | rules met | anything else | s |",
        "| --- |" + " ---: |" * 6,
    ]
    for name in names:
        if result_file(out, name).exists():
            found = json.loads(result_file(out, name).read_text())
            cells = [
                name,
                *(found[key] for key in COLUMNS[:3]),
                len(found["rules"]),
                found["failed"],
                f"{found['seconds']:.0f}",
            ]
        else:
            cells = [name, *["died"] * 6]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    from targets import TARGETS

    parser = argparse.ArgumentParser(description="Fuzz every reader.")
    parser.add_argument("--inputs", type=int, default=10_000, help="of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("atheris", "random"), default="atheris")
    parser.add_argument("--readers", default=",".join(TARGETS), help="names, joined by commas")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        engine = run_atheris if arguments.engine == "atheris" else run_random
        engine(arguments.child, arguments.inputs, arguments.seed, arguments.out, arguments.seeds)
        return
    names = arguments.readers.split(",")
    for name in names:
        if not result_file(arguments.out, name).exists():
            run(name, arguments)
            print(table(arguments.out, [name]).splitlines()[-1], flush=True)
    print(table(arguments.out, names))
    results = [result_file(arguments.out, name) for name in names]
    sys.exit(any(not file.exists() or json.loads(file.read_text())["failed"] for file in results))


if __name__ == "__main__":
    main()
