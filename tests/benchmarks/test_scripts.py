"""Every script can be started from any folder, and finds the project's packages: its own folder holds a
``controllers.py``, which would hide one of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    *(path for path in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in path.read_text()),
    ROOT / "tests" / "search_spaces" / "random_architectures.py",
]
# They measure single parts, below the floor of the controllers.
WITHOUT_CONTROLLERS = {
    "cache_read",
    "deform_conv_cuda",
    "mask_alignment",
    "ops",
    "panoptic",
    "roi_ops",
    "video_latency",
}
# As `python SCRIPT --help`; components are loaded by name, later than that, so the package is asked for too.
START = """
import runpy, sys
script, folder, package = sys.argv[1:]
sys.path[0] = folder
sys.argv = [script, "--help"]
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    __import__(package)
    sys.exit(end.code)
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_tells_how_it_is_used(script, tmp_path):
    package = "nasperc" if script.stem in WITHOUT_CONTROLLERS else "controllers.base"
    done = subprocess.run(
        [sys.executable, "-c", START, str(script), str(script.parent), package],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script.name}")
