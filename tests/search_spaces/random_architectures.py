"""Random architectures of every space and variant, examined: ``python tests/search_spaces/random_architectures.py``.

Each is validated, brought to its canonical form, built and trained a step (no crash, nothing NaN or infinite). Every
fourth is compared with others: written in another allowed way, with its weights carried over node by node, it must
compute the same; with one token changed, so that its canonical form differs, and every other node's weights kept, it
must compute something else.

Each variant's counts are kept in a file in ``--out``: started again, the script goes on where it ended. An
architecture depends on the seed and on its number alone. The exit code is 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cell_networks import CellNetworks
from fcos_networks import FcosNetworks
from raw_networks import DIFFERENT, Comparison, RawNetworks

from nasperc.whole_files import write_whole
from search_spaces.base import ORIGINAL, Architecture

# A space of networks joins by its line here (and by the shared contract in its own tests).
NETWORKS: dict[str, Callable[[], RawNetworks]] = {
    "fcos_decoder-nas_fcos": partial(FcosNetworks, "nas_fcos"),
    "fcos_decoder-thesis": partial(FcosNetworks, "thesis"),
    "dynamic_cell-4_layers": partial(CellNetworks, "4_layers"),
    "dynamic_cell-5_layers": partial(CellNetworks, "5_layers"),
}
# The variants take turns, and their counts are kept, after so many architectures.
TURN = 20
# Of so many architectures one is compared with others, which takes three times as long as all else.
COMPARE = 4


@dataclass
class Tally:
    """Counts of one variant; ``findings`` holds all that should not be.

    ``compared``: how many were written in another way and had a token changed. ``pairs``: for how many of them other
    tokens of the same network were found; ``farthest_pair``: the largest deviation of their outputs.
    ``nearest_change``: the smallest after a change of one token; ``redrawn``: how many of these needed other weights
    to be seen. ``..._decades``: how many there are of each power of ten. ``kept``: single-token changes drawn beside
    these that kept the canonical form; ``farthest_alike``: the largest deviation of these, and of the canonical forms
    that were tried.
    """

    done: int = 0
    originals: int = 0
    compared: int = 0
    pairs: int = 0
    farthest_pair: float = 0.0
    nearest_change: float = float("inf")
    redrawn: int = 0
    pair_decades: dict[str, int] = field(default_factory=dict)
    change_decades: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    farthest_alike: float = 0.0
    cpu_seconds: float = 0.0
    findings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, networks: RawNetworks, seed: int) -> None:
        """Examine the next architecture."""
        index, start = self.done, time.process_time()
        try:
            found = networks.examine(seed, index, compare=index % COMPARE == 0)
        except Exception as error:  # A crash is what is looked for: it is counted, and the others go on.
            self.findings.append({"index": index, "what": f"{type(error).__name__}: {error}"})
        else:
            self.originals += ORIGINAL in found.architecture.parts.values()
            if found.comparison is not None:
                self._add_comparison(index, found.architecture, found.comparison)
        self.done += 1
        self.cpu_seconds += time.process_time() - start

    def _add_comparison(self, index: int, architecture: Architecture, found: Comparison) -> None:
        note = partial(self._note, index, architecture)
        self.compared += 1
        self.redrawn += found.draws > 1
        self.kept += found.kept
        self.farthest_alike = max(self.farthest_alike, found.alike)
        if not found.same(found.alike):
            note(architecture, f"one canonical form is {found.alike:.1e} off")
        self.nearest_change = min(self.nearest_change, found.change)
        _count(self.change_decades, found.change)
        if found.rewritten is not None:
            self.pairs += 1
            self.farthest_pair = max(self.farthest_pair, found.pair)
            _count(self.pair_decades, found.pair)
            if not found.same(found.pair):
                note(found.rewritten, f"the same network is {found.pair:.1e} off")
        if not found.change >= DIFFERENT:
            note(found.changed, f"another network is {found.change:.1e} off")

    def _note(self, index: int, architecture: Architecture, other: Architecture, what: str) -> None:
        pair = [architecture.to_dict()["parts"], other.to_dict()["parts"]]
        self.findings.append({"index": index, "what": what, "parts": pair})


def _count(decades: dict[str, int], value: float) -> None:
    decade = f"1e{math.floor(math.log10(value))}" if 0 < value < math.inf else str(value)
    decades[decade] = decades.get(decade, 0) + 1


def read(path: Path) -> Tally:
    """The counts so far."""
    return Tally(**json.loads(path.read_text())) if path.exists() else Tally()


def report(tallies: dict[str, Tally]) -> str:
    """Markdown."""
    lines = [
        "| space, variant | architectures | of them with an original part | crash, NaN | pairs of one canonical form | "
        "farthest apart | token changes that alter it | of them seen with other weights only | nearest | "
        "changes that kept it | farthest apart | findings | CPU s |",
        "|---" * 13 + "|",
    ]
    for name, tally in tallies.items():
        broken = sum("parts" not in finding for finding in tally.findings)
        cells = (
            name.replace("-", ", "),
            tally.done,
            tally.originals,
            broken,
            tally.pairs,
            f"{tally.farthest_pair:.1e}",
            tally.compared,
            tally.redrawn,
            f"{tally.nearest_change:.1e}",
            tally.kept,
            f"{tally.farthest_alike:.1e}",
            len(tally.findings),
            f"{tally.cpu_seconds:.0f}",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines.append("\n| deviations by power of ten | of the same network | of another |\n|---|---|---|")
    for name, tally in tallies.items():
        spread = ("; ".join(f"{key}: {decades[key]}" for key in sorted(decades, key=float))
                  for decades in (tally.pair_decades, tally.change_decades))  # fmt: skip
        lines.append(f"| {name.replace('-', ', ')} | " + " | ".join(spread) + " |")
    for name, tally in tallies.items():
        lines.extend(f"{name} {json.dumps(finding)}" for finding in tally.findings)
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Examine what is missing, print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="architectures of each variant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("build/random_architectures"))
    parser.add_argument("--report", action="store_true", help="examine nothing, print what is there")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    files = {name: arguments.out / f"{name}-seed{arguments.seed}.json" for name in arguments.only}
    tallies = {name: read(path) for name, path in files.items()}
    networks = {name: NETWORKS[name]() for name in arguments.only}
    while not arguments.report and (behind := min(tallies, key=lambda name: tallies[name].done)):
        tally = tallies[behind]
        if tally.done >= arguments.count:
            break
        for _ in range(min(TURN, arguments.count - tally.done)):
            tally.add(networks[behind], arguments.seed)
        write_whole(files[behind], json.dumps(asdict(tally), indent=1))
    print(report(tallies))
    return 1 if any(tally.findings for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
