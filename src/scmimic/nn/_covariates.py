"""Batch and covariates of cells as the networks read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


class CovariateDesign(nn.Module):
    """Codes of batch and categorical covariates as one-hot columns, continuous covariates as standardised ones.

    What has a single category tells nothing and has no column.

    Parameters
    ----------
    n_batch
        Number of batches.
    n_cats_per_cov
        Number of categories of each categorical covariate.
    n_continuous_cov
        Number of continuous covariates.
    """

    mean: torch.Tensor | None
    std: torch.Tensor | None

    def __init__(self, n_batch: int = 1, n_cats_per_cov: Sequence[int] = (), n_continuous_cov: int = 0):
        super().__init__()
        self.n_categories = (n_batch, *n_cats_per_cov)
        self.n_columns = sum(n for n in self.n_categories if n > 1) + n_continuous_cov
        self.register_buffer("mean", torch.zeros(n_continuous_cov) if n_continuous_cov else None)
        self.register_buffer("std", torch.ones(n_continuous_cov) if n_continuous_cov else None)

    @property
    def n_continuous(self) -> int:
        """Number of continuous covariates."""
        return 0 if self.mean is None else len(self.mean)

    @torch.no_grad()
    def set(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Standardise the continuous covariates by these numbers; one that does not vary by 1."""
        assert self.mean is not None
        assert self.std is not None
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(
        self,
        batch_index: torch.Tensor | None,
        cat_covs: torch.Tensor | None = None,
        cont_covs: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Columns ``(n, n_columns)``, or None where there are none.

        Parameters
        ----------
        batch_index, cat_covs
            Codes, ``(n, 1)`` and ``(n, n_covariates)``.
        cont_covs
            Values in the user's units, ``(n, n_covariates)``.
        """
        if not self.n_columns:
            return None
        codes = [] if batch_index is None else [batch_index[:, 0]]
        codes += [] if cat_covs is None else list(cat_covs.unbind(1))
        told = zip(codes, self.n_categories, strict=True)
        parts = [F.one_hot(code.long(), n).float() for code, n in told if n > 1]
        if self.mean is not None:
            assert self.std is not None
            assert cont_covs is not None
            parts.append((cont_covs.float() - self.mean) / self.std)
        return torch.cat(parts, dim=1)
