"""Every script can be started from any folder: its own must not hide the project's packages."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    *(path for path in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in path.read_text()),
    ROOT / "tests" / "search_spaces" / "random_architectures.py",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_tells_how_it_is_used(script, tmp_path):
    done = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script.name}")
