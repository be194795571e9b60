import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import read_h5ad
from sklearn.decomposition import PCA

import scmimic as sm
from scmimic.metrics import distance_to_closest_record, membership_inference, nearest_neighbor_distance_ratio

DONORS = {"train": ["a", "b", "c"], "holdout": ["x", "y"]}


@pytest.fixture(scope="module")
def cells():
    """Training, held-out, further unseen and fresh cells of one population."""
    adata = sm.datasets.synthetic_counts(n_obs=900, n_vars=60, seed=0)
    order = np.random.default_rng(0).permutation(900)
    train, holdout, reference, fresh = (adata[part].copy() for part in np.split(order, [300, 600, 750]))
    train.obs["donor"] = np.resize(DONORS["train"], 300)
    holdout.obs["donor"] = np.resize(DONORS["holdout"], 300)
    return train, holdout, reference, fresh


def logged(adata, target_sum=1e4):
    x = adata.X.toarray().astype(np.float32)
    return np.log1p(x / x.sum(axis=1, keepdims=True) * np.float32(target_sum))


def test_values_are_those_of_the_metrics(cells):
    train, holdout, reference, fresh = cells
    table = sm.tl.privacy(train.copy(), fresh, holdout=holdout, reference=reference, n_comps=8, target_sum=5e3)
    pca = PCA(8, svd_solver="full").fit(logged(reference, 5e3))
    a, b, c, d = (pca.transform(logged(x, 5e3)) for x in (train, holdout, reference, fresh))
    value = table["value"]
    assert value["dcr_ratio"] == pytest.approx(distance_to_closest_record(a, d, b).ratio, rel=1e-3)
    ratio = nearest_neighbor_distance_ratio(a, d, b)
    assert value["nndr_ratio"] == pytest.approx(ratio.ratio, rel=1e-3)
    assert value["nndr_low_ratio"] == pytest.approx(ratio.synthetic_low / ratio.test_low, rel=1e-3)
    for name, calibration in (("membership", None), ("calibrated", c)):
        attack = membership_inference(a, b, d, reference=calibration)
        assert value[f"{name}_auc"] == pytest.approx(attack.auc, abs=1e-3)
        assert table.loc[f"{name}_auc", ["lower", "upper"]].tolist() == pytest.approx(attack.interval, abs=1e-3)
        assert value[f"{name}_tpr_at_fpr_10"] == pytest.approx(attack.tpr_at_fpr_10, abs=0.01)
    assert not any(name.startswith("donor") for name in table.index)


def test_a_memoriser_is_caught(cells):
    train, holdout, reference, _ = cells
    copies = sm.baselines.Memoriser(train, labels_key="cell_type").fit().generate(300, seed=0)
    table = sm.tl.privacy(train, copies, holdout=holdout, reference=reference, donor_key="donor")
    value = table["value"]
    assert (value[["dcr_ratio", "nndr_ratio", "nndr_low_ratio"]] == 0).all()
    assert value["duplicate_fraction"] == 1
    # nearly all training cells are returned: the attack knows them without accusing anyone else
    assert value["membership_auc"] > 0.9
    assert value["membership_tpr_at_fpr_1"] > 0.8
    assert value["donor_auc"] == value["donor_calibrated_auc"] == 1
    leak = np.where(table["direction"] == "high", value > table["ideal"], value < table["ideal"])
    assert leak.all()


def test_independent_cells_are_not(cells):
    train, holdout, reference, fresh = cells
    for other in (None, reference):
        table = sm.tl.privacy(train, fresh, holdout=holdout, reference=other)
        assert table["value"][["dcr_ratio", "nndr_ratio"]].tolist() == pytest.approx([1, 1], abs=0.05)
        assert table["value"]["duplicate_fraction"] == table["ideal"]["duplicate_fraction"]
        for name in ("membership_auc",) if other is None else ("membership_auc", "calibrated_auc"):
            assert table["lower"][name] < 0.5 < table["upper"][name]


def test_without_a_reference_half_of_the_holdout_fits_and_half_is_judged(cells):
    train, holdout, _, fresh = cells
    adata = train.copy()
    table = sm.tl.privacy(adata, fresh, holdout=holdout, donor_key="donor", seed=3)
    record = adata.uns["privacy"]
    assert record["n_cells"] == {"adata": 300, "holdout": 150, "synthetic": 300 - 150, "reference": 150}
    assert record["params"]["fitted_on"] == "half of holdout"
    assert not any("calibrated" in name for name in table.index)
    order = np.random.default_rng(3).permutation(300)
    parts = holdout[np.sort(order[150:])].copy(), holdout[np.sort(order[:150])].copy()
    explicit = sm.tl.privacy(train.copy(), fresh, holdout=parts[0], reference=parts[1], donor_key="donor", seed=3)
    np.testing.assert_allclose(table["value"], explicit.loc[table.index, "value"])
    other = sm.tl.privacy(train.copy(), fresh, holdout=holdout, donor_key="donor", seed=4)
    assert other["value"]["dcr_ratio"] != table["value"]["dcr_ratio"]


def test_cells_are_given_as_to_evaluate_or_the_other_way_round(cells):
    train, holdout, reference, fresh = cells
    for other in (None, reference):
        test, seen = holdout.copy(), train.copy()
        as_evaluate = sm.tl.privacy(test, fresh, train=train, reference=other, donor_key="donor", seed=3)
        reversed_ = sm.tl.privacy(seen, fresh, holdout=holdout, reference=other, donor_key="donor", seed=3)
        pd.testing.assert_frame_equal(as_evaluate, reversed_)
        sizes, of_reversed = (one.uns["privacy"]["n_cells"] for one in (test, seen))
        assert sizes.pop("train") == of_reversed["adata"] and sizes.pop("adata") == of_reversed["holdout"]
    for both in ({}, {"train": train, "holdout": holdout}):
        with pytest.raises(TypeError, match="Training and unseen cells are needed.*not both"):
            sm.tl.privacy(holdout, fresh, **both)


def test_roles_that_are_mixed_up_are_told(cells, recwarn):
    train, holdout, _, fresh = cells
    copies = sm.baselines.Memoriser(train, labels_key="cell_type").fit().generate(300, seed=0)
    for text, adata, given in (
        (r"unseen cells \(`adata`\) better than the training cells \(`train`; ", train, {"train": holdout}),
        (r"unseen cells \(`holdout`\) better than the training cells \(`adata`; ", holdout, {"holdout": train}),
    ):
        with pytest.warns(UserWarning, match=text):
            sm.tl.privacy(adata.copy(), copies, **given)
    first = "`adata` holds cells that Memoriser generated"
    with pytest.warns(UserWarning, match=first):
        sm.tl.privacy(copies.copy(), fresh, train=holdout)
    with pytest.warns(UserWarning, match=first):
        sm.evaluate(copies, fresh, metrics=["mmd"], baselines=())
    recwarn.clear()
    # cells that nobody copied, the right way round and the wrong way, and copies the right way
    sm.tl.privacy(holdout.copy(), fresh, train=train)
    sm.tl.privacy(train.copy(), fresh, train=holdout)
    sm.tl.privacy(holdout.copy(), copies, train=train)
    assert not [one for one in recwarn if "wrong way round" in str(one.message)]


def test_donors(cells):
    train, holdout, reference, fresh = cells
    table = sm.tl.privacy(train.copy(), fresh, holdout=holdout, reference=reference, donor_key="donor")
    assert set(table["unit"]) == {"cell", "donor"}
    assert {"donor_auc", "donor_tpr_at_fpr_1", "donor_calibrated_auc"} <= set(table.index[table["unit"] == "donor"])
    # three training against two unseen donors
    assert table["value"]["donor_auc"] * 6 == pytest.approx(round(table["value"]["donor_auc"] * 6))


def test_results_survive_writing(cells, tmp_path):
    train, holdout, reference, fresh = cells
    adata = train.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.X = sp.csr_matrix(adata.shape)
    real = [x.copy() for x in (holdout, reference)]
    for x in real:
        x.layers["counts"] = x.X.copy()
    table = sm.tl.privacy(
        adata,
        fresh,
        holdout=real[0],
        reference=real[1],
        layer="counts",
        donor_key="donor",
        max_cells=200,
        n_comps=5,
        key_added="mine",
    )
    adata.write_h5ad(tmp_path / "x.h5ad")
    read = read_h5ad(tmp_path / "x.h5ad").uns["mine"]
    for column in table:
        assert read["results"][column].tolist() == pytest.approx(table[column].tolist(), nan_ok=True)
    assert read["results"].index.tolist() == table.index.tolist()
    assert read["params"]["layer"] == "counts"
    assert read["params"]["n_comps"] == 5
    assert read["params"]["fitted_on"] == "reference"
    assert read["n_cells"]["synthetic"] == fresh.n_obs
    # the table given back is the caller's own
    table["value"] = 0.0
    assert (adata.uns["mine"]["results"]["value"] != 0).any()


def test_bad_input(cells):
    train, holdout, reference, fresh = cells
    with pytest.raises(ValueError, match="`holdout` lacks"):
        sm.tl.privacy(train, fresh, holdout=holdout[:, :50].copy())
    with pytest.raises(ValueError, match="`adata` and `synthetic`"):
        sm.tl.privacy(train, fresh[:, ::-1].copy(), holdout=holdout)
    with pytest.raises(ValueError, match="hold out more"):
        sm.tl.privacy(train, fresh, holdout=holdout[:4].copy())
    with pytest.raises(KeyError, match="donor_key='patient'"):
        sm.tl.privacy(train, fresh, holdout=holdout, donor_key="patient")
    with pytest.raises(KeyError, match="nothing"):
        sm.tl.privacy(train, fresh, holdout=holdout, layer="nothing")
    shared = holdout.copy()
    shared.obs["donor"] = "a"
    with pytest.raises(ValueError, match="1 donors are in both"):
        sm.tl.privacy(train, fresh, holdout=shared, donor_key="donor")
    logs = [cells.copy() for cells in (train, fresh, holdout)]
    for cells in logs:
        cells.X = cells.X.astype(np.float32).log1p()
    with pytest.warns(UserWarning, match="`adata.X` holds log1p values and is logged again"):
        sm.tl.privacy(*logs[:2], holdout=logs[2])
    with pytest.raises(ValueError, match="holds counts and `synthetic` log1p values"):
        sm.tl.privacy(train, logs[1], holdout=holdout)
    with pytest.raises(ValueError, match="holds counts and `holdout` log1p values"):
        sm.tl.privacy(train, fresh, holdout=logs[2])
    logged = fresh.copy()
    logged.X = -logged.X
    with pytest.raises(ValueError, match="`synthetic` holds negative"):
        sm.tl.privacy(train, logged, holdout=holdout, reference=reference)
