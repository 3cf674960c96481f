"""The consoles of the commands: results to standard output, errors to standard error."""

from __future__ import annotations

from rich.console import Console

console = Console(highlight=False, soft_wrap=True)
error_console = Console(stderr=True, highlight=False, soft_wrap=True)
