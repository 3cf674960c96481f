"""Who reaches a local Ray: sockets, files and token of one of its own, since these are settled when it starts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from listening_sockets import listening, reachable, with_descendants

from nasperc.errors import InputError
from nasperc.recipe.search_section import SearchRecipe
from nasperc.search.ray_start import start_ray

# In a process of its own: Ray keeps its settings for as long as its process lives.
pytestmark = pytest.mark.ray
PROGRAM = """
from nasperc.search.ray_start import start_ray
from nasperc.recipe.search_section import SearchRecipe
print("url", start_ray(SearchRecipe(workers=1)).dashboard, flush=True)
import ray
from nasperc.search.ray_start import on_one_machine
print("worker", ray.get(ray.remote(lambda: "works").remote()), on_one_machine(), flush=True)
input()
"""


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Ray's sockets lie below it, and paths of sockets are short, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        yield Path(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def status(url: str, token: str | None = None) -> int:
    request = urllib.request.Request(url)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the kernel's table of sockets")
def test_a_local_ray_is_reached_from_this_machine_and_its_dashboard_with_the_token(
    tmp_path: Path, short_path: Path
) -> None:
    # A home without a token.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(short_path)}
    environment.pop("RAY_TMPDIR", None)
    ray = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert ray.stdout is not None
        url = next(line.split()[1] for line in ray.stdout if line.startswith("url "))
        host, _, port = url.rpartition(":")
        assert host == "127.0.0.1"
        assert next(line for line in ray.stdout if line.startswith("worker ")) == "worker works True\n"
        sockets = listening(with_descendants(ray.pid))
        assert ("127.0.0.1", int(port)) in sockets
        # Of driver, GCS, raylet, worker, dashboard and its agents.
        assert len(sockets) >= 8
        assert not reachable(sockets)
        file = tmp_path / ".ray" / "auth_token"
        assert (mode(file), mode(file.parent)) == (0o600, 0o700)
        assert mode(short_path / f"nasperc-{os.getuid()}") == 0o700
        assert (short_path / f"nasperc-{os.getuid()}" / "ray" / "session_latest").exists()
        token = file.read_text()
        nodes = f"http://{url}/nodes?view=summary"
        assert status(nodes) == 401
        assert status(nodes, "0" * 64) in (401, 403)
        assert status(nodes, token) == 200
    finally:
        ray.communicate("\n")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "search.example.org"])
def test_without_a_token_no_other_machine_reaches_it(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match="must ask for a token"):
        start_ray(SearchRecipe(dashboard_host=host))
