"""One thread for every test: more of them than cores make small tensors slower by an order of magnitude."""

import torch

torch.set_num_threads(1)
