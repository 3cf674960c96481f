from __future__ import annotations

import os
import shutil
from pathlib import Path

from nasperc.file_stamp import FileStamp, file_stamp


def test_a_stamp_stays_until_the_file_is_written_to(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(b"one")
    before = file_stamp(file)
    assert before == file_stamp(file)
    with file.open("rb") as opened:
        assert FileStamp.of(os.fstat(opened.fileno())) == before


def test_a_restored_mtime_hides_nothing(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(b"one")
    before, status = file_stamp(file), file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = file_stamp(file)
    assert after.mtime_ns == before.mtime_ns
    assert after.size == before.size
    assert after != before


def test_a_copy_is_another_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    shutil.copy2(tmp_path / "a", tmp_path / "b")
    assert file_stamp(tmp_path / "a") != file_stamp(tmp_path / "b")
