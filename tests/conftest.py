"""What holds for every test."""

import signal

import torch

# More threads than cores make small tensors slower by an order of magnitude.
torch.set_num_threads(1)
# A shell starts what runs in the background with Ctrl-C ignored, and so would be the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
