"""One thread: the networks here are too small to share out, and the tests run in several processes.

And the tests of this folder share AdelaiDet's rules, written out slowly.
"""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent))
