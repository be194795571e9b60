"""The introspective game's gradients for both players in one sweep (ACTIVA, equations 3 and 4).

The encoder minimises   L_REG(x) + a1 * sum_s [m - L_REG(x_s)]+ + a2 * (L_AE + L_CT),
the generator minimises a1 * sum_s L_REG(Enc(x_s)) + a2 * (L_AE + L_CT),  s = reconstructed, generated.

The encoder takes x_s as given, the generator takes the encoder as given. Both need the derivative of the same number,
KL_s = L_REG(Enc(x_s)): the encoder with respect to its weights, times -a1 where the hinge is open, the generator with
respect to the cells, times a1. One backward pass through Enc(x_s) gives both, and both are taken at the same weights,
before either player moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scvi import REGISTRY_KEYS

from scmimic.module import ACTIVAModule, cell_type_loss, hinge, kl_standard_normal
from scmimic.nn import fake_cells


@dataclass(frozen=True)
class GameWeights:
    """Weights of equations 3 and 4.

    ``reg``, ``rec`` and ``cell_type`` multiply L_REG of real cells, L_AE and L_CT (adaptive weighting changes them).
    """

    alpha1: float
    alpha2: float
    m: float
    reg: float = 1.0
    rec: float = 1.0
    cell_type: float = 1.0


def accumulate(parameters: list[torch.nn.Parameter], gradients: tuple[torch.Tensor | None, ...], scale: float) -> None:
    """Add ``scale * gradients`` to ``.grad``."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient if scale == 1.0 else gradient.mul_(scale)
        else:
            parameter.grad.add_(gradient, alpha=scale)


def introspective_gradients(
    module: ACTIVAModule,
    tensors: dict[str, torch.Tensor],
    weights: GameWeights,
    *,
    fake_statistics: str = "running",
) -> dict[str, torch.Tensor]:
    """Write the gradients of equations 3 and 4 into ``.grad`` of encoder and generator.

    Parameters
    ----------
    module
        The networks, in training mode, their gradients cleared.
    tensors
        A batch of real cells.
    weights
        The weights of the losses.
    fake_statistics
        Batch norm statistics for synthetic cells, see :func:`~scmimic.nn.fake_cells`.

    Returns
    -------
    Batch means of every term, detached: ``reconstruction_loss``, ``kl_real``, ``kl_reconstructed``, ``kl_generated``,
    ``cell_type_loss``, ``loss_encoder`` and ``loss_generator``; ``reconstruction_per_cell`` and ``kl_per_cell``.
    """
    x = tensors[REGISTRY_KEYS.X_KEY]
    batch_index = tensors.get(REGISTRY_KEYS.BATCH_KEY)
    labels = tensors.get(REGISTRY_KEYS.LABELS_KEY)
    encoder = list(module.encoder.parameters())
    generator = module.generator_parameters() + module.dispersion_parameters()

    mean, log_var = module.encoder(x, batch_index)
    z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
    library = module.log_library(x, tensors.get(REGISTRY_KEYS.SIZE_FACTOR_KEY))
    px = module.decode(z, library, batch_index, labels)
    reconstruction = module.reconstruction_loss(x, px)
    kl_real = kl_standard_normal(mean, log_var)
    l_ct = x.new_zeros(())
    if module.classifier is not None:
        with torch.no_grad():
            logits = module.classifier(x)
        l_ct = cell_type_loss(logits, module.classifier(module.expected(px))).mean()
    # without adversarial weight there is no second player, and no fake to encode
    judged = []
    if weights.alpha1 > 0:
        with fake_cells(module.decoder, "running"):
            px_prior = module.decode(torch.randn_like(mean), library, batch_index, labels)
        judged = [px, px_prior]

    loss_encoder = weights.reg * kl_real.mean().detach()
    loss_generator = x.new_zeros(())
    cells, cell_gradients, kl_fake = [], [], []
    for distribution in judged:
        fake = module.fake(distribution)
        leaf = fake.detach().requires_grad_()
        with fake_cells(module.encoder, fake_statistics):
            kl = kl_standard_normal(*module.encoder(leaf, batch_index))
        penalty = hinge(kl.detach(), weights.m)
        if penalty > 0:
            gradient, *rest = torch.autograd.grad(kl.mean(), [leaf, *encoder])
            accumulate(encoder, tuple(rest), -weights.alpha1)
        else:
            (gradient,) = torch.autograd.grad(kl.mean(), [leaf])
        cells.append(fake)
        cell_gradients.append(gradient.mul_(weights.alpha1))
        kl_fake.append(kl.detach())
        loss_encoder = loss_encoder + weights.alpha1 * penalty
        loss_generator = loss_generator + weights.alpha1 * kl.detach().mean()

    shared = weights.alpha2 * (weights.rec * reconstruction.mean() + weights.cell_type * l_ct)
    gradients = torch.autograd.grad(
        weights.reg * kl_real.mean() + shared, encoder + generator, retain_graph=True, allow_unused=True
    )
    accumulate(encoder, gradients[: len(encoder)], 1.0)
    accumulate(generator, gradients[len(encoder) :], 1.0)
    # the gradient stops at the generator's weights: for the encoder, x_r is a given cell
    if judged:
        adversarial = torch.autograd.grad(cells, generator, grad_outputs=cell_gradients, allow_unused=True)
        accumulate(generator, adversarial, 1.0)
    kl_names = ("kl_reconstructed", "kl_generated")
    return {
        "reconstruction_per_cell": reconstruction.detach(),
        "kl_per_cell": kl_real.detach(),
        "reconstruction_loss": reconstruction.detach().mean(),
        "kl_real": kl_real.detach().mean(),
        **{name: kl.mean() for name, kl in zip(kl_names, kl_fake, strict=False)},
        "cell_type_loss": l_ct.detach(),
        "loss_encoder": loss_encoder + shared.detach(),
        "loss_generator": loss_generator + shared.detach(),
    }
