"""The critic of a Wasserstein GAN with gradient penalty (Gulrajani et al. 2017), and ways to condition it.

No batch norm by default: the penalty is on the gradient of each cell's own score, which batch norm makes depend on the
other cells of the batch. Hidden layers are linear and leaky ReLU, so that the score is piecewise linear in the cell;
training takes its derivatives from that (see :func:`scmimic.train.critic_gradients`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from scmimic.nn._dense import RealBatchNorm1d, fake_cells, layer_slopes


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
        one-hot labels this is one linear head per label. ``"inner_product"``: ``w.h + c.h``, without an embedding, so
        that the condition must be as wide as the last hidden layer. ``"concat"``: the condition is joined to the cell.
    negative_slope
        Of the leaky ReLU; 0 is the plain ReLU.
    last_slope
        That of the last hidden layer. None: the same.
    use_batch_norm
        Batch norm before each activation, as MichiGAN. In training, real and fake cells are normalised by the
        statistics of their own batch; the running statistics, which stand for them in eval mode, are those of real
        cells.
    dropout_rate
        Dropout after each hidden layer.

    Raises
    ------
    ValueError
        If the condition of an inner product is not as wide as the last hidden layer.
    """

    layers: Sequence[nn.Linear]
    norms: Sequence[RealBatchNorm1d] | None

    def __init__(
        self,
        n_input: int,
        n_hidden: Sequence[int] = (1024, 512, 10),
        *,
        n_condition: int = 0,
        conditioning: Literal["projection", "inner_product", "concat"] = "projection",
        negative_slope: float = 0.2,
        last_slope: float | None = None,
        use_batch_norm: bool = False,
        dropout_rate: float = 0.0,
    ):
        super().__init__()
        widths = [n_input, *n_hidden]
        # torch says nothing of what a ModuleList holds
        self.layers = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(map(RealBatchNorm1d, n_hidden)) if use_batch_norm else None  # type: ignore[assignment]
        self.dropout = nn.Dropout(dropout_rate)
        self.score = nn.Linear(widths[-1], 1)
        kinds = ("projection", "inner_product", "concat")
        projects, self.multiplies, joins = (n_condition > 0 and conditioning == kind for kind in kinds)
        if self.multiplies and n_condition != widths[-1]:
            raise ValueError(
                f"An inner product needs a condition as wide as the last hidden layer: {n_condition}, not {widths[-1]}."
            )
        self.embedding = nn.Linear(n_condition, widths[-1], bias=False) if projects else None
        # the columns of the first layer that a joined condition would meet
        self.join = nn.Linear(n_condition, widths[1], bias=False) if joins else None
        self.slopes = layer_slopes(len(n_hidden), negative_slope, last_slope)

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
            if self.norms is not None:
                pre = self.norms[i](pre)
            h = self.dropout(F.leaky_relu(pre, self.slopes[i]))
        return h

    @contextmanager
    def batch_statistics(self) -> Iterator[None]:
        """Normalise by each batch's own statistics, as in training, whatever the mode; nothing without batch norm."""
        norms, modes = self.norms or [], [norm.training for norm in self.norms or []]
        with fake_cells(self):
            for norm in norms:
                norm.train()
            try:
                yield
            finally:
                for norm, mode in zip(norms, modes, strict=True):
                    norm.train(mode)

    def direction(self, n: int, condition: torch.Tensor | None = None) -> torch.Tensor:
        """The derivative of each of ``n`` scores with respect to the last hidden layer."""
        weight = self.score.weight.expand(n, -1)
        if self.multiplies:
            assert condition is not None
            return weight + condition
        return weight if self.embedding is None else weight + self.embedding(condition)

    def read(self, hidden: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Scores ``(n,)`` from the last hidden layer."""
        return (hidden * self.direction(len(hidden), condition)).sum(-1) + self.score.bias

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Scores ``(n,)`` of cells ``(n, n_input)`` under conditions ``(n, n_condition)``; high is real."""
        return self.read(self.hidden(x, condition), condition)
