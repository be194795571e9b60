"""The critic of a Wasserstein GAN with gradient penalty (Gulrajani et al. 2017), and ways to condition it.

No batch norm: the penalty is on the gradient of each cell's own score, which batch norm would make depend on the other
cells of the batch. Hidden layers are linear and leaky ReLU, so that the score is piecewise linear in the cell; training
takes its derivatives from that (see :func:`scmimic.train.critic_gradients`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F


class Critic(nn.Module):
    """Expression, and a condition, to one score.

    Parameters
    ----------
    n_input
        Number of genes.
    n_hidden
        Widths of the hidden layers, data to score.
    n_condition
        Size of the condition (0: none).
    conditioning
        ``"projection"``: the score is ``w.h + (E c).h`` with a learned embedding ``E`` (Miyato and Koyama 2018); with
        one-hot labels this is one linear head per label. ``"concat"``: the condition is joined to the cell.
    negative_slope
        Of the leaky ReLU; 0 is the plain ReLU.
    """

    layers: Sequence[nn.Linear]

    def __init__(
        self,
        n_input: int,
        n_hidden: Sequence[int] = (1024, 512, 10),
        *,
        n_condition: int = 0,
        conditioning: Literal["projection", "concat"] = "projection",
        negative_slope: float = 0.2,
    ):
        super().__init__()
        widths = [n_input, *n_hidden]
        # torch says nothing of what a ModuleList holds
        self.layers = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.score = nn.Linear(widths[-1], 1)
        projects, joins = (n_condition > 0 and conditioning == kind for kind in ("projection", "concat"))
        self.embedding = nn.Linear(n_condition, widths[-1], bias=False) if projects else None
        # the columns of the first layer that a joined condition would meet
        self.join = nn.Linear(n_condition, widths[1], bias=False) if joins else None
        self.negative_slope = negative_slope

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters behind the last hidden layer."""
        heads = [self.score] if self.embedding is None else [self.score, self.embedding]
        return [parameter for head in heads for parameter in head.parameters()]

    def hidden(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """The last hidden layer, ``(n, n_hidden[-1])``."""
        h = x
        for i, layer in enumerate(self.layers):
            pre = layer(h)
            if i == 0 and self.join is not None:
                pre = pre + self.join(condition)
            h = F.leaky_relu(pre, self.negative_slope)
        return h

    def direction(self, n: int, condition: torch.Tensor | None = None) -> torch.Tensor:
        """The derivative of each of ``n`` scores with respect to the last hidden layer."""
        weight = self.score.weight.expand(n, -1)
        return weight if self.embedding is None else weight + self.embedding(condition)

    def read(self, hidden: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Scores ``(n,)`` from the last hidden layer."""
        return (hidden * self.direction(len(hidden), condition)).sum(-1) + self.score.bias

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Scores ``(n,)`` of cells ``(n, n_input)`` under conditions ``(n, n_condition)``; high is real."""
        return self.read(self.hidden(x, condition), condition)
