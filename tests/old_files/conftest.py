"""Unpacks the files of an older version, and types commands beside them."""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "nasperc"))

from typed_command import nasperc

# By archive: the folder below that of the test.
ARCHIVES = {"files": ".", "odd_annotations": "odd", "before_tasks": "before_tasks"}


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    for name, below in ARCHIVES.items():
        with tarfile.open(Path(__file__).with_name(f"{name}.tar.xz")) as archive:
            archive.extractall(folder / below, filter="data")
    return folder


@pytest.fixture
def old(unpacked: Path, tmp_path: Path) -> Path:
    """A copy of all of them, free to be changed."""
    return shutil.copytree(unpacked, tmp_path / "old")


@pytest.fixture(params=["files", "before_tasks"])
def either(old: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of one of the versions that a whole search and its full trainings are kept of."""
    return old / ARCHIVES[request.param]


@pytest.fixture
def type_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Types a command in a folder: exit code, standard output, standard error with its words unwrapped."""

    def typed(folder: Path, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        code, out, err = nasperc(monkeypatch, capsys, *arguments)
        return code, out, " ".join(err.split())

    return typed
