"""The training plan of every GAN: WGAN-GP's critic and generator steps."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from scvi import REGISTRY_KEYS
from scvi.train import TrainingPlan
from torch.optim.swa_utils import get_ema_multi_avg_fn

from scmimic.model.base._plan import adam
from scmimic.model.gan._critic_gradients import critic_gradients, generator_gradient
from scmimic.model.gan._module import GANModule
from scmimic.model.gan._prediction import Prediction
from scmimic.nn import recycle_gradients


class WassersteinTrainingPlan(TrainingPlan):
    """WGAN-GP: every batch is a step of the critic, every `n_critic`-th also one of the generator.

    Parameters
    ----------
    module
        The networks.
    n_critic
        Steps of the critic for each step of the generator; 5 as the papers.
    gradient_penalty
        lambda, the weight of the penalty; 10 as the papers.
    lr
        Learning rate of both. Models of the preset "michigan" set 3e-4, as the paper names none.
    betas, eps, weight_decay, amsgrad
        Adam's. scGAN has AMSGrad.
    lr_decay_steps
        The learning rate falls to a tenth in so many steps of the generator, exponentially (scGAN: 1,000,000). None
        keeps it constant.
    prediction
        How many steps ahead of the generator the critic looks, see :class:`~scmimic.train.Prediction`; 0 is plain Adam.
    average_decay
        The cells are made by an exponential moving average of the generator's weights, which keeps this share at each
        of its steps (less in the first steps); 0: by the last weights.
    mutual_information_weight
        Weight of the mutual information between code and cell, with registered labels also of the cross entropy of
        labelled cells, which is that of the categorical code; only for :class:`~scmimic.model.InfoWGANGP`.
    state
        :meth:`state` of an earlier run that this one continues; the model sets it.
    """

    def __init__(
        self,
        module: GANModule,
        *,
        n_critic: int = 5,
        gradient_penalty: float = 10.0,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.9),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        lr_decay_steps: int | None = None,
        prediction: float = 1.0,
        average_decay: float = 0.999,
        mutual_information_weight: float = 1.0,
        state: dict[str, Any] | None = None,
    ):
        super().__init__(module, lr=lr, eps=eps, weight_decay=weight_decay)
        self.automatic_optimization = False
        self.n_critic = n_critic
        self.gradient_penalty = gradient_penalty
        self.betas = betas
        self.amsgrad = amsgrad
        self.lr_decay_steps = lr_decay_steps
        self.average_decay = average_decay
        module.mutual_information_weight = mutual_information_weight
        self._resumed = state
        self._critic_steps = 0 if state is None else state["critic_steps"]
        self._generator_steps = 0 if state is None else state["generator_steps"]
        self._ahead, self._prediction = None, None
        if prediction > 0:
            self._ahead = copy.deepcopy(module.generator).requires_grad_(False)
            self._prediction = Prediction(module.generator.parameters(), self._ahead.parameters(), horizon=prediction)
        self._terms: dict[str, list[torch.Tensor]] = defaultdict(list, generator_loss=[])

    def configure_optimizers(self):
        """Adam for the critic and for the generator, each where an earlier run left it."""
        settings = {
            "lr": self.lr,
            "betas": self.betas,
            "eps": self.eps,
            "weight_decay": self.weight_decay,
            "amsgrad": self.amsgrad,
        }
        optimizers = [
            adam(self.module.critic_parameters(), **settings),
            adam(self.module.generator.parameters(), **settings),
        ]
        for optimizer, name in zip(optimizers, ("critic", "generator"), strict=True):
            if self._resumed is not None and self._resumed["amsgrad"] == self.amsgrad:
                # the moments alone: the settings are those of this run
                state = copy.deepcopy(self._resumed[name]["state"])
                optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return optimizers, []

    def state(self) -> dict[str, Any]:
        """What a later run needs to go on, on the CPU."""
        critic, generator = self.trainer.optimizers
        return {
            "critic": _to_cpu(critic.state_dict()),
            "generator": _to_cpu(generator.state_dict()),
            "critic_steps": self._critic_steps,
            "generator_steps": self._generator_steps,
            "amsgrad": self.amsgrad,
        }

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        """One step of the critic, and where it is due one of the generator."""
        critic, generator = self.optimizers()
        if self.lr_decay_steps is not None:
            lr = self.lr * 0.1 ** (self._generator_steps / self.lr_decay_steps)
            for group in (*critic.param_groups, *generator.param_groups):
                group["lr"] = lr
        loss = self._critic_step(batch, critic)
        self._critic_steps += 1
        if self._critic_steps % self.n_critic == 0:
            loss = loss + 0 * self._generator_step(batch, generator)
        return {"loss": loss}

    def _critic_step(self, batch: dict[str, torch.Tensor], optimizer) -> torch.Tensor:
        module = self.module
        real = module.prepare(batch[REGISTRY_KEYS.X_KEY])
        draw = module.draw(batch)
        with torch.no_grad():
            fake = module.run(module.generator if self._ahead is None else self._ahead, draw)
        feature_loss, logged = module.feature_losses(draw, batch)
        for parameter in module.head_parameters():
            parameter.grad = None
        terms = critic_gradients(
            module.critic,
            real,
            fake,
            module.condition(draw),
            penalty_weight=self.gradient_penalty,
            feature_loss=feature_loss,
        )
        if torch.isfinite(terms["critic_loss"]):
            optimizer.step()
        self._remember(terms | logged)
        return terms["critic_loss"]

    def _generator_step(self, batch: dict[str, torch.Tensor], optimizer) -> torch.Tensor:
        module = self.module
        draw = module.draw(batch)
        recycle_gradients(module.generator)
        fake = module.run(module.generator, draw)
        feature_loss, _ = module.feature_losses(draw, batch)
        loss, gradient = generator_gradient(
            module.critic, fake.detach(), module.condition(draw), feature_loss=feature_loss
        )
        if torch.isfinite(loss):
            fake.backward(gradient)
            if self._prediction is not None:
                self._prediction.remember()
            optimizer.step()
            if self._prediction is not None:
                self._prediction.predict()
            self._generator_steps += 1
            self._average()
        self._remember({"generator_loss": loss})
        return loss

    @torch.no_grad()
    def _average(self) -> None:
        t = self._generator_steps
        decay = min(self.average_decay, (1 + t) / (10 + t)) if self.average_decay > 0 else 0.0
        # the function alone: `AveragedModel` would give the saved weights other names
        update = get_ema_multi_avg_fn(decay)
        update(list(self.module.average.parameters()), list(self.module.generator.parameters()), None)

    def _remember(self, terms: dict[str, torch.Tensor]) -> None:
        for name, value in terms.items():
            self._terms[name].append(value)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means."""
        for name, values in self._terms.items():
            # a short epoch may be without a step of the generator
            self.log(f"{name}_train", torch.stack(values).mean() if values else torch.tensor(float("nan")))
            values.clear()

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """The Wasserstein estimate on cells that the critic has not seen: far below the training one, it overfits."""
        _, _, output = self.module(batch)
        self.log("wasserstein_validation", -output.loss, on_epoch=True, batch_size=output.n_obs_minibatch)

    def on_validation_epoch_end(self) -> None:
        """Nothing: there is no ELBO."""


def _to_cpu(value: Any) -> Any:
    if torch.is_tensor(value):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    return value
