"""Gradients of WGAN-GP's two losses, written out (Gulrajani et al. 2017, Algorithm 1).

The critic minimises   mean D(x_fake) - mean D(x_real) + lambda * mean (|grad D(x_mixed)| - 1)^2,
the generator minimises   -mean D(x_fake),   x_mixed = e x_real + (1 - e) x_fake with e ~ U(0, 1) for each cell.

Between its kinks the critic is linear: with masks m_l (1 or the negative slope) and last direction a,

    v_L = m_L a,   v_{l-1} = m_{l-1} (W_l^T v_l),   grad D = W_1^T v_1 = g.

With r = d penalty / d g = 2 lambda / n * (1 - 1/|g|) g, the penalty's gradients follow by a forward sweep:

    u_0 = r,   u_l = m_l (W_l u_{l-1}),   d penalty / d W_l = v_l u_{l-1}^T,   d penalty / d a = u_L.

The masks have no derivative, so this is exact wherever the double backward pass of automatic differentiation is. It
needs no graph, takes the weight gradients of the score and of the penalty in one product, and has the mixed cells'
first layer for nothing, since it is the mixture of the first layers of the real and the fake cells. Dropout is a
further factor of the masks.

With batch norm a score depends on the whole batch and none of this holds: automatic differentiation does the work, and
the penalty is on the gradient of the sum of the batch's scores with respect to each cell, not on that of the cell's own
score (Gulrajani et al., section 4, advise against it for that).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from scmimic.nn import Critic, fake_cells, wide_product

FeatureLoss = Callable[[torch.Tensor | None, torch.Tensor], torch.Tensor]
"""A further loss of the last hidden layer of real (None in the generator's step) and of fake cells."""


def critic_gradients(
    critic: Critic,
    real: torch.Tensor,
    fake: torch.Tensor,
    condition: torch.Tensor | None = None,
    *,
    epsilon: torch.Tensor | None = None,
    penalty_weight: float = 10.0,
    feature_loss: FeatureLoss | None = None,
) -> dict[str, torch.Tensor]:
    """Write the gradients of the critic's loss into ``.grad``.

    Parameters
    ----------
    critic
        The critic, the gradients of its heads cleared; those of its hidden layers are overwritten. With batch norm the
        penalty is per batch, not per cell: on the gradient of the sum of all scores with respect to each mixed cell.
    real, fake
        Cells, each ``(n, n_genes)``.
    condition
        ``(n, n_condition)``; the real and the fake cell of a row have the same one.
    epsilon
        Share of the real cell in each mixture, ``(n, 1)``. None draws it, one number per cell.
    penalty_weight
        lambda.
    feature_loss
        Added to the critic's loss, see :data:`FeatureLoss`.

    Returns
    -------
    Detached ``critic_loss``, ``wasserstein`` (mean score of real minus fake cells), ``gradient_penalty`` (without
    lambda) and ``gradient_norm``.
    """
    n = len(real)
    if epsilon is None:
        epsilon = torch.rand(n, 1, device=real.device, dtype=real.dtype)
    if critic.norms is not None:
        return _normalised_gradients(critic, real, fake, condition, epsilon, penalty_weight, feature_loss)
    with torch.no_grad():
        both = torch.cat([real, fake])
        hidden, masks = _forward(critic, both, condition, epsilon)
    judged = hidden[-1][: 2 * n].requires_grad_()
    with torch.enable_grad():
        twice = None if condition is None else condition.repeat(2, 1)
        score_real, score_fake = critic.read(judged, twice).chunk(2)
        wasserstein = score_real.mean() - score_fake.mean()
        loss = -wasserstein
        if feature_loss is not None:
            loss = loss + feature_loss(*judged.chunk(2))
        direction = critic.direction(n, condition)
    loss.backward()
    assert judged.grad is not None
    with torch.no_grad():
        sweep = [masks[-1][2 * n :] * direction]
        for layer, mask in zip(reversed(critic.layers[1:]), reversed(masks[:-1]), strict=True):
            sweep.append(mask[2 * n :] * (sweep[-1] @ layer.weight))
        sweep.reverse()
        gradient = wide_product(sweep[0], critic.layers[0].weight)
        norm = gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)
        penalty = (norm - 1).square().mean()

        below = gradient.mul_(2 * penalty_weight / n * (1 - 1 / norm))
        delta = masks[-1][: 2 * n] * judged.grad
        back = [delta]
        for layer, mask in zip(reversed(critic.layers[1:]), reversed(masks[:-1]), strict=True):
            back.append(mask[: 2 * n] * (back[-1] @ layer.weight))
        back.reverse()
        for i, layer in enumerate(critic.layers):
            inputs = both if i == 0 else hidden[i - 1][: 2 * n]
            _write(layer.weight, torch.cat([back[i], sweep[i]]).t(), torch.cat([inputs, below]))
            layer.bias.grad = back[i].sum(0)
            below = masks[i][2 * n :] * (below @ layer.weight.t())
        if critic.join is not None and condition is not None:
            critic.join.weight.grad = (back[0][:n] + back[0][n:]).t() @ condition
    direction.backward(below)
    return {
        "critic_loss": loss.detach() + penalty_weight * penalty,
        "wasserstein": wasserstein.detach(),
        "gradient_penalty": penalty,
        "gradient_norm": norm.mean(),
    }


@torch.enable_grad()
def _normalised_gradients(
    critic: Critic,
    real: torch.Tensor,
    fake: torch.Tensor,
    condition: torch.Tensor | None,
    epsilon: torch.Tensor,
    penalty_weight: float,
    feature_loss: FeatureLoss | None,
) -> dict[str, torch.Tensor]:
    """The same of a critic with batch norm, where each of the three batches has statistics of its own."""
    of_real = critic.hidden(real, condition)
    mixed = torch.lerp(fake, real, epsilon).requires_grad_()
    with fake_cells(critic):
        of_fake, of_mixed = critic.hidden(fake, condition), critic.hidden(mixed, condition)
    (gradient,) = torch.autograd.grad(critic.read(of_mixed, condition).sum(), mixed, create_graph=True)
    norm = gradient.norm(dim=1)
    penalty = (norm - 1).square().mean()
    wasserstein = critic.read(of_real, condition).mean() - critic.read(of_fake, condition).mean()
    loss = penalty_weight * penalty - wasserstein
    if feature_loss is not None:
        loss = loss + feature_loss(of_real, of_fake)
    heads = set(critic.head_parameters())
    for parameter in critic.parameters():
        if parameter not in heads:
            parameter.grad = None
    loss.backward()
    return {
        "critic_loss": loss.detach(),
        "wasserstein": wasserstein.detach(),
        "gradient_penalty": penalty.detach(),
        "gradient_norm": norm.detach().mean(),
    }


@torch.no_grad()
def generator_gradient(
    critic: Critic,
    fake: torch.Tensor,
    condition: torch.Tensor | None = None,
    *,
    feature_loss: FeatureLoss | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The generator's loss, and its derivative with respect to the fake cells; the critic's ``.grad`` stay as they are.

    Parameters
    ----------
    critic
        The critic.
    fake
        Cells ``(n, n_genes)``.
    condition
        ``(n, n_condition)``.
    feature_loss
        Added to the loss, see :data:`FeatureLoss`.

    Returns
    -------
    The loss, and a tensor of the shape of `fake`.
    """
    if critic.norms is not None:
        source = fake.detach().requires_grad_()
        with torch.enable_grad(), fake_cells(critic):
            loss = _generator_loss(critic, critic.hidden(source, condition), condition, feature_loss)
            (gradient,) = torch.autograd.grad(loss, source)
        return loss.detach(), gradient
    hidden, masks = _forward(critic, fake, condition)
    judged = hidden[-1].requires_grad_()
    with torch.enable_grad():
        loss = _generator_loss(critic, judged, condition, feature_loss)
        (gradient,) = torch.autograd.grad(loss, judged)
    for layer, mask in zip(reversed(critic.layers), reversed(masks), strict=True):
        gradient = wide_product(mask * gradient, layer.weight)
    return loss.detach(), gradient


def _generator_loss(
    critic: Critic, hidden: torch.Tensor, condition: torch.Tensor | None, feature_loss: FeatureLoss | None
) -> torch.Tensor:
    loss = -critic.read(hidden, condition).mean()
    return loss if feature_loss is None else loss + feature_loss(None, hidden)


def _forward(
    critic: Critic, x: torch.Tensor, condition: torch.Tensor | None, epsilon: torch.Tensor | None = None
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Outputs and masks of the hidden layers; with ``epsilon``, the rows of the mixed cells follow those of ``x``."""
    hidden, masks = [], []
    for i, layer in enumerate(critic.layers):
        pre = layer(x)
        if i == 0:
            if critic.join is not None:
                shift = critic.join(condition)
                pre += shift.repeat(len(x) // len(shift), 1)
            if epsilon is not None:
                real, fake = pre.chunk(2)
                pre = torch.cat([pre, torch.lerp(fake, real, epsilon)])
        mask = critic.dropout(torch.where(pre > 0, 1.0, critic.slopes[i]).to(pre.dtype))
        x = pre.mul_(mask)
        hidden.append(x)
        masks.append(mask)
    return hidden, masks


def _write(parameter: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Write ``left @ right`` into the gradient, in the memory of the last one where there is any."""
    parameter.grad = wide_product(left, right, out=parameter.grad)
