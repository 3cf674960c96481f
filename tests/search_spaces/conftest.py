"""Lets the tests of this folder share the contract that every search space must meet."""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent))
