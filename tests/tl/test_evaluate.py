import logging
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp

import scmimic as sm
from scmimic._keys import OVERALL
from scmimic.tl.evaluation._measures import MEASURES, metrics_by_name

METRICS = metrics_by_name()
SMALL = {"n_trees": 4, "max_cells": 180, "n_comps": 10, "n_jobs": 1}


@pytest.fixture(scope="module")
def cells():
    """Train (300), reference (100) and test (200) cells of three types, 30 genes."""
    adata = sm.datasets.synthetic_counts(n_obs=600, n_vars=30, seed=1)
    return adata[:300].copy(), adata[300:400].copy(), adata[400:].copy()


def generate(kind, train, test, seed=0):
    wanted = {k: int(n) for k, n in test.obs["cell_type"].value_counts().items()}
    return kind(train, labels_key="cell_type").fit().generate(labels=wanted, seed=seed)


@pytest.fixture(scope="module")
def full(cells):
    """Every measure on cells of the independent NB."""
    train, reference, test = (a.copy() for a in cells)
    synthetic = generate(sm.baselines.IndependentNB, train, test)
    table = sm.tl.evaluate(test, synthetic, labels_key="cell_type", train=train, reference=reference, **SMALL)
    return table, test


def quiet(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sm.tl.evaluate(*args, **{"n_jobs": 1, **kwargs})


def test_one_row_per_metric_and_label(full):
    table, test = full
    assert list(table.columns) == [
        *("metric", "group", "label", "value", "low", "high", "ideal", "replicate", "trivial", "trivial_value"),
        *("score", "n_real", "n_synthetic", "warning"),
    ]
    assert not table.duplicated(["metric", "label"]).any()
    overall = table[table["label"] == OVERALL].set_index("metric")
    assert set(METRICS) <= set(overall.index)
    assert {"same_space", "zero_fraction_ratio", "real_copies", "variance_ratio", "label_composition"} <= set(
        overall.index
    )
    types = set(test.obs["cell_type"].cat.categories)
    for measure in MEASURES.values():
        for metric in measure.metrics:
            labels = set(table.loc[table["metric"] == metric.name, "label"])
            assert labels == ({OVERALL} if measure.per_label == "none" else {OVERALL, *types})
    measured = overall.loc[list(METRICS)]
    assert np.isfinite(measured["value"]).all()
    assert np.isfinite(measured["replicate"]).all()
    ends = measured[measured["low"].notna()]
    assert (ends["low"] <= ends["value"]).all()
    assert (ends["value"] <= ends["high"]).all()
    assert len(ends) > 0.8 * len(METRICS)


def test_threads_change_no_number(full, cells):
    table, _ = full
    train, reference, test = (a.copy() for a in cells)
    synthetic = generate(sm.baselines.IndependentNB, train, test)
    settings = SMALL | {"n_jobs": 2, "labels_key": "cell_type", "train": train, "reference": reference}
    pd.testing.assert_frame_equal(quiet(test, synthetic, **settings), table, check_exact=True)


def test_score_is_the_formula(full):
    table, _ = full
    scored = table[table["score"].notna()]
    assert len(scored) > 10
    assert scored["warning"].eq("").all()
    for row in scored.itertuples():
        m, r, t = np.array([row.value, row.replicate, row.trivial_value]) - row.ideal
        if METRICS[row.metric].better == "closer":
            m, r, t = np.abs([m, r, t])
        else:
            # beyond the ideal is luck
            bound = np.minimum if METRICS[row.metric].better == "higher" else np.maximum
            m, r, t = bound([m, r, t], 0)
        assert row.score == pytest.approx((m - t) / (r - t))
        assert row.trivial in ("independent_nb", "multinomial", "copula")


def test_privacy_has_no_score(full):
    table, _ = full
    assert table.loc[table["group"] == "privacy", "score"].isna().all()
    assert table.loc[table["group"] == "privacy", "trivial"].eq("").all()


def test_best_trivial_is_the_best(cells):
    train, reference, test = cells
    synthetic = generate(sm.baselines.IndependentNB, train, test, seed=5)
    args = {"labels_key": "cell_type", "train": train, "reference": reference, "metrics": ["mmd", "recall"], **SMALL}
    best = quiet(test.copy(), synthetic, **args).query("label == 'overall'").set_index("metric")
    single = {
        name: quiet(test.copy(), synthetic, baselines=name, **args).query("label == 'overall'").set_index("metric")
        for name in ("multinomial",)
    }
    assert best.loc["mmd", "trivial_value"] <= single["multinomial"].loc["mmd", "trivial_value"] + 0.01
    assert set(single["multinomial"].loc[["mmd", "recall"], "trivial"]) == {"multinomial"}


def test_ends_of_the_scale(cells):
    train, reference, test = cells
    # fewer than there are training cells of each type, so that all of them have a replicate
    test = test[:100].copy()
    poor = generate(sm.baselines.Multinomial, train, test)
    args = {"labels_key": "cell_type", "train": train, "reference": reference, "baselines": {"poor": poor}}
    args |= {"metrics": ["energy_distance", "ks_median"], **SMALL, "max_cells": 200}
    same = quiet(test.copy(), poor, **args).query("label == 'overall'").set_index("metric")
    for name in ("energy_distance", "ks_median"):
        # the generator's own cells stand at 0 exactly where all of them are compared
        assert same.loc[name, "value"] == pytest.approx(same.loc[name, "trivial_value"])
        assert same.loc[name, "score"] == pytest.approx(0, abs=1e-9)
    real = generate(sm.baselines.Memoriser, train, test)
    close = quiet(test.copy(), real, **args).query("label == 'overall'").set_index("metric")
    assert (close.loc[["energy_distance", "ks_median"], "score"] > 0.5).all()


def test_memoriser_is_realistic_and_found_out(cells):
    train, reference, test = (a.copy() for a in cells)
    synthetic = generate(sm.baselines.Memoriser, train, test)
    with pytest.warns(UserWarning, match="Training cells can be told"), pytest.warns(UserWarning, match="copies"):
        table = sm.tl.evaluate(
            test,
            synthetic,
            labels_key="cell_type",
            train=train,
            reference=reference,
            metrics=["rf_auc_pcs", "dcr_ratio", "duplicates", "membership_auc"],
            **SMALL,
        )
    overall = table[table["label"] == OVERALL].set_index("metric")
    assert overall.loc["rf_auc_pcs", "value"] < 0.65
    assert overall.loc["dcr_ratio", "value"] == 0
    assert overall.loc["dcr_ratio", "replicate"] == pytest.approx(1, abs=0.2)
    assert overall.loc["duplicates", "value"] == 1
    assert overall.loc["membership_auc", "value"] > 0.7


def test_smooth_output_is_warned_of(cells):
    train, _, test = (a.copy() for a in cells)
    smooth = test.copy()
    mean = pd.DataFrame(test.X.toarray()).groupby(test.obs["cell_type"].to_numpy()).mean()
    smooth.X = sp.csr_matrix(mean.loc[test.obs["cell_type"]].to_numpy(dtype=np.float32))
    with pytest.warns(UserWarning, match="Smooth output"):
        table = sm.tl.evaluate(test, smooth, labels_key="cell_type", train=train, metrics="mmd", **SMALL)
    overall = table[table["label"] == OVERALL].set_index("metric")
    assert overall.loc["zero_fraction_ratio", "value"] < 0.2
    assert overall.loc["variance_ratio", "value"] < 0.1
    assert "Smooth" in overall.loc["variance_ratio", "warning"]


def test_spaces_are_compared(cells):
    _, _, test = (a.copy() for a in cells)
    logged = test.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    scaled = logged.copy()
    sc.pp.log1p(logged)
    with pytest.warns(UserWarning, match="Real cells hold counts, synthetic cells log1p values"):
        table = sm.tl.evaluate(test, logged, metrics="mmd", baselines=(), **SMALL)
    assert table.set_index("metric").loc["same_space", "value"] == 0
    # counts and scaled counts become the same
    table = quiet(test, scaled, metrics="energy_distance", baselines=(), **SMALL | {"max_cells": None})
    table = table.set_index("metric")
    assert table.loc["same_space", "value"] == 1
    assert table.loc["energy_distance", "value"] < 0.5
    with pytest.warns(UserWarning, match="log1p=False"):
        sm.tl.evaluate(logged, logged, metrics="mmd", baselines=(), **SMALL)
    table = quiet(logged, logged, metrics="mmd", log1p=False, **SMALL)
    assert table.set_index("metric").loc["mmd", "trivial"] == ""
    logged.X = logged.X.toarray()
    sc.pp.scale(logged)
    with pytest.raises(ValueError, match="log1p=False"):
        sm.tl.evaluate(logged, logged, metrics="mmd", **SMALL)


def test_other_proportions_are_warned_of(cells):
    train, _, test = (a.copy() for a in cells)
    synthetic = sm.baselines.IndependentNB(train, labels_key="cell_type").fit().generate(150, "type_0", seed=0)
    with pytest.warns(UserWarning, match="zeros"), pytest.warns(UserWarning, match="No synthetic cell is labelled"):
        table = sm.tl.evaluate(test, synthetic, labels_key="cell_type", train=train, metrics="mmd", **SMALL)
    share = (test.obs["cell_type"] != "type_0").mean()
    row = table[table["metric"] == "label_composition"].iloc[0]
    assert row["value"] == pytest.approx(share)
    absent = table[(table["metric"] == "mmd") & (table["label"] == "type_1")].iloc[0]
    assert np.isnan(absent["value"])
    assert "0 synthetic" in absent["warning"]


def test_result_survives_writing(full, tmp_path):
    table, test = full
    test.write_h5ad(tmp_path / "test.h5ad")
    stored = ad.read_h5ad(tmp_path / "test.h5ad").uns["realism"]
    pd.testing.assert_frame_equal(stored["table"].reset_index(drop=True), table, check_dtype=False)
    assert stored["params"]["labels_key"] == "cell_type"
    assert stored["params"]["n_trees"] == 4
    assert "reference" in stored["params"]["pca"]
    assert stored["seconds"]["mmd"] > 0


def test_without_training_cells(cells):
    _, _, test = (a.copy() for a in cells)
    synthetic = generate(sm.baselines.Multinomial, cells[0], test)
    table = quiet(test, synthetic, labels_key="cell_type", metrics=["mmd", "dcr_ratio"], key_added="mine", **SMALL)
    of_dcr = table[table["metric"] == "dcr_ratio"]
    assert of_dcr["value"].isna().all()
    assert of_dcr.set_index("label").loc[OVERALL, "warning"].startswith("Not measured: it needs the cells that")
    row = table[(table["metric"] == "mmd") & (table["label"] == OVERALL)].iloc[0]
    # a fifth for the PCA, then halves
    assert row["n_real"] == row["n_synthetic"] == 80
    assert np.isfinite(row["replicate"])
    assert "half of the real cells" in test.uns["mine"]["params"]["replicate"]
    table = quiet(test, synthetic, metrics="mmd", baselines=(), **SMALL | {"max_cells": 500})
    assert table.set_index("metric").loc["mmd", "n_real"] == 160
    assert table["score"].isna().all()


def test_same_seed_same_table(cells):
    train, _, test = cells
    synthetic = generate(sm.baselines.Multinomial, train, test)
    args = {"train": train, "metrics": ["split_auc", "mmd"], "labels_key": "cell_type", **SMALL}
    first, second = (quiet(test.copy(), synthetic.copy(), **args) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(quiet(test.copy(), synthetic, **args, seed=1))


def test_protocols(cells, caplog):
    train, _, test = (a.copy() for a in cells)
    synthetic = generate(sm.baselines.Multinomial, train, test)
    args = {"labels_key": "cell_type", "train": train, "baselines": (), "n_jobs": 1}
    with caplog.at_level(logging.INFO, logger="scmimic"):
        table = quiet(test, synthetic, metrics="michigan", n_trees=5, **args)
    assert set(table["metric"]) >= {"rf_error", "inception_score"}
    assert test.uns["realism"]["params"]["max_cells"] == 3000
    table = quiet(test, synthetic, metrics="groundgan", **args)
    assert test.uns["realism"]["params"]["n_trees"] == 1000
    assert table.set_index("metric").loc["split_auc", "n_real"] == test.n_obs


def test_inputs_are_left_alone(cells):
    train, reference, test = (a.copy() for a in cells)
    synthetic = generate(sm.baselines.Multinomial, train, test)
    before = [a.X.copy() for a in (train, test, synthetic)]
    quiet(test, synthetic, train=train, reference=reference, metrics="mmd", **SMALL)
    assert all((a.X != b).nnz == 0 for a, b in zip((train, test, synthetic), before, strict=True))
    assert set(test.uns) == {"realism"}
    assert not train.uns
    assert list(synthetic.uns) == ["scmimic"]


def test_bad_input(cells):
    train, _, test = cells
    other = test[:, :20].copy()
    with pytest.raises(ValueError, match="same genes"):
        sm.tl.evaluate(test, other)
    with pytest.raises(ValueError, match="same genes"):
        sm.tl.evaluate(test, test, train=other)
    with pytest.raises(KeyError, match="nosuch"):
        sm.tl.evaluate(test, test, labels_key="nosuch")
    with pytest.raises(KeyError, match="synthetic.obs"):
        bare = test.copy()
        del bare.obs["cell_type"]
        sm.tl.evaluate(test, bare, labels_key="cell_type")
    with pytest.raises(ValueError, match="'fid'"):
        sm.tl.evaluate(test, test, metrics="fid")
    with pytest.raises(ValueError, match="empty"):
        sm.tl.evaluate(test, test, metrics=[])
    with pytest.raises(ValueError, match="gan"):
        sm.tl.evaluate(test, test, baselines=["gan"])
    with pytest.raises(ValueError, match="at least 30"):
        sm.tl.evaluate(test[:40].copy(), test, metrics="mmd")
    with pytest.raises(ValueError, match="min_cells"):
        sm.tl.evaluate(test, test, min_cells=2)
    with pytest.raises(ValueError, match="rename"):
        named = test.copy()
        named.obs["cell_type"] = "overall"
        sm.tl.evaluate(named, named, labels_key="cell_type")
