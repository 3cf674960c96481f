"""Which sockets processes listen on, as the kernel has it."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_LISTENS = "0A"


def with_descendants(pid: int) -> set[int]:
    """``pid`` and all its children, their children, and so on, now."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found, left = {pid}, [pid]
    while left:
        new = children.get(left.pop(), [])
        found |= set(new)
        left += new
    return found


def listening(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket on which one of the processes listens."""
    mine = {inode for pid in pids for inode in _sockets(pid)}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == _LISTENS and cells[9] in mine:
                address, _, port = cells[1].rpartition(":")
                found.add((_address(address), int(port, 16)))
    return found


def reachable(sockets: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those that other machines reach: of every address but the loopback ones."""
    return {(address, port) for address, port in sockets if not _is_loopback(address)}


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _sockets(pid: int) -> set[str]:
    found = set()
    try:
        for name in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(name)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    except OSError:
        # It has ended.
        return set()
    return found


def _address(written: str) -> str:
    """The kernel writes words of 32 bits in its own order of bytes, hexadecimal."""
    words = [int(written[at : at + 8], 16) for at in range(0, len(written), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)
