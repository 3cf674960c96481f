"""The tests of this folder share the blender, read slowly, and small networks."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
