import hashlib
import resource
from pathlib import Path

import pytest
import torch

from controllers.service.snapshot import NotTheSnapshotError, read_snapshot, write_snapshot
from nasperc.errors import InputError

STATE = {"controller": {"weights": torch.arange(3)}, "proposals": {3: None}}


def test_round_trip_and_damage(tmp_path: Path) -> None:
    name, sha256 = write_snapshot(tmp_path, 7, STATE)
    state = read_snapshot(tmp_path, name, sha256)
    assert torch.equal(state["controller"]["weights"], torch.arange(3))
    assert state["proposals"] == {3: None}
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotTheSnapshotError, match=f"the journal has {sha256[:16]}"):
        read_snapshot(tmp_path, name, sha256)
    with pytest.raises(NotTheSnapshotError, match="No such file"):
        read_snapshot(tmp_path, "controller-00000001.pt", sha256)


def test_a_name_leads_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    name, sha256 = write_snapshot(tmp_path, 1, {})
    for elsewhere in (f"../{name}", "9" * 5000, "nul\0"):
        with pytest.raises(NotTheSnapshotError):
            read_snapshot(folder, elsewhere, sha256)


def test_old_snapshots_are_deleted(tmp_path: Path) -> None:
    names = [write_snapshot(tmp_path, number, {})[0] for number in range(5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names[2:]


def test_what_the_journal_names_may_still_be_no_snapshot(tmp_path: Path) -> None:
    for state in ({"controller": {}}, [1], {}):
        name, sha256 = write_snapshot(tmp_path, 1, state)
        with pytest.raises(InputError, match="must hold the controller's state"):
            read_snapshot(tmp_path, name, sha256)
    (tmp_path / "controller-1.pt").write_bytes(b"no snapshot")
    with pytest.raises(InputError, match="file of tensors"):
        read_snapshot(tmp_path, "controller-1.pt", hashlib.sha256(b"no snapshot").hexdigest())


def test_what_a_longer_journal_or_a_dead_process_left_is_deleted(tmp_path: Path) -> None:
    for number in (10, 20, 30, 40):
        write_snapshot(tmp_path, number, {})
    (tmp_path / "controller-00000050.tmp").write_bytes(b"half")
    # The journal was cut before 40 and 30.
    name, sha256 = write_snapshot(tmp_path, 22, STATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["controller-00000020.pt", name]
    assert read_snapshot(tmp_path, name, sha256).keys() == STATE.keys()


def test_a_full_disk_leaves_nothing_of_a_snapshot(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_snapshot(tmp_path, 1, {"weights": torch.zeros(4096)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
