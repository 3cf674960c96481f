"""The tests of several rooms share small checkpoints for videos."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
