"""What a trained model takes from its training cells before it generates: dispersions, spread of codes, margins."""

from __future__ import annotations

import logging

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS

from scmimic._arrays import log_normalise
from scmimic.model.generation._sampler import CellSampler
from scmimic.model.generation.calibration._dispersion import match_zeros, pool_dispersion
from scmimic.model.generation.calibration._margins import GeneMargins, Histogram, histogram
from scmimic.model.generation.calibration._spread import WithinLabelVariance, local_centers

logger = logging.getLogger(__name__)

MAX_SPREAD = 1.5
"""Codes are moved apart by half of their distances at most; the most that any data set needed was 1.4."""
MIN_SPREAD_CELLS = 50


class CalibrationMixin:
    """The comparison of generated cells with the training cells, at the end of a training.

    Classes have ``module``, ``posterior_`` and ``_training_batches()``.
    """

    margins_: GeneMargins | None = None

    @torch.inference_mode()
    def _calibrate(self, *, dispersion: bool, spread: bool, margins: bool) -> None:
        """Match dispersions, then variance within types, then margins; all of it, or none where it is interrupted."""
        self.module.eval()
        if not self.module.is_count:
            return
        learned = None if self.module.px_r is None else self.module.px_r.clone()
        try:
            self._match(dispersion=dispersion, spread=spread, margins=margins)
        except BaseException:
            if learned is not None:
                self.module.px_r.copy_(learned)
            self.margins_, self.posterior_.center, self.posterior_.spread = None, None, 1.0
            raise

    def _match(self, *, dispersion: bool, spread: bool, margins: bool) -> None:
        if dispersion and self.module.px_r is not None:
            pool_dispersion(self.module, self._training_batches())
            match_zeros(self.module, self._training_batches())
        observed = None
        if margins:
            seed = int(torch.randint(2**31 - 1, ()))
            observed = histogram(self._observed(), len(self._cells_per_label()), self.module.n_input)
            self.margins_ = self._compare_margins(observed, seed)
        if spread:
            self._match_spread(observed)

    def _match_spread(self, observed: Histogram | None, max_cells: int = 5_000) -> None:
        """Move codes apart until generated cells vary within types as the training cells do, but for their error.

        The ratio of variances at the largest spread and at none are taken for a line. With margins, it is that of cells
        whose margins are matched at that spread.

        Parameters
        ----------
        observed
            Counts of the training cells for the margins; None: there are none.
        max_cells
            Training cells to look at.
        """
        posterior = self.posterior_
        rng = np.random.default_rng(int(torch.randint(2**31 - 1, ())))
        cells = np.sort(rng.permutation(len(posterior))[:max_cells])
        if len(cells) < MIN_SPREAD_CELLS:
            return
        x = log_normalise(sp.vstack([x for x, _ in self._observed(cells)]))
        variance = WithinLabelVariance(x, posterior.labels[cells], rng)

        def ratio() -> float:
            sampler = CellSampler(self, seed=int(rng.integers(2**31)), margins=self.margins_)
            return variance.ratio(log_normalise(sp.vstack([chunk.x for chunk in sampler.resample(cells)])))

        target, none = 1 - variance.error, ratio()
        if none >= target:
            return
        unmatched = self.margins_
        posterior.center = local_centers(posterior.mean, posterior.labels)

        def spread_by(value: float) -> None:
            posterior.spread = value
            if observed is not None:
                self.margins_ = self._compare_margins(observed, int(rng.integers(2**31)))

        spread_by(MAX_SPREAD)
        slope = (ratio() - none) / (MAX_SPREAD - 1)
        if slope <= 0:
            posterior.center, posterior.spread, self.margins_ = None, 1.0, unmatched
            return
        spread_by(min(1 + (target - none) / slope, MAX_SPREAD))
        logger.info(
            "Cells varied within types %.1f %% less than the training cells; their codes are moved apart by %.0f %%.",
            100 * (1 - none),
            100 * (posterior.spread - 1),
        )

    def _cells_per_label(self) -> np.ndarray:
        return np.bincount(self.posterior_.labels, minlength=self.module.n_labels)

    def _compare_margins(
        self, observed: Histogram, seed: int, n_cells: int = 20_000, min_cells: int = 500
    ) -> GeneMargins:
        """Compare the distribution of each gene in generated and training cells of each label.

        Parameters
        ----------
        observed
            Counts of the training cells.
        seed
            Seed of the generated ones.
        n_cells
            Cells to generate for it, over all labels; their number bounds the error of the model's distributions.
        min_cells
            Least number per label.
        """
        present = self._cells_per_label()
        requests = [
            (code, max(min_cells, round(n_cells * n / present.sum()))) for code, n in enumerate(present) if n > 0
        ]
        sampler = CellSampler(self, seed=seed)
        generated = ((chunk.x, chunk.labels.clip(0)) for chunk in sampler.run(requests, shuffle=False))
        return GeneMargins(histogram(generated, len(present), self.module.n_input), observed)

    def _observed(self, cells: np.ndarray | None = None):
        """Counts and label codes of these training cells, or of all, block by block."""
        for tensors in self._training_batches(cells):
            labels = tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).cpu().numpy().astype(np.int64)
            yield sp.csr_matrix(tensors[REGISTRY_KEYS.X_KEY].cpu().numpy()), labels
