"""The consoles of the commands: results to standard output, errors to standard error."""

from __future__ import annotations

import json
from typing import Any

from nasperc.plain_console import PlainConsole

console = PlainConsole(soft_wrap=True)
error_console = PlainConsole(stderr=True, soft_wrap=True)


def print_json(value: Any) -> None:
    """Plain values as JSON on standard output, in ASCII: what a terminal would obey is escaped as JSON does it."""
    # The one control character that JSON leaves as it is.
    console.out(json.dumps(value, indent=2).replace("\x7f", "\\u007f"), highlight=False)
