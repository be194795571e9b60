"""Codes from a conditional flow: one network for p(code, log library size | type, batch, covariates).

The network sees every attribute by itself, so that a combination that no cell has lies between those that share its
attributes. Neural spline flow with coupling layers (Durkan et al. 2019), by zuko.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from scmimic._extras import need
from scmimic._plain import saved_as
from scmimic._progress import progress
from scmimic._random import seeded
from scmimic.cells import LABEL, AttributeValues
from scmimic.model.generation.codes._posterior import AggregatedPosterior
from scmimic.nn import CovariateDesign

MAX_STEPS = 2_000
BATCH_SIZE = 512
LEARNING_RATE = 1e-3
HELD_OUT = 0.1
"""Part of the cells by which it is seen when the flow has learned enough."""
CHECK_EVERY, PATIENCE = 100, 5
SHAPE = {"transforms": 3, "bins": 8, "hidden_features": (64, 64), "passes": 2}


@saved_as("CodeFlow")
class CodeFlow:
    """A flow of codes and log library sizes, given attributes.

    Parameters
    ----------
    n_features
        Size of the code and 1.
    n_categories
        Number of values of each column of codes, the label's first.
    scale
        Means and standard deviations of code and log library size, ``(2, n_features)``, and of the continuous
        covariates, ``(2, n_numbers)``.
    """

    def __init__(self, n_features: int, n_categories: tuple[int, ...], scale: tuple[np.ndarray, np.ndarray]):
        self.n_features, self.n_categories, self.scale = n_features, n_categories, scale
        label, *others = n_categories
        self.design = CovariateDesign(label, others, scale[1].shape[1])
        if scale[1].size:
            self.design.set(*torch.as_tensor(scale[1]))
        zuko = need("zuko", extra="flow", what="codes='flow'", hint="Or take codes='mixture'.")
        self.flow = zuko.flows.NSF(n_features, self.design.n_columns, **SHAPE)

    @classmethod
    def fit(cls, posterior: AggregatedPosterior) -> CodeFlow:
        """Fit to training cells: samples of their posteriors, new ones in every step."""
        mean = posterior.codes_and_libraries().astype(np.float64)
        width = np.column_stack([posterior.std, np.zeros(len(mean))])
        attributes = posterior.attributes
        moments = np.stack([mean.mean(0), np.sqrt(mean.var(0) + (width**2).mean(0)).clip(1e-3)])
        numbers = attributes.numbers
        of_numbers = np.stack([numbers.mean(0), numbers.std(0)])
        n_categories = tuple(int(column.max()) + 1 for column in attributes.codes.T)
        # `generate` needs no gradients, and the fit that it may begin with does
        with seeded(0), torch.inference_mode(mode=False), torch.enable_grad():
            found = cls(mean.shape[1], n_categories, (moments, of_numbers))
            found._learn((mean - moments[0]) / moments[1], width / moments[1], attributes)
        return found

    def _learn(self, mean: np.ndarray, width: np.ndarray, attributes: AttributeValues) -> None:
        x, std = (torch.as_tensor(values, dtype=torch.float32) for values in (mean, width))
        context = self._context(attributes)
        order = torch.randperm(len(x))
        n_held = int(len(x) * HELD_OUT)
        held, learned = order[:n_held], order[n_held:]
        shown = x[held] + std[held] * torch.randn_like(x[held])
        optimizer = torch.optim.Adam(self.flow.parameters(), lr=LEARNING_RATE)
        best, left, kept = np.inf, PATIENCE, copy.deepcopy(self.flow.state_dict())
        with progress(MAX_STEPS, "Fitting the flow") as advance:
            for step in range(MAX_STEPS):
                rows = learned[torch.randint(len(learned), (min(BATCH_SIZE, len(learned)),))]
                sample = x[rows] + std[rows] * torch.randn_like(x[rows])
                loss = -self.flow(context[rows]).log_prob(sample).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                advance(1)
                if (step + 1) % CHECK_EVERY == 0 and n_held:
                    with torch.no_grad():
                        value = -self.flow(context[held]).log_prob(shown).mean().item()
                    left = PATIENCE if value < best else left - 1
                    if value < best:
                        best, kept = value, copy.deepcopy(self.flow.state_dict())
                    if left == 0:
                        break
        if n_held:
            self.flow.load_state_dict(kept)
        self.flow.eval()

    def _context(self, attributes: AttributeValues) -> torch.Tensor:
        codes, numbers = (torch.as_tensor(values) for values in attributes)
        columns = self.design(codes[:, :1], codes[:, 1:], numbers)
        return torch.empty(len(codes), 0) if columns is None else columns

    @torch.no_grad()
    def sample(
        self, attributes: AttributeValues, noise: torch.Tensor, stream: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and log library sizes ``(n, 1)`` of cells with these attributes; as :meth:`CodeMixture.sample`."""
        codes = attributes.codes.copy()
        codes[:, LABEL] = codes[:, LABEL].clip(0)
        context = self._context(AttributeValues(codes, attributes.numbers)).to(noise.device)
        normal = torch.cat([noise, torch.randn(len(noise), 1, generator=stream, device=noise.device)], dim=1)
        drawn = self.flow.to(noise.device)(context).transform.inv(normal)
        mean, std = torch.as_tensor(self.scale[0], dtype=noise.dtype, device=noise.device)
        drawn = mean + std * drawn
        return drawn[:, :-1].contiguous(), drawn[:, -1:]

    def saved_state(self) -> dict[str, Any]:
        """Sizes and weights."""
        weights = {name: value.detach().cpu().clone() for name, value in self.flow.state_dict().items()}
        return {
            "n_features": self.n_features,
            "n_categories": self.n_categories,
            "scale": self.scale,
            "weights": weights,
        }

    @classmethod
    def from_saved_state(cls, state: dict[str, Any]) -> CodeFlow:
        """The flow of :meth:`saved_state`."""
        found = cls(state["n_features"], tuple(state["n_categories"]), tuple(state["scale"]))
        found.flow.load_state_dict(state["weights"])
        found.flow.eval()
        return found
