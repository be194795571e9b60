"""The spaces of a held-out comparison: what models are fitted on, and what all cells are compared in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scvi import REGISTRY_KEYS

from scmimic._arrays import Matrix, as_matrix, expm1, prepare_expression, stored_values
from scmimic.cells import read_matrix, recorded_space


class HoldoutSpaces:
    """Cells with their values in one or several layers, some of which are logged.

    Parameters
    ----------
    adata
        All cells.
    layer
        Layer in whose space cells are compared; None: `.X`.
    layers
        Further layers that models may be set up with.
    log1p, target_sum
        Scale cells to a total and take log(1 + x) before they are compared.
    """

    def __init__(
        self, adata: AnnData, layer: str | None, layers: Sequence[str], *, log1p: bool, target_sum: float
    ) -> None:
        if isinstance(layers, str):
            raise ValueError(f"`layers` must be a list of names: [{layers!r}].")
        if layers and not log1p:
            raise ValueError("`layers` needs `log1p=True`: with False all models must be set up with `layer`.")
        self.adata, self.layer, self.log1p, self.target_sum = adata, layer, log1p, target_sum
        self.expression = prepare_expression(read_matrix(adata, layer), "adata", log1p, target_sum)
        """All cells as they are compared."""
        self.logged = {name: self._is_logged(name) for name in layers}

    def _is_logged(self, name: str) -> bool:
        """Whether a layer holds the log1p of amounts that are proportional to `layer` in each cell, or the amounts."""
        x = as_matrix(read_matrix(self.adata, name), f"layers[{name!r}]", dtype=np.float32)
        values = stored_values(x)
        # no logarithm is so large that its exponential is infinite
        possible = [False, True][: 1 + (values.max(initial=0) < 80)] if values.min(initial=0) >= 0 else []
        for logged in possible:
            amounts = prepare_expression(expm1(x) if logged else x, name, self.log1p, self.target_sum)
            if _same(amounts, self.expression):
                return logged
        raise ValueError(
            f"`adata.layers[{name!r}]` holds neither the values of `layer`, scaled by a factor per cell or not, nor "
            "the log1p of these: cells decoded into it cannot be compared with the others."
        )

    def bare(self, keep: np.ndarray) -> AnnData:
        """Some of the cells, without what all cells may have shaped: embeddings, graphs, results, other layers."""
        x, obs = read_matrix(self.adata, self.layer)[keep], self.adata.obs[keep].copy()
        new = AnnData(x, obs=obs, var=pd.DataFrame(index=self.adata.var_names))
        if self.layer is not None:
            new.layers[self.layer] = x.copy()
        for name in self.logged:
            new.layers[name] = read_matrix(self.adata, name)[keep]
        return new

    def check(self, model: Any, train: AnnData) -> None:
        """Raise unless the model was set up with values that the cells of `train` have too."""
        name = _layer_of(model)
        if name is not None and name not in train.layers:
            raise ValueError(
                f"The model was set up with the layer {name!r}, which its `fit` made. Put it into `adata.layers` "
                f"before, and pass `layers=[{name!r}]`: cells to encode need it too."
            )
        manager = getattr(model, "adata_manager", None)
        if manager is None or REGISTRY_KEYS.X_KEY not in manager.data_registry:
            return
        seen, held = manager.get_from_registry(REGISTRY_KEYS.X_KEY), read_matrix(train, name)
        if seen.shape == held.shape and not _same(seen, held):
            raise ValueError(
                "A `fit` changed the values of the cells that it was given, so that the model would encode others than "
                "it was trained on. Put the values into a layer of `adata` before, and name it in `layers`."
            )

    def compared(self, cells: AnnData, model: Any, name: str) -> Matrix:
        """Cells that a model decoded, as they are compared; `name` is how error messages call them."""
        # a model of logarithms may have been asked for counts
        recorded, layer = recorded_space(cells), _layer_of(model)
        counts = recorded is not None and recorded.units == "counts"
        logged = layer is not None and self.logged.get(layer, False)
        x = expm1(cells.X) if logged and not counts else cells.X
        return prepare_expression(x, name, self.log1p, self.target_sum)


def _same(a: Matrix, b: Matrix) -> bool:
    """Whether two matrices of one shape agree but for rounding."""
    return abs(sp.csr_matrix(a) - sp.csr_matrix(b)).sum() <= 1e-3 * abs(b).sum()


def _layer_of(model: Any) -> str | None:
    """Layer that a model of scvi-tools' kind was set up with; None for `.X`, and for models that do not say."""
    return getattr(model, "registry_", {}).get("setup_args", {}).get("layer")
