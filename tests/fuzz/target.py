"""What a target of the fuzzing is, and the documents that several begin with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mutations import Mutation

Read = Callable[[bytes], object]

CSV = b"op1,op2,score,flops\n0,a,0.5,10\n1,a,0.25,20\n0,b,0.75,30\n"


class Target(NamedTuple):
    """``seeds``: valid documents; ``open``: makes the reader in a folder; ``mutate``: one document into another."""

    seeds: Callable[[], list[bytes]]
    open: Callable[[Path], Read]
    mutate: Mutation


def reference_architecture() -> dict[str, Any]:
    """One of the space fcos_decoder."""
    return json.loads((Path(__file__).parents[2] / "experiments" / "nas_fcos_reference.json").read_text())


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()
