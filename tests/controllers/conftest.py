"""Lets the tests of this folder share the toy space and the tests that every controller must pass."""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent))
