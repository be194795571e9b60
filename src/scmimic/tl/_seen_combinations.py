"""Can a prediction by latent arithmetic be trusted? What the same model makes of combinations that were seen.

Each reference group's cells under the target condition are predicted from its control cells by the shift of the other
groups, and their mean expression is compared with the real one. The decoder has been trained on these cells, and may
know them by heart. So a second decoder is asked that has not: the mean of the cells whose codes are nearest to the
predicted ones, without those of the combination itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.neighbors import NearestNeighbors

from scmimic.model.generation.similarity import GOOD_TRUST
from scmimic.tl._combinations import Combinations, Route, Shift, Target, predict_codes
from scmimic.tl._gene_means import CONTROL, MEAN_SHIFT, errors_of_means, explained_change, trivial_means
from scmimic.tl._latent_model import Code, LogExpression, Posterior, decode, stream

logger = logging.getLogger(__name__)

DECODED, NEIGHBORS = "decoded", "neighbors"
SOURCES = (DECODED, NEIGHBORS, CONTROL, MEAN_SHIFT)
COLUMNS = [
    "group",
    "condition",
    "n_cells",
    "weight",
    *(f"{measure}_{source}" for measure in ("error", "r2") for source in SOURCES),
]

# Cells of a combination that are decoded, where there are not too many in all: gene means of so many are sharp enough.
_DECODED_CELLS, _DECODED_IN_ALL = 500, 10_000
# Predicted codes, cells that their neighbours are found among, and neighbours of each.
_QUERIES, _POOL, _NEIGHBORS = 300, 5000, 20


@dataclass(frozen=True)
class SeenCombinations:
    """What predictions of seen combinations are made from.

    Parameters
    ----------
    model, adata, decode_kwargs
        As in :func:`~scmimic.tl.latent_arithmetic`.
    posterior
        Of all cells.
    expression
        All cells as they are compared.
    combinations
        Without the target.
    means
        Mean expression of the combinations.
    shift, code, seed
        As in :func:`~scmimic.tl.latent_arithmetic`.
    """

    model: Any
    adata: AnnData
    decode_kwargs: Mapping[str, Any] | None
    posterior: Posterior
    expression: LogExpression
    combinations: Combinations
    means: Mapping[Target, np.ndarray]
    shift: Shift
    code: Code
    seed: int

    def table(self, ways: Mapping[Target, list[Route]], weights: Mapping[str, float]) -> pd.DataFrame:
        """One row per combination: its weight, and the errors of each prediction of its mean expression."""
        rows = []
        most = max(min(_DECODED_CELLS, _DECODED_IN_ALL // max(len(ways), 1)), 1)
        for number, (target, routes) in enumerate(ways.items()):
            predicted = trivial_means(self.means, routes, self.shift)
            predicted[NEIGHBORS] = self._of_neighbors(self._codes(routes, "mean", _QUERIES, number), target, number)
            decoded = self._decoded(self._codes(routes, self.code, most, number), target)
            if decoded is not None:
                predicted[DECODED] = decoded
            about = {
                "group": target[0],
                "condition": target[1],
                "n_cells": len(self.combinations.rows[target]),
                "weight": weights[target[0]],
            }
            rows.append(about | errors_of_means(self.means[target], predicted))
        table = pd.DataFrame(rows, columns=COLUMNS)
        table["weight"] /= table["weight"].sum()
        return table

    def _codes(self, routes: list[Route], code: Code, most: int, number: int) -> np.ndarray:
        n = min(most, sum(len(self.combinations.rows[route.start]) for route in routes))
        rng = stream(self.seed, number, 0)
        return predict_codes(self.posterior, self.combinations, routes, code=code, n=n, rng=rng).codes

    def _decoded(self, codes: np.ndarray, target: Target) -> np.ndarray | None:
        """Mean expression of codes decoded as cells of a combination; None where it cannot be compared."""
        known = dict(zip((self.combinations.group_key, self.combinations.condition_key), target, strict=True))
        # what is said of the predicted cells one by one, or of their kind, holds for no others
        alike = {name: value for name, value in (self.decode_kwargs or {}).items() if np.ndim(value) == 0}
        alike = {name: value for name, value in alike.items() if name not in ("labels", "transform_batch")}
        cells = decode(self.model, codes, known=known, seed=self.seed, decode_kwargs=alike, adata=self.adata)
        try:
            values = self.expression.of_decoded(cells)
        except ValueError as error:
            logger.info("Decoded cells are not compared with those that were seen. %s", error)
            return None
        return np.asarray(values.mean(axis=0, dtype=np.float64)).ravel()

    def _of_neighbors(self, codes: np.ndarray, target: Target, number: int) -> np.ndarray:
        """Mean expression of the cells with the nearest codes, of other combinations."""
        others = [rows for pair, rows in self.combinations.rows.items() if pair != target]
        pool = np.sort(stream(self.seed, number, 1).permutation(np.concatenate(others))[:_POOL])
        neighbors = NearestNeighbors(n_neighbors=min(_NEIGHBORS, len(pool))).fit(self.posterior.mean[pool])
        found, times = np.unique(neighbors.kneighbors(codes, return_distance=False), return_counts=True)
        return np.asarray(times @ self.expression.values[pool[found]]).ravel() / times.sum()


def trust_in(table: pd.DataFrame) -> dict[str, float]:
    """What predictions of seen combinations say of one that was not seen.

    `trust`: share of the change from the control cells that codes foretell, by neighbours of the predicted codes;
    `trust_decoded`: the same by the model's own decoder, which has seen the combinations; `trust_mean_shift`: that of
    the mean shift of the genes. Means over the combinations, by weight.
    """
    names = {"trust": NEIGHBORS, "trust_decoded": DECODED, "trust_mean_shift": MEAN_SHIFT}
    if table.empty:
        return dict.fromkeys(names, float("nan"))
    control, weights = table[f"error_{CONTROL}"].to_numpy(float), table["weight"].to_numpy(float)
    return {
        name: explained_change(table[f"error_{source}"].to_numpy(float), control, weights)
        for name, source in names.items()
    }


def warn_of_distrust(target: Target, found: Mapping[str, Any]) -> None:
    """Say where a prediction is probably no nearer to the real cells than cells that cost nothing."""
    known = {name: found[name] for name in ("trust", "trust_decoded", "trust_mean_shift") if np.isfinite(found[name])}
    said = ", ".join(f"`{name}` {value:.2f}" for name, value in known.items())
    if not known:
        logger.warning(
            "Nothing says how good the prediction of %s is: it takes two reference groups or more that were seen under "
            "both conditions.",
            target,
        )
    elif min(known.values()) <= 0:
        # a shift that foretells nothing of the genes is the wrong one for the codes too
        logger.warning(
            "Do not trust the prediction of %s: combinations that were seen, predicted in the same way, come out no "
            "nearer to their cells than control cells are (share of the change that is foretold: %s). Name a "
            "`reference_group` that is like the target's, leave `reference_weights` at 'similar', or train another "
            "model.",
            target,
            said,
        )
    else:
        if found["trust"] < GOOD_TRUST:
            logger.warning(
                "Take the prediction of %s with caution: in combinations that were seen, the same model foretells less "
                "than half of the change (%s). Set it beside `sm.tl.holdout_arithmetic`, and build nothing on it "
                "before real cells confirm it.",
                target,
                said,
            )
        if min(known.values()) < known["trust_mean_shift"]:
            logger.warning(
                "A mean shift of the genes may foretell the mean expression of %s better (share of the change that is "
                "foretold in combinations that were seen: %s).",
                target,
                said,
            )
