import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scmimic as sm

KEYS = {"group_key": "group", "condition_key": "condition"}


def test_values_are_those_of_the_metric(linear):
    adata, model, codes = linear
    table = sm.tl.latent_entropy(adata, model, **KEYS, target=("A", "drug"), control="control", code="mean")
    at = {c: codes[(adata.obs["group"] == "A") & (adata.obs["condition"] == c)] for c in ("control", "drug")}
    variance = np.full(2, model.variance)
    own = sm.metrics.latent_entropy(at["drug"], at["drug"], variance, leave_one_out=True)
    predicted = sm.metrics.latent_entropy(at["control"] + [1, 2], at["drug"], variance)
    row = table.iloc[0]
    assert row["entropy"] == pytest.approx(own)
    assert row["entropy_predicted"] == pytest.approx(predicted)
    assert row["delta_entropy"] == pytest.approx(predicted - own)


def test_every_combination_and_the_one_that_does_not_add_up(linear_world, tmp_path):
    adata, model, _ = linear_world({("C", "other"): [3, 0]})
    table = sm.tl.latent_entropy(adata, model, **KEYS, seed=0)
    assert len(table) == 9
    worst = table.loc[table["delta_entropy"].idxmax()]
    assert (worst["group"], worst["condition"]) == ("C", "other")
    pd.testing.assert_frame_equal(table, sm.tl.latent_entropy(adata, model, **KEYS, seed=0))
    adata.write_h5ad(tmp_path / "x.h5ad")
    stored = ad.read_h5ad(tmp_path / "x.h5ad").uns["latent_entropy"]["results"]
    np.testing.assert_allclose(stored["delta_entropy"], table["delta_entropy"])


def test_fewer_cells_give_nearly_the_same(linear):
    adata, model, _ = linear
    kwargs = {**KEYS, "target": ("B", "drug"), "control": "control", "seed": 0}
    full = sm.tl.latent_entropy(adata, model, **kwargs, max_cells=None)
    few = sm.tl.latent_entropy(adata, model, **kwargs, max_cells=150)
    assert few["entropy"].item() != full["entropy"].item()
    assert few["entropy"].item() == pytest.approx(full["entropy"].item(), abs=0.3)


def test_bad_input(linear):
    adata, model, _ = linear
    seen = adata[~((adata.obs["group"] == "A") & (adata.obs["condition"] == "drug"))].copy()
    with pytest.raises(ValueError, match="no cells of"):
        sm.tl.latent_entropy(seen, model, **KEYS, target=("A", "drug"))
    with pytest.raises(ValueError, match="No combination"):
        sm.tl.latent_entropy(adata[adata.obs["group"] == "A"].copy(), model, **KEYS)
    for value in (0, -1, 1.5):
        with pytest.raises(ValueError, match="`max_cells`"):
            sm.tl.latent_entropy(adata, model, **KEYS, max_cells=value)
    for value in (-1, 1.5):
        with pytest.raises(ValueError, match="`seed`"):
            sm.tl.latent_entropy(adata, model, **KEYS, seed=value)
    with pytest.raises(ValueError, match="is a view"):
        sm.tl.latent_entropy(adata[:], model, **KEYS)
    with pytest.raises(KeyError, match="`group_key='x'`"):
        sm.tl.latent_entropy(adata, model, **KEYS | {"group_key": "x"})
    with pytest.raises(KeyError, match="`condition_key='x'`"):
        sm.tl.latent_entropy(adata, model, **KEYS | {"condition_key": "x"})
    model.registry_ = {"setup_method_name": "setup_mudata"}
    with pytest.raises(TypeError, match="a model of a MuData"):
        sm.tl.latent_entropy(adata, model, **KEYS)
    del model.registry_
    model.get_latent_representation = lambda adata: np.asarray(adata.X) @ model.axes.T
    with pytest.raises(ValueError, match="no variances"):
        sm.tl.latent_entropy(adata, model, **KEYS)
