"""The token's file: whose it is, and who reads it."""

from __future__ import annotations

import errno
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nasperc.errors import InputError
from nasperc.search.ray_token import private_token


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def existing(home: Path, file: int = 0o644, folder: int = 0o755) -> Path:
    token = home / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("0" * 64)
    token.chmod(file)
    token.parent.chmod(folder)
    return token


def test_a_new_token_is_for_its_user_alone_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        assert private_token(make=True) == []
    finally:
        os.umask(before)
    token = home / ".ray" / "auth_token"
    assert (mode(token), mode(token.parent)) == (0o600, 0o700)
    assert re.fullmatch("[0-9a-f]{64}", token.read_text())
    assert list(token.parent.iterdir()) == [token]


def test_starts_at_the_same_moment_agree_on_one_token(home: Path) -> None:
    def start(_: int) -> str:
        private_token(make=True)
        return (home / ".ray" / "auth_token").read_text()

    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(start, range(64)))
    assert len(tokens) == 1
    assert len(tokens.pop()) == 64


def test_one_that_others_can_read_is_closed_and_said(home: Path) -> None:
    token = existing(home)
    (said,) = private_token(make=True)
    assert said == f"{token} let other users read it (mode 644): now 600"
    assert mode(token) == 0o600
    assert token.read_text() == "0" * 64
    # The folder has other files in it, perhaps, that others are to read.
    assert mode(token.parent) == 0o755
    assert private_token(make=True) == []


def test_a_folder_in_which_others_could_exchange_it_is_closed_and_said(home: Path) -> None:
    token = existing(home, 0o600, 0o777)
    assert private_token(make=False) == [
        f"{token.parent} let other users write to it (mode 777): now 755",
    ]
    assert mode(token.parent) == 0o755


def test_a_cluster_makes_none_but_its_token_is_closed(home: Path) -> None:
    assert private_token(make=False) == []
    assert not (home / ".ray").exists()
    token = existing(home)
    assert len(private_token(make=False)) == 1
    assert mode(token) == 0o600


@pytest.mark.parametrize("name", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"])
def test_a_token_elsewhere_is_the_users(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, str(home / "mine"))
    assert private_token(make=True) == []
    assert list(home.iterdir()) == []


def test_where_no_token_is_asked_for_none_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert private_token(make=True) == []
    assert list(home.iterdir()) == []


def test_a_link_to_a_token_is_followed(home: Path) -> None:
    """A home that several machines share may keep it elsewhere."""
    (home / ".ray").mkdir(mode=0o700)
    (home / ".ray" / "auth_token").symlink_to(home / "kept")
    assert private_token(make=True) == []
    assert mode(home / "kept") == 0o600
    (home / "kept").chmod(0o640)
    assert len(private_token(make=True)) == 1
    assert mode(home / "kept") == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file to another user")
def test_a_token_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = existing(home, 0o644, 0o755)
    os.chown(token, 4321, 4321)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    with pytest.raises(
        InputError, match="must belong to the user who runs it, but got the user with number 4321"
    ):
        private_token(make=True)


def test_a_home_that_cannot_be_written_to_is_one_line(home: Path) -> None:
    (home / ".ray").write_text("a file")
    with pytest.raises(InputError, match="must be a file of this user"):
        private_token(make=True)


def test_a_home_without_hard_links_has_a_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert private_token(make=True) == []
    assert mode(home / ".ray" / "auth_token") == 0o600
    assert [path.name for path in (home / ".ray").iterdir()] == ["auth_token"]
