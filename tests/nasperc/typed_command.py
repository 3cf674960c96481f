"""A command as a person types it, in this process."""

import sys

import pytest

from nasperc.cli import main as cli


def nasperc(monkeypatch, capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    monkeypatch.setattr(sys, "argv", ["nasperc", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    captured = capsys.readouterr()
    return exit.value.code, captured.out, captured.err
