from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp


@pytest.fixture
def cells() -> ad.AnnData:
    """300 cells of three types (150 / 100 / 50), 20 genes, negative binomial counts, genes in no sorted order."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["T", "B", "NK"], [150, 100, 50])
    profile = {name: rng.gamma(1.0, 3.0, 20) + 0.05 for name in ("T", "B", "NK")}
    mean = np.vstack([profile[name] for name in labels]) * rng.uniform(0.5, 2.0, (300, 1))
    x = rng.poisson(rng.gamma(2.0, mean / 2.0)).astype(np.float32)
    x[:, 0] += 1
    var = pd.DataFrame({"symbol": [f"s{i}" for i in range(20)]}, index=[f"g{(7 * i) % 20}" for i in range(20)])
    obs = pd.DataFrame({"cell_type": labels}, index=[f"c{i}" for i in range(300)])
    order = rng.permutation(300)
    return ad.AnnData(sp.csr_matrix(x), obs=obs, var=var)[order].copy()
