"""ACTIVA's training plan: warm-up as a VAE, then the introspective game (sections 2.4 and 2.6)."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput

from scmimic.model.actinn._module import labelled_cross_entropy
from scmimic.model.activa._gradients import GameWeights, introspective_gradients
from scmimic.model.activa._module import ACTIVAModule
from scmimic.model.activa._softadapt import SlopeAt, Variant, softadapt_weights
from scmimic.model.base._plan import SharedTrainingPlan, adam, cosine_tail, step_decay
from scmimic.nn import recycle_gradients

logger = logging.getLogger(__name__)

M_AT_128_LATENTS = 110.0


class IntrospectiveTrainingPlan(SharedTrainingPlan):
    """Warm-up, classifier and introspective game in one plan with manual optimisation.

    Parameters
    ----------
    module
        The networks.
    n_epochs_warmup
        Epochs of plain VAE training (L_AE + L_REG) before the game starts.
    alpha1
        Weight of the adversarial terms in equations 3 and 4. 0 leaves the other terms: a VAE with the cell-type loss.
    alpha2
        Weight of L_AE + L_CT in the game. The paper has 0.5, the authors' program 0.05.
    alpha_cell_type
        Further weight of L_CT alone.
    m
        Hinge constant of equation 3 in nats. None: 110 nats per 128 latent dimensions (the paper's value, scaled).
        ``"auto"``: `m_factor` times the mean KL of real cells in the last warm-up epoch.
    m_factor
        See `m`.
    lr
        Learning rate of encoder and generator.
    lr_dispersion_factor
        How many times faster the dispersion learns. It is one number per gene and gets a small gradient; at the
        networks' rate it is still far from its optimum when they have converged.
    betas, eps, weight_decay
        Adam's, for encoder and generator.
    batch_decay, covariate_decay
        Decay of the weights by which the generator reads the batch, and the covariates: each step multiplies them by 1
        less this times the learning rate. Without it the accidents of a donor's training cells are learned as the
        donor, and a type that was never seen in the donor gets them too; with 20, the donor is hardly learned at all.
        A large effect, such as a drug's, is held back by it, so that covariates have none by default (see the
        benchmarks).
    lr_final_factor
        Encoder's and generator's learning rate falls to this fraction of `lr` along a cosine over the last
        `lr_decay_fraction` of the run; 1 keeps it constant, as the paper.
    lr_decay_fraction
        See `lr_final_factor`.
    n_epochs_classifier
        Epochs in which the classifier is trained, from the start of the run and in parallel to the rest; afterwards it
        is frozen. 0 leaves a trained classifier as it is. None: the warm-up's.
    lr_classifier, weight_decay_classifier
        Adam's, for the classifier, as ACTINN.
    lr_decay_classifier, lr_decay_steps_classifier
        The classifier's learning rate is multiplied by the first every so many of its steps: 0.95 every 1,000, as
        ACTINN, which the paper takes as it was published (section 2.3). None, or a factor of 1, keeps it constant.
    kl_weight
        Weight of L_REG on real cells, 1 in the paper.
    n_epochs_kl_warmup
        Epochs over which `kl_weight` rises from zero. 0: none, as in the paper.
    fake_statistics
        Batch norm of the encoder for synthetic cells: ``"running"`` or ``"batch"``, see
        ``scmimic.nn.fake_cells``.
    softadapt
        Balance L_REG, L_AE and L_CT by their rates of change, see :func:`~scmimic.train.softadapt_weights`.
    softadapt_beta, softadapt_every
        Sharpness, and the number of epochs between two updates of the weights.
    softadapt_slope_at
        Where the rates are taken, among the last five epochs or `softadapt_every`: ``"newest"``, or ``"oldest"`` as the
        published program.
    """

    def __init__(
        self,
        module: ACTIVAModule,
        *,
        n_epochs_warmup: int = 10,
        alpha1: float = 1.0,
        alpha2: float = 0.5,
        alpha_cell_type: float = 1.0,
        m: float | Literal["auto"] | None = None,
        m_factor: float = 1.25,
        lr: float = 2e-4,
        lr_dispersion_factor: float = 20.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        batch_decay: float = 2.0,
        covariate_decay: float = 0.0,
        lr_final_factor: float = 1.0,
        lr_decay_fraction: float = 0.4,
        n_epochs_classifier: int | None = None,
        lr_classifier: float = 1e-4,
        weight_decay_classifier: float = 0.005,
        lr_decay_classifier: float = 0.95,
        lr_decay_steps_classifier: int | None = 1000,
        kl_weight: float = 1.0,
        n_epochs_kl_warmup: int = 0,
        fake_statistics: Literal["running", "batch"] = "running",
        softadapt: Variant | None = None,
        softadapt_beta: float = 0.1,
        softadapt_every: int = 5,
        softadapt_slope_at: SlopeAt = "newest",
    ):
        super().__init__(
            module,
            lr=lr,
            eps=eps,
            weight_decay=weight_decay,
            n_epochs_kl_warmup=n_epochs_kl_warmup or None,
            max_kl_weight=kl_weight,
        )
        self.automatic_optimization = False
        self.n_epochs_warmup = n_epochs_warmup
        self.alpha1 = alpha1
        self.alpha2 = alpha2
        self.alpha_cell_type = alpha_cell_type
        self.m = m
        self.m_factor = m_factor
        self.lr_dispersion_factor = lr_dispersion_factor
        self.batch_decay, self.covariate_decay = batch_decay, covariate_decay
        self.betas = betas
        self.lr_final_factor = lr_final_factor
        self.lr_decay_fraction = lr_decay_fraction
        self.n_epochs_classifier = n_epochs_warmup if n_epochs_classifier is None else n_epochs_classifier
        self.lr_classifier = lr_classifier
        self.weight_decay_classifier = weight_decay_classifier
        self.lr_decay_classifier = lr_decay_classifier
        self.lr_decay_steps_classifier = lr_decay_steps_classifier
        self.fake_statistics = fake_statistics
        self.softadapt = softadapt
        self.softadapt_beta = softadapt_beta
        self.softadapt_every = softadapt_every
        self.softadapt_slope_at = softadapt_slope_at
        self._weights = GameWeights(alpha1, alpha2, self._fixed_m(), cell_type=alpha_cell_type)
        self._warmup_kl: float | None = None
        self._epoch_terms: list[torch.Tensor] = []
        self._term_history: list[list[float]] = []

    @property
    def _paper_m(self) -> float:
        return M_AT_128_LATENTS * self.module.n_latent / 128

    def _fixed_m(self) -> float:
        if self.m is None:
            return self._paper_m
        return float("nan") if self.m == "auto" else float(self.m)

    @property
    def plays_game(self) -> bool:
        """Whether the current epoch is past the warm-up."""
        return self.current_epoch >= self.n_epochs_warmup

    @property
    def trains_classifier(self) -> bool:
        """Whether the current epoch trains the classifier."""
        return self.module.classifier is not None and self.current_epoch < self.n_epochs_classifier

    def configure_optimizers(self):
        """Adam for the encoder, the generator and, where it is trained, the classifier."""
        settings = {"betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}
        generator = [{"params": self.module.generator_parameters(), "lr": self.lr}]
        if self.module.dispersion_parameters():
            generator.append({"params": self.module.dispersion_parameters(), "lr": self.lr * self.lr_dispersion_factor})
        optimizers = [
            adam(self.module.encoder.parameters(), lr=self.lr, **settings),
            adam(generator, lr=self.lr, **settings),
        ]
        schedulers: list[torch.optim.lr_scheduler.LRScheduler] = [
            torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor) for optimizer in optimizers
        ]
        if self.module.classifier is not None and self.n_epochs_classifier > 0:
            classifier = adam(
                self.module.classifier.parameters(), lr=self.lr_classifier, weight_decay=self.weight_decay_classifier
            )
            optimizers.append(classifier)
            schedulers.append(
                step_decay(classifier, factor=self.lr_decay_classifier, every=self.lr_decay_steps_classifier)
            )
        return optimizers, schedulers

    def _lr_factor(self, epoch: int) -> float:
        total = max(self.trainer.max_epochs or 1, 1)
        return cosine_tail(epoch, total, final_factor=self.lr_final_factor, fraction=self.lr_decay_fraction)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        """One step of the warm-up or of the game, and one of the classifier."""
        optimizers = self.optimizers()
        metrics = self._classifier_step(batch, optimizers[2]) if self.trains_classifier else {}
        step = self._game_step if self.plays_game else self._warmup_step
        output = step(batch, optimizers[0], optimizers[1], metrics)
        self.log(
            "train_loss",
            output.loss,
            on_step=self.on_step,
            on_epoch=self.on_epoch,
            prog_bar=True,
            batch_size=output.n_obs_minibatch,
            sync_dist=self.use_sync_dist,
        )
        self.compute_and_log_metrics(output, self.train_metrics, "train")
        return {"loss": output.loss.detach()}

    def _classifier_step(self, batch: dict[str, torch.Tensor], optimizer) -> dict[str, torch.Tensor]:
        self.module.classifier.requires_grad_(True)
        logits = self.module.classifier(batch[REGISTRY_KEYS.X_KEY])
        labels = batch[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).long()
        loss, accuracy, n = labelled_cross_entropy(logits, labels)
        # a process without a labelled cell in its batch takes the step too
        if self.trainer.strategy.reduce_boolean_decision(n > 0, all=False):
            optimizer.zero_grad()
            self.descend(loss)
            self.average_gradients(self.module.classifier.parameters())
            optimizer.step()
            self.lr_schedulers()[2].step()
        self.module.classifier.requires_grad_(False)
        return {"classifier_loss": loss.detach(), "classifier_accuracy": accuracy} if n else {}

    def _warmup_step(self, batch, encoder, generator, metrics) -> LossOutput:
        recycle_gradients(self.module)
        _, _, output = self.module(batch, loss_kwargs={"kl_weight": self.kl_weight})
        if self.trainer.strategy.reduce_boolean_decision(torch.isfinite(output.loss)):
            self.descend(output.loss)
            self._step(encoder, generator)
        self._epoch_terms.append(torch.stack([output.kl_local_sum.detach() / output.n_obs_minibatch]))
        return LossOutput(
            loss=output.loss,
            reconstruction_loss=output.reconstruction_loss,
            kl_local=output.kl_local,
            extra_metrics=metrics,
        )

    def _game_step(self, batch, encoder, generator, metrics) -> LossOutput:
        recycle_gradients(self.module)
        weights = replace(self._weights, reg=self._weights.reg * self.kl_weight)
        terms = introspective_gradients(self.module, batch, weights, fake_statistics=self.fake_statistics)
        loss = terms.pop("loss_encoder")
        finite = torch.isfinite(loss) and torch.isfinite(terms["loss_generator"])
        if self.trainer.strategy.reduce_boolean_decision(finite):
            self._step(encoder, generator)
        reconstruction, kl = terms.pop("reconstruction_per_cell"), terms.pop("kl_per_cell")
        self._epoch_terms.append(torch.stack([terms["kl_real"], terms["reconstruction_loss"], terms["cell_type_loss"]]))
        named = {k: v for k, v in terms.items() if k != "reconstruction_loss"}
        return LossOutput(
            loss=loss,
            reconstruction_loss=reconstruction,
            kl_local=kl,
            extra_metrics={**metrics, **named, "loss_encoder": loss, "m": torch.tensor(self._weights.m)},
        )

    def _step(self, encoder, generator) -> None:
        module = self.module
        self.average_gradients(
            [*module.encoder.parameters(), *module.generator_parameters(), *module.dispersion_parameters()]
        )
        encoder.step()
        generator.step()
        if (self.batch_decay or self.covariate_decay) and module.design.n_columns:
            lr = generator.param_groups[0]["lr"]
            module.shrink_covariates(*(1 - min(1.0, lr * x) for x in (self.batch_decay, self.covariate_decay)))

    def on_train_epoch_start(self):
        """Freeze or free the classifier, and fix the hinge constant when the game starts."""
        if self.module.classifier is not None:
            # a frozen classifier judges as it will when it predicts: without dropout, by its running statistics
            self.module.classifier.train(self.trains_classifier)
        if self.plays_game and math.isnan(self._weights.m):
            # without a warm-up there is no KL to go by
            m = self._paper_m if self._warmup_kl is None else self.m_factor * self._warmup_kl
            self._weights = replace(self._weights, m=m)
            logger.info("Introspective game starts with m = %.1f nats.", m)
        self._epoch_terms = []

    def on_train_epoch_end(self):
        """Step the schedules, remember the epoch's mean losses, and re-weigh them where asked."""
        if self._epoch_terms:
            mean = self.trainer.strategy.reduce(torch.stack(self._epoch_terms).mean(0), reduce_op="mean").tolist()
            if len(mean) == 1:
                self._warmup_kl = mean[0]
            else:
                self._term_history.append(mean)
                if self.softadapt and len(self._term_history) % self.softadapt_every == 0:
                    self._reweigh()
        # the classifier's follows its own steps
        for scheduler in self.lr_schedulers()[:2]:
            scheduler.step()

    def _reweigh(self) -> None:
        assert self.softadapt is not None
        recent = list(zip(*self._term_history[-max(self.softadapt_every, 5) :], strict=True))
        if len(recent[0]) < 2:
            return
        reg, rec, cell_type = 3 * softadapt_weights(
            recent, beta=self.softadapt_beta, variant=self.softadapt, slope_at=self.softadapt_slope_at
        )
        self._weights = replace(self._weights, reg=reg, rec=rec, cell_type=cell_type * self.alpha_cell_type)
