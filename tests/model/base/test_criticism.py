"""scvi-tools' own checks of models, on ours."""

import numpy as np
import pytest
from scvi.criticism import PosteriorPredictiveCheck
from small_models import fit


@pytest.mark.parametrize("name", ["ACTIVA", "BetaTCVAE"])
def test_posterior_predictive_checks_take_the_model(name):
    model = fit(name)
    # scvi-tools compares counts with their integers, which sparse matrices do not answer
    adata = model.adata.copy()
    adata.X = adata.X.toarray()
    check = PosteriorPredictiveCheck(adata, {name: model}, n_samples=3)
    check.coefficient_of_variation("cells")
    found = check.metrics["cv_gene"]
    assert list(found) == [name, "Raw"]
    assert np.isfinite(found[name]).all()
    np.testing.assert_allclose(found["Raw"], np.nan_to_num(adata.X.std(axis=0) / adata.X.mean(axis=0)), rtol=1e-4)
