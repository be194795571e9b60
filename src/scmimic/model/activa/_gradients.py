"""The introspective game's gradients for both players in one sweep (ACTIVA, equations 3 and 4).

The encoder minimises   L_REG(x) + a1 * sum_s [m - L_REG(x_s)]+ + a2 * (L_AE + L_CT),
the generator minimises a1 * sum_s L_REG(Enc(x_s)) + a2 * (L_AE + L_CT),  s = reconstructed, generated.

The encoder takes x_s as given, the generator takes the encoder as given. Both need the derivative of the same number,
KL_s = L_REG(Enc(x_s)): the encoder with respect to its weights, times -a1 where the hinge is open, the generator with
respect to the cells, times a1. One backward pass through Enc(x_s) gives both, and both are taken at the same weights,
before either player moves.

Nearly all of the time goes into the layers beside the genes. The encoder therefore reads both kinds of synthetic cells
as one batch, and the generator's last layer is passed once in each direction for the reconstruction, the reconstructed
cells and the generated ones; its narrow layers are passed again, since x_r is a given cell for the encoder: the
adversarial gradient must stop at the generator's weights while the reconstruction's goes on into the code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scvi import REGISTRY_KEYS

from scmimic.model.activa._module import ACTIVAModule
from scmimic.model.base._losses import cell_type_loss, hinge, kl_standard_normal
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
    covariates = module.covariates(tensors)
    labels = tensors.get(REGISTRY_KEYS.LABELS_KEY)
    encoder = list(module.encoder.parameters())
    stack = list(module.decoder.stack.parameters())
    heads = [parameter for head in module.decoder.heads for parameter in head.parameters()]
    heads += module.dispersion_parameters()

    mean, log_var = module.encoder(x, covariates)
    z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
    library = module.log_library(x, tensors.get(REGISTRY_KEYS.SIZE_FACTOR_KEY))
    hidden = module.decoder.hidden(z, library, covariates)
    # copies at which the gradient of each kind of cells is caught on its way back to the code
    for_loss = hidden.detach().requires_grad_()
    # without adversarial weight there is no second player, and no fake to encode
    if weights.alpha1 > 0:
        with fake_cells(module.decoder, "running"):
            hidden_prior = module.decoder.hidden(torch.randn_like(mean), library, covariates)
        for_reconstructed, for_generated = hidden.detach().requires_grad_(), hidden_prior.detach().requires_grad_()
        px, *judged = module.decode_for_players(for_loss, for_reconstructed, for_generated, library, labels)
        fakes = [module.fake(distribution) for distribution in judged]
        kl_fake, penalties, cell_gradients = _judge(module, fakes, covariates, weights, fake_statistics)
    else:
        px = module.likelihood(for_loss, library, labels)
        fakes, kl_fake, penalties, cell_gradients = [], [], [], []

    reconstruction = module.reconstruction_loss(x, px)
    kl_real = kl_standard_normal(mean, log_var)
    l_ct = x.new_zeros(())
    if module.classifier is not None:
        with torch.no_grad():
            logits = module.classifier(x)
        l_ct = cell_type_loss(logits, module.classifier(module.expected(px))).mean()
    shared = weights.alpha2 * (weights.rec * reconstruction.mean() + weights.cell_type * l_ct)

    torch.autograd.backward(
        [shared, *fakes],
        [None, *cell_gradients],
        inputs=[for_loss, *([for_reconstructed, for_generated] if fakes else []), *heads],
    )
    torch.autograd.backward(
        [hidden, weights.reg * kl_real.mean()], [for_loss.grad, None], inputs=encoder + stack, retain_graph=bool(fakes)
    )
    if fakes:
        torch.autograd.backward([hidden, hidden_prior], [for_reconstructed.grad, for_generated.grad], inputs=stack)

    kl_names = ("kl_reconstructed", "kl_generated")
    return {
        "reconstruction_per_cell": reconstruction.detach(),
        "kl_per_cell": kl_real.detach(),
        "reconstruction_loss": reconstruction.detach().mean(),
        "kl_real": kl_real.detach().mean(),
        **dict(zip(kl_names, kl_fake, strict=False)),
        "cell_type_loss": l_ct.detach(),
        "loss_encoder": weights.reg * kl_real.detach().mean() + weights.alpha1 * sum(penalties) + shared.detach(),
        "loss_generator": weights.alpha1 * sum(kl_fake) + shared.detach(),
    }


def _judge(
    module: ACTIVAModule,
    fakes: list[torch.Tensor],
    covariates: torch.Tensor | None,
    weights: GameWeights,
    fake_statistics: str,
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Encode the synthetic batches together, and write the encoder's adversarial gradient into ``.grad``.

    Returns, for each batch, its mean KL, the encoder's penalty, and the gradient of the generator's loss in its cells.
    """
    cells = torch.cat(fakes).detach().requires_grad_()
    told = None if covariates is None else covariates.repeat(len(fakes), 1)
    with fake_cells(module.encoder, fake_statistics, n_groups=len(fakes)):
        kl = kl_standard_normal(*module.encoder(cells, told))
    means = [part.mean() for part in kl.chunk(len(fakes))]
    penalties = [hinge(value.detach(), weights.m) for value in means]
    won = [value for value, penalty in zip(means, penalties, strict=True) if penalty > 0]
    lost = [value for value, penalty in zip(means, penalties, strict=True) if not penalty > 0]
    if won:
        # the encoder descends on -a1 KL; its gradient in the cells, turned round, is the generator's
        torch.autograd.backward(
            -weights.alpha1 * torch.stack(won).sum(),
            inputs=[cells, *module.encoder.parameters()],
            retain_graph=bool(lost),
        )
        assert cells.grad is not None
        gradient = cells.grad.neg_()
    if lost:
        (rest,) = torch.autograd.grad(weights.alpha1 * torch.stack(lost).sum(), cells)
        gradient = gradient + rest if won else rest
    return [value.detach() for value in means], penalties, list(gradient.chunk(len(fakes)))
