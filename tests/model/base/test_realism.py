import logging

import numpy as np
import pytest
import scvi
from learning import SEED

import scmimic as sm


@pytest.fixture(scope="module")
def adata():
    return sm.datasets.synthetic_counts(n_obs=500, n_vars=40, seed=0)


def trained(adata, labels_key="cell_type", **train):
    adata = adata.copy()
    scvi.settings.seed = SEED
    sm.ACTIVA.setup_anndata(adata, labels_key=labels_key)
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(**{"max_epochs": 2, "enable_progress_bar": False, **train})
    return model


def test_untrained_network_loses_and_says_so(adata, learned, caplog):
    # without margins two epochs are far off, while the data are negative binomials within each type
    model = trained(adata, train_size=0.6, calibrate_margins=False)
    with caplog.at_level(logging.WARNING, logger="scmimic.model.base._realism"):
        table = model.realism_report(n_trees=50)
    assert set(table.index) == {"ACTIVA", "independent_nb", "copula", "training cells"}
    assert table.index[-1] == "ACTIVA"
    learned("AUC of two epochs", table.loc["ACTIVA", "auc"], above=0.7, off=0.5)
    learned("lower end of the AUC of training cells", table.loc["training cells", "auc_low"], below=0.7, off=1)
    assert ((table["auc_low"] <= table["auc"]) & (table["auc"] <= table["auc_high"])).all()
    assert table.loc["training cells", "dcr"] == 0
    learned(
        "distance to the closest record of the independent NB", table.loc["independent_nb", "dcr"], above=0.8, off=0
    )
    assert "closer to held-out cells than ACTIVA" in caplog.text


def test_given_cells_and_no_labels(adata):
    model = trained(adata[:350], labels_key=None)
    table = model.realism_report(adata[350:].copy(), n_trees=20, seed=1)
    assert np.isfinite(table.to_numpy()).all()
    again = model.realism_report(adata[350:].copy(), n_trees=20, seed=1)
    assert table.equals(again)


def test_needs_held_out_counts(adata):
    with pytest.raises(ValueError, match="train_size"):
        trained(adata).realism_report()
    other = sm.ACTIVA(trained(adata).adata, gene_likelihood="normal", n_latent=2, n_hidden=(8,))
    with pytest.raises(RuntimeError, match="not trained"):
        other.realism_report()
    other.train(max_epochs=1, train_size=0.5, enable_progress_bar=False)
    with pytest.raises(ValueError, match="count likelihoods"):
        other.realism_report()
