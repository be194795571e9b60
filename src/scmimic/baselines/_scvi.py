"""scVI as a generator: what a user of scvi-tools gets without a generative model of their own.

Lopez, R. et al. Deep generative modeling for single-cell transcriptomics. Nature Methods 15, 1053-1058 (2018).
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmimic._arguments import COUNT_OR_NONE, SETTINGS, Choice
from scmimic._interrupts import plain_interrupts
from scmimic._noise import without_noise
from scmimic._progress import epochs
from scmimic._random import draw_members, seeded
from scmimic.baselines._base import ReferenceGenerator
from scmimic.cells import check_no_empty_cells, where_is

logger = logging.getLogger(__name__)

_PRIOR_BLOCK = 8192
_PRIOR_BLOCKS = 64
"""At most 64 * 8,192 draws from the prior: a type with a share of one in 1,000 still gets about 500 cells."""


class SCVIReference(ReferenceGenerator):
    """Draw counts from a trained :class:`scvi.model.SCVI`, which was made for inference and not for this.

    Parameters
    ----------
    adata
        Training cells. Never changed.
    labels_key
        Column of ``adata.obs`` with the cell types, or ``None``. scVI itself never sees them.
    layer
        Layer with raw counts. Default: ``adata.X``.
    mode
        ``"posterior_predictive"`` takes training cells of the requested label (each once before any twice) and draws
        counts from their posterior, with their own total count. ``"prior"`` draws codes from N(0, I) and gives each
        the label that a logistic regression on the posterior means of the training cells predicts, until there are
        enough of every label; the total count is drawn from the training cells of that label. A label that the bounded
        number of draws does not reach often enough is filled with the codes that come closest to it, and logged.
    max_epochs
        Epochs of training. Default: that of scvi-tools (400 for up to 20,000 cells).
    model_kwargs
        Passed to :class:`scvi.model.SCVI`.
    train_kwargs
        Passed to its ``.train``.

    See Also
    --------
    scmimic.model.ACTIVA : The model to compare with it.

    Notes
    -----
    ``model_`` holds the trained model after :meth:`fit`. Both modes share it: ``mode`` may be set again without a new
    fit. scVI needs at least one count in each cell.

    Examples
    --------
    >>> import anndata as ad, numpy as np
    >>> real = ad.AnnData(np.random.default_rng(0).poisson(3.0, (60, 8)).astype(np.float32))
    >>> synthetic = SCVIReference(real, labels_key=None, max_epochs=1).fit().generate(5, seed=0)
    >>> synthetic.shape
    (5, 8)
    """

    # its epochs
    _shows_fit: ClassVar[bool] = True

    def __init__(
        self,
        adata: AnnData,
        *,
        labels_key: str | None,
        layer: str | None = None,
        mode: Literal["posterior_predictive", "prior"] = "posterior_predictive",
        max_epochs: int | None = None,
        model_kwargs: dict[str, Any] | None = None,
        train_kwargs: dict[str, Any] | None = None,
    ) -> None:
        Choice(("posterior_predictive", "prior")).check(mode=mode)
        COUNT_OR_NONE.check(max_epochs=max_epochs)
        SETTINGS.or_none.check(model_kwargs=model_kwargs, train_kwargs=train_kwargs)
        super().__init__(adata, labels_key=labels_key, layer=layer)
        check_no_empty_cells(self._x, where_is(layer))
        self.mode = mode
        self.max_epochs = max_epochs
        self.model_kwargs = dict(model_kwargs or {})
        self.train_kwargs = dict(train_kwargs or {})

    @property
    def name(self) -> str:
        """Name in tables: ``"scvi_posterior"`` or ``"scvi_prior"``."""
        return "scvi_prior" if self.mode == "prior" else "scvi_posterior"

    @property
    def parameters(self) -> dict[str, Any]:
        """Settings that are recorded with the generated cells."""
        return super().parameters | {
            "mode": self.mode,
            "max_epochs": self.max_epochs,
            "model_kwargs": self.model_kwargs,
            "train_kwargs": self.train_kwargs,
        }

    def _fit(self, rng: np.random.Generator) -> None:
        import scvi

        obs = pd.DataFrame(index=[str(i) for i in range(len(self._codes))])
        cells = AnnData(X=self._x.astype(np.float32), obs=obs, var=pd.DataFrame(index=self._var.index.astype(str)))
        settings = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False} | self.train_kwargs
        if not settings["enable_progress_bar"]:
            settings["callbacks"] = [*settings.get("callbacks", ()), epochs("Training scVI")]
        with seeded(int(rng.integers(2**31))):
            scvi.model.SCVI.setup_anndata(cells)
            self.model_ = scvi.model.SCVI(cells, **self.model_kwargs)
            with plain_interrupts(), without_noise():
                self.model_.train(max_epochs=self.max_epochs, **settings)
        self._classifier = None
        if len(self.categories) > 1:
            from sklearn.linear_model import LogisticRegression

            latent = self.model_.get_latent_representation()
            self._classifier = LogisticRegression(max_iter=1000).fit(latent, self._codes)

    def _sample(self, counts: dict[int, int], rng: np.random.Generator) -> sp.csr_matrix:
        draw = self._sample_prior if self.mode == "prior" else self._sample_posterior
        with seeded(int(rng.integers(2**31))):
            return draw(counts, rng)

    def _sample_posterior(self, counts: dict[int, int], rng: np.random.Generator) -> sp.csr_matrix:
        rows = np.concatenate([draw_members(self._members(code), k, rng) for code, k in counts.items()])
        blocks = [self.model_.posterior_predictive_sample(indices=rows[b].tolist()) for b in self._blocks(len(rows))]
        return sp.vstack([sp.csr_matrix(block.to_scipy_sparse()) for block in blocks], format="csr")

    def _sample_prior(self, counts: dict[int, int], rng: np.random.Generator) -> sp.csr_matrix:
        import torch

        codes = self._prior_codes(counts, rng)
        library = np.concatenate([self._draw_library(code, k, rng) for code, k in counts.items()])
        module, blocks = self.model_.module, []
        module.eval()
        for b in self._blocks(len(codes)):
            z = torch.as_tensor(codes[b], device=module.device)
            log_library = torch.as_tensor(np.log(library[b, None]), dtype=z.dtype, device=module.device)
            batch = torch.zeros((len(z), 1), dtype=torch.long, device=module.device)
            with torch.inference_mode():
                px = module.generative(z=z, library=log_library, batch_index=batch)["px"]
                blocks.append(sp.csr_matrix(px.sample().cpu().numpy()))
        return sp.vstack(blocks, format="csr")

    def _prior_codes(self, counts: dict[int, int], rng: np.random.Generator) -> np.ndarray:
        """Draw codes from N(0, I) until the classifier gives each label its number of them."""
        n_latent = self.model_.module.n_latent
        if self._classifier is None:
            return rng.standard_normal((sum(counts.values()), n_latent), dtype=np.float32)
        order = list(self._classifier.classes_)
        accepted: dict[int, list[np.ndarray]] = {code: [] for code in counts}
        missing = dict(counts)
        nearest = {code: (np.empty((0, n_latent), np.float32), np.empty(0)) for code in counts}
        for _ in range(_PRIOR_BLOCKS):
            z = rng.standard_normal((_PRIOR_BLOCK, n_latent), dtype=np.float32)
            probability = self._classifier.predict_proba(z)
            best = self._classifier.classes_[probability.argmax(axis=1)]
            for code in [code for code, k in missing.items() if k > 0]:
                hits = z[best == code][: missing[code]]
                accepted[code].append(hits)
                missing[code] -= len(hits)
                rest = best != code
                pool = np.vstack([nearest[code][0], z[rest]])
                score = np.concatenate([nearest[code][1], probability[rest, order.index(code)]])
                top = np.argsort(-score, kind="stable")[: counts[code]]
                nearest[code] = (pool[top], score[top])
            if not any(missing.values()):
                break
        for code, k in missing.items():
            if k > 0:
                logger.warning(
                    f"The prior of scVI gave {counts[code] - k} of {counts[code]} cells of "
                    f"{self.categories[code]!r} in {_PRIOR_BLOCK * _PRIOR_BLOCKS:,} draws; the others are the nearest."
                )
                accepted[code].append(nearest[code][0][:k])
        return np.vstack([block for code in counts for block in accepted[code]])
