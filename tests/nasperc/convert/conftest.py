"""Weights as other programs would have written them, and AdelaiDet's rules to compare with."""

import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "models")]
