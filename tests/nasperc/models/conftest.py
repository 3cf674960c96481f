"""One thread: the networks here are too small to share out, and the tests run in several processes."""

import torch

torch.set_num_threads(1)
