"""An ensemble of small perceptrons, trained side by side as batched products."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLPEnsemble(nn.Module):
    """E perceptrons with two hidden layers and one output; they differ in their initial weights and in the
    order of what they learn from.

    Args:
        members: E.
        inputs: F, the size of a feature vector.
        hidden: units of each hidden layer.
        generator: of the initial weights, U(+-sqrt(6 / fan in)) (He et al. 2015), biases 0.
    """

    def __init__(self, members: int, inputs: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise((inputs, hidden, hidden, 1)):
            bound = math.sqrt(6 / fan_in)
            weight = torch.empty(members, fan_in, fan_out)
            self.weights.append(nn.init.uniform_(weight, -bound, bound, generator=generator))
            self.biases.append(torch.zeros(members, 1, fan_out))

    def forward(self, features: Tensor) -> Tensor:
        """(N, F), or (E, N, F) with features of each member's own -> (E, N)."""
        x = features.expand(len(self.weights[0]), *features.shape[-2:])
        *hidden, (weight, bias) = zip(self.weights, self.biases, strict=True)
        for each_weight, each_bias in hidden:
            x = F.relu(torch.baddbmm(each_bias, x, each_weight))
        return torch.baddbmm(bias, x, weight)[..., 0]

    def fit(
        self,
        features: Tensor,
        targets: Tensor,
        *,
        steps: int,
        batch: int,
        learning_rate: float,
        weight_decay: float,
        generator: torch.Generator,
    ) -> None:
        """Least squares by Adam (decoupled weight decay); each member draws its own ``batch`` of the N
        examples, with repeats, in each step.

        Args:
            features: (N, F).
            targets: (N,).
        """
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        members = len(self.weights[0])
        chosen = torch.randint(len(targets), (steps, members, batch), generator=generator)
        for step, indices in enumerate(chosen):
            # Linearly to zero: the last steps average out the noise of the batches.
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
            loss = (self(features[indices]) - targets[indices]).square().mean(dim=1).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """(N, F) -> (E, N)."""
        predictions: Tensor = self(features)
        return predictions
