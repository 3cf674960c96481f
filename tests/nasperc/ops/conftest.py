"""As a worker does: two threads on busy cores wait for each other forty times longer than they compute."""

import torch

torch.set_num_threads(1)
