"""The dashboard's address and token: a Ray of its own, since these are settled when Ray starts."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nasperc.errors import InputError
from nasperc.search.ray_start import start_ray
from nasperc.search.recipe import SearchRecipe

# In a process of its own: Ray keeps its settings for as long as its process lives.
pytestmark = pytest.mark.ray
PROGRAM = """
from nasperc.search.ray_start import start_ray
from nasperc.search.recipe import SearchRecipe
print("url", start_ray(SearchRecipe(workers=1)), flush=True)
input()
"""


def listening(port: int) -> set[str]:
    """Addresses on which something listens at ``port``, as the kernel writes them (hexadecimal)."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, _, number = line.split()[1].rpartition(":")
            if line.split()[3] == "0A" and int(number, 16) == port:
                found.add(address)
    return found


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
def test_the_dashboard_listens_on_the_loopback_address_and_asks_for_its_token(tmp_path: Path) -> None:
    # A home without a token: Ray makes one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path)}
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
        assert listening(int(port)) == {"0100007F"}
        token = (tmp_path / ".ray" / "auth_token").read_text()
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
