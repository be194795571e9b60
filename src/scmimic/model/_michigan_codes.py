"""MichiGAN's codes: of given cells, of the training cells, and of the cells to generate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from anndata import AnnData

from scmimic.model._representation import encode
from scmimic.model._validation import check_obsm


class MichiGANCodesMixin:
    """:meth:`get_latent_representation` of :class:`~scmimic.model.MichiGAN`, and its draws of codes."""

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
        ValueError
            If the codes were registered with :meth:`setup_anndata`, and `adata` does not hold any, or generated cells
            cannot be brought to the units of the representation, such as logarithms to counts.
        """
        if self.representation is not None:
            mean, var = encode(
                self.representation, adata, indices=indices, batch_size=batch_size, space=self.representation_space_
            )
        else:
            mean, var = self._registered_codes(adata)
            keep = slice(None) if indices is None else np.asarray(indices)
            mean, var = mean[keep], var[keep]
        if return_dist:
            return mean, var
        return mean if give_mean else mean + np.sqrt(var) * torch.randn(mean.shape).numpy()

    def _registered_codes(self, adata: AnnData | None) -> tuple[np.ndarray, np.ndarray]:
        adata = self.adata if adata is None else adata
        args = self.registry_["setup_args"]
        if adata is None or args["code_key"] not in adata.obsm:
            raise ValueError(
                f"This MichiGAN was trained on registered codes and cannot encode: give cells with "
                f"`.obsm[{args['code_key']!r}]`, or make the model with `MichiGAN.from_representation`."
            )
        mean = check_obsm(adata, args["code_key"], "code_key")
        var = np.zeros_like(mean)
        if args["code_var_key"] is not None:
            var = check_obsm(adata, args["code_var_key"], "code_var_key")
        return mean, var

    def _codes_of_cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, var = self._registered_codes(None)
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
