import sys
from pathlib import Path

# The targets and mutations beside the tests serve the long run too.
sys.path.insert(0, str(Path(__file__).parent))
