"""Do cells show the codes that they were made from? (MichiGAN, section 3.3)."""

from __future__ import annotations

import numpy as np
import pandas as pd

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
            "pearson": [correlation(a, b) for a, b in zip(asked.T, shown.T, strict=True)],
            "spearman": [correlation(*ranks(a, b)) for a, b in zip(asked.T, shown.T, strict=True)],
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
    return pd.Index([f"z{j}" for j in range(n)], name="dimension")


def ranks(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of both, ties by their mean."""
    return pd.Series(a).rank().to_numpy(), pd.Series(b).rank().to_numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation; 0 where a side is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 1e-12 else 0.0
