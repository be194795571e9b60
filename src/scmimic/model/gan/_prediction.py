"""The prediction method for saddle points (Yadav et al. 2017, Stabilizing adversarial nets with prediction methods).

Under Adam's momentum a step shows its full effect only 1 / (1 - beta1) steps later. On a bilinear saddle the method
tames Adam without momentum as it tames gradient descent; with momentum it has to look about that much further ahead.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


class Prediction:
    """Where the parameters of one player would be after its next step, if that were the same as its last one.

    While the other player updates, it answers to ``theta + horizon * (theta - theta_before)`` instead of ``theta``. On
    a bilinear saddle, where alternating gradient steps circle for ever or diverge, this converges.

    Parameters
    ----------
    parameters
        The player's parameters.
    predicted
        Tensors of the same shapes that hold the prediction, such as the parameters of a copy of the network; they start
        as a copy of `parameters`. None makes them.
    horizon
        How many steps ahead to look; 1 as published.

    Examples
    --------
    >>> import torch
    >>> theta = torch.nn.Parameter(torch.tensor([1.0]))
    >>> prediction = Prediction([theta])
    >>> prediction.remember()
    >>> with torch.no_grad():
    ...     _ = theta.sub_(0.25)
    >>> prediction.predict()
    >>> prediction.predicted[0].item()
    0.5
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        predicted: Iterable[torch.Tensor] | None = None,
        *,
        horizon: float = 1.0,
    ):
        self.parameters = list(parameters)
        self.predicted = [p.detach().clone() for p in self.parameters] if predicted is None else list(predicted)
        self.horizon = horizon
        self.remember()

    @torch.no_grad()
    def remember(self) -> None:
        """Call before the player's step."""
        torch._foreach_copy_(self.predicted, self.parameters)

    @torch.no_grad()
    def predict(self) -> None:
        """Call after the player's step."""
        # from where it was through where it is and as far beyond
        torch._foreach_lerp_(self.predicted, self.parameters, 1 + self.horizon)
