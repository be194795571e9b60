"""MichiGAN's codes: of given cells, of the training cells, and of the cells to generate."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from scmimic import _keys
from scmimic._arguments import COUNT_OR_NONE, FLAG, check_rows
from scmimic.cells._checks import ANNDATA, check_obsm
from scmimic.cells._units import check_convertible, made_space
from scmimic.model.base._runner import n_epochs
from scmimic.model.gan._faithfulness import faithfulness, median_faithfulness
from scmimic.model.gan._representation import encode

logger = logging.getLogger(__name__)


class MichiGANCodesMixin:
    """:meth:`get_latent_representation` of :class:`~scmimic.model.MichiGAN`, and its draws of codes."""

    def _code_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance of the training cells' mean codes, and the mean variance of their posteriors, by dimension."""
        spread = self.posterior_.mean.var(0, dtype=np.float64)
        # on mean codes the model draws from no posterior, though its representation has one
        width = np.square(self.posterior_.std).mean(0) if self.code_width_ is None else self.code_width_
        return spread, width

    def _record_faithfulness(self, n_cells: int) -> None:
        """Append to the history how well newly generated cells show their codes."""
        if self.representation is None or n_cells == 0 or not isinstance(self.history_, dict) or not self.history_:
            return
        devices = [self.module.device] if self.module.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                value = self._median_faithfulness(n_cells)
        except Exception as error:  # noqa: BLE001
            # the model is trained, whatever its representation makes of the cells
            logger.warning("The history has no code faithfulness. %s: %s", type(error).__name__, error)
            return
        if value is None:
            return
        name = _keys.CODE_FAITHFULNESS
        row = pd.DataFrame({name: [value]}, index=pd.Index([n_epochs(self.history_) - 1], name="epoch"))
        self.history_[name] = pd.concat([self.history_[name], row]) if name in self.history_ else row

    def _median_faithfulness(self, n_cells: int) -> float | None:
        """That of newly generated cells; None where the representation cannot read their units."""
        want = self.representation_space_
        # cells as the model makes them, or counts of them where the representation reads no others
        as_counts = self.count_units_ == "counts" or (
            want is not None and want.units == "counts" and self.count_units_ is not None
        )
        if want is not None:
            try:
                check_convertible(made_space(self.expression_space_, self._units_made(as_counts)), want)
            except ValueError as error:
                logger.info("The history has no code faithfulness. %s", error)
                return None
        cells = self.generate(n_cells, as_counts=as_counts, seed=0)
        shown, _ = self.get_latent_representation(cells, return_dist=True)
        asked = cells.obsm[_keys.latent(type(self).__name__)].astype(np.float64)
        return median_faithfulness(faithfulness(asked, shown, *self._code_spread()))

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        batch_size: int | None = None,
        return_dist: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Codes of cells, by the representation.

        Parameters
        ----------
        adata
            Real cells in the layer and the units of the representation's own data, or generated cells, which are
            converted to them. None: the training data.
        indices
            Cells to encode; None: all.
        give_mean
            Give the posterior's mean; otherwise a sample, by torch's generator.
        batch_size
            Cells per pass.
        return_dist
            Give means and variances.

        Returns
        -------
        Codes ``(n, n_latent)``, or means and variances.

        Raises
        ------
        RuntimeError
            If `adata` is left out and the model was loaded without data.
        ValueError
            If the codes were registered with :meth:`setup_anndata`, and `adata` holds none of their size, the genes
            differ, or generated cells cannot be brought to the units of the representation, such as logarithms to
            counts.
        """
        ANNDATA.or_none.check(adata=adata)
        COUNT_OR_NONE.check(batch_size=batch_size)
        FLAG.check(give_mean=give_mean, return_dist=return_dist)
        adata = self._own_data() if adata is None else adata
        if self._is_own(adata):
            self._check_unchanged()
        if self.representation is not None:
            mean, var = encode(
                self.representation, adata, indices=indices, batch_size=batch_size, space=self.representation_space_
            )
        else:
            mean, var = self._registered_codes(adata)
            keep = check_rows("indices", indices, len(mean))
            mean, var = mean[keep], var[keep]
        if return_dist:
            return mean, var
        return mean if give_mean else mean + np.sqrt(var) * torch.randn(mean.shape).numpy()

    def _registered_codes(self, adata: AnnData) -> tuple[np.ndarray, np.ndarray]:
        args = self.registry_["setup_args"]
        if args["code_key"] not in adata.obsm:
            raise ValueError(
                f"This MichiGAN was trained on registered codes and cannot encode: give cells with "
                f"`.obsm[{args['code_key']!r}]`, or make the model with `MichiGAN.from_representation`."
            )
        mean = check_obsm(adata, args["code_key"], "code_key")
        if mean.shape[1] != self.module.n_latent:
            raise ValueError(
                f"`adata.obsm[{args['code_key']!r}]` holds codes of {mean.shape[1]} dimensions, but the model was "
                f"trained on {self.module.n_latent}. Put codes of the same representation there."
            )
        var = np.zeros_like(mean)
        if args["code_var_key"] is not None:
            var = check_obsm(adata, args["code_var_key"], "code_var_key")
        return mean, var

    def _codes_of_cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, var = self._registered_codes(self.adata)
        return mean[rows], np.sqrt(var[rows])

    def _draw_codes(self, source: np.ndarray, stream: torch.Generator) -> torch.Tensor:
        mean, std = (
            torch.as_tensor(x[source], device=self.module.device) for x in (self.posterior_.mean, self.posterior_.std)
        )
        return mean + std * torch.randn(mean.shape, generator=stream, device=mean.device)

    def _sources(self, z: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each code the training cell with the nearest mean code, of its label where one is given."""
        source = np.empty(len(z), dtype=np.int64)
        for code in np.unique(label):
            rows = np.flatnonzero(label == code)
            pool = self._pool(int(code))
            source[rows] = pool[self.posterior_.nearest(z[rows], pool)]
        return source
