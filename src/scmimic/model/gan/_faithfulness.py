"""Do cells show the codes that they were made from? (MichiGAN, section 3.3)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, spearmanr

from scmimic import _keys

# Below this share of a code's variance the posterior is mostly prior, and a cell can hardly show the code.
INFORMATIVE = 0.5


def faithfulness(asked: np.ndarray, shown: np.ndarray, spread: np.ndarray, width: np.ndarray) -> pd.DataFrame:
    """Correlations of the codes asked for with those that the cells show, by dimension.

    Parameters
    ----------
    asked, shown
        Codes, cells x dimensions.
    spread
        Variance of the posterior means of the training cells, by dimension.
    width
        Mean variance of their posteriors.
    """
    share = spread / np.maximum(spread + width, 1e-12)
    return pd.DataFrame(
        {
            "pearson": [pearson(a, b) for a, b in zip(asked.T, shown.T, strict=True)],
            "spearman": [spearman(a, b) for a, b in zip(asked.T, shown.T, strict=True)],
            "ceiling": np.sqrt(share),
            "informative": share > INFORMATIVE,
        },
        index=dimension_index(asked.shape[1]),
    )


def median_faithfulness(table: pd.DataFrame) -> float:
    """Median Pearson correlation over informative dimensions; NaN where there is none."""
    informative = table.loc[table["informative"], "pearson"]
    return float(informative.median()) if len(informative) else float("nan")


def dimension_index(n: int) -> pd.Index:
    """Names of `n` dimensions of a code."""
    return pd.Index(_keys.latent_names(n), name=_keys.OBS_DIMENSION)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; 0 where a side is constant."""
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(pearsonr(a, b).statistic)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman correlation; 0 where a side is constant."""
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(spearmanr(a, b).statistic)
