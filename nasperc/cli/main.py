"""The ``nasperc`` command: registers the subcommands, turns bad input into one line and exit code 2."""

from __future__ import annotations

import sys

import typer

from nasperc.cli import cache, catalog, convert, cost, evaluate, export, fulltrain, predict, report, search
from nasperc.cli.console import error_console
from nasperc.errors import InputError
from nasperc.training.freed_memory import keep_freed_memory
from proxy_tasks.failure import is_out_of_memory

app = typer.Typer(
    name="nasperc",
    help="Neural architecture search for perception: search, full training, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
search.register(app)
fulltrain.register(app)
evaluate.register(app)
predict.register(app)
export.register(app)
convert.register(app)
cost.register(app)
cache.register(app)
report.register(app)
catalog.register(app)


def main() -> None:
    """Entry point. Exit codes: 0 done, 2 bad input (here or in typer's own checks) or a machine too small for it."""
    keep_freed_memory()
    try:
        app()
    except InputError as error:
        error_console.print("error:", style="bold red", end=" ")
        error_console.print(str(error), markup=False)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        # Sizes within their limits may still be too large for this machine.
        error_console.print("error:", style="bold red", end=" ")
        error_console.print(
            "there must be memory for what was asked for, but it was refused. Use smaller images or batches, or a "
            "machine with more memory.",
            markup=False,
        )
        sys.exit(2)
    except OSError as error:
        # Disk full or no permission, wherever a file was being written: no bug of ours to trace.
        error_console.print("error:", style="bold red", end=" ")
        error_console.print(
            f"{error.strerror or error} (in {error.filename or 'the file system'})", markup=False
        )
        sys.exit(2)
