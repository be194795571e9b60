import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scmimic as sm

KEYS = {"group_key": "group", "condition_key": "condition"}
TARGET = ("A", "drug")


def without(adata, *combinations):
    keep = np.ones(adata.n_obs, dtype=bool)
    for group, condition in combinations:
        keep &= ~((adata.obs["group"] == group) & (adata.obs["condition"] == condition)).to_numpy()
    return adata[keep].copy()


def rows_of(adata, group, condition):
    return np.flatnonzero((adata.obs["group"] == group) & (adata.obs["condition"] == condition))


def test_known_shift_is_found_without_the_target(linear):
    adata, model, codes = linear
    seen = without(adata, TARGET)
    new = sm.tl.latent_arithmetic(seen, model, **KEYS, target=TARGET, control="control", code="mean")
    record = new.uns["latent_arithmetic"]
    np.testing.assert_allclose(record["shift"], [1, 2], atol=1e-6)
    # each control cell, moved by the shift, and decoded
    expected = codes[rows_of(adata, "A", "control")] + [1, 2]
    np.testing.assert_allclose(new.obsm["X_latent_arithmetic"], expected, atol=1e-6)
    np.testing.assert_allclose(new.X, expected @ model.axes, atol=1e-5)
    assert list(new.obs["control_cell"]) == [f"c{i}" for i in rows_of(adata, "A", "control")]
    assert set(new.obs["group"]) == {"A"} and set(new.obs["condition"]) == {"drug"}
    assert list(record["reference_groups"]) == ["B", "C"]
    np.testing.assert_array_equal(seen.uns["latent_arithmetic"]["shift"], record["shift"])


def test_reference_groups_count_alike_whatever_their_size(linear_world):
    adata, model, _ = linear_world({("B", "drug"): [1, 0]})
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, control="control")
    # B has four times the cells of C
    np.testing.assert_allclose(new.uns["latent_arithmetic"]["shift"], [1.5, 2], atol=1e-6)
    for group, shift in (("B", [2, 2]), ("C", [1, 2])):
        new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, control="control", reference_group=group)
        np.testing.assert_allclose(new.uns["latent_arithmetic"]["shift"], shift, atol=1e-6)


def test_all_controls_by_default_each_with_its_own_shift(linear):
    adata, model, _ = linear
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, code="mean")
    record = new.uns["latent_arithmetic"]
    assert list(record["controls"]) == ["control", "other"]
    np.testing.assert_allclose(record["shifts"], [[1, 2], [3, 1]], atol=1e-6)
    assert new.n_obs == 320
    np.testing.assert_allclose(new.obsm["X_latent_arithmetic"].mean(axis=0), [1, 2], atol=1e-6)


def test_the_papers_equation_is_the_exchange_of_the_keys(linear_world):
    adata, model, codes = linear_world({("A", "other"): [0, 1]})
    new = sm.tl.latent_arithmetic(
        without(adata, TARGET),
        model,
        group_key="condition",
        condition_key="group",
        target=("drug", "A"),
        control="B",
        code="mean",
    )
    # cells of B under the drug, moved by the mean difference of A and B under the other two conditions
    expected = codes[rows_of(adata, "B", "drug")] + [-4, 0.5]
    np.testing.assert_allclose(new.obsm["X_latent_arithmetic"], expected, atol=1e-6)


def test_conditions_may_be_numbers(linear):
    adata, model, _ = linear
    expected = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, control="control", seed=0)
    adata.obs["condition"] = adata.obs["condition"].map({"control": 0, "drug": 5, "other": 10})
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=("A", 5), control=0, seed=0)
    np.testing.assert_array_equal(new.X, expected.X)
    assert set(new.obs["condition"]) == {5}
    assert new.obs["condition"].dtype == adata.obs["condition"].dtype
    with pytest.raises(ValueError, match="must be a pair"):
        sm.tl.latent_arithmetic(adata, model, **KEYS, target=5)


def test_variances_of_zero_draw_codes_but_give_no_density(linear):
    adata, model, codes = linear
    variance = np.where(np.arange(codes.size).reshape(codes.shape) % 3, model.variance, 0.0)
    model.get_latent_representation = lambda adata, return_dist=True: (codes, variance)
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, control="control", seed=0)
    rows = rows_of(adata, "A", "control")
    fixed = variance[rows] == 0
    moved = new.obsm["X_latent_arithmetic"] - codes[rows] - new.uns["latent_arithmetic"]["shift"]
    np.testing.assert_allclose(moved[fixed], 0, atol=1e-6)
    assert moved[~fixed].std() > 0.3
    assert np.isnan(new.uns["latent_arithmetic"]["delta_entropy"])


def test_the_order_of_conditions_is_kept(linear):
    adata, model, _ = linear
    order = ["control", "drug", "other"]
    adata.obs["condition"] = pd.Categorical(adata.obs["condition"], categories=order, ordered=True)
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET)
    assert new.obs["condition"].dtype == adata.obs["condition"].dtype


def test_the_papers_equation(linear_world):
    """Cells of another group under the drug, moved by the groups' mean difference over the other conditions."""
    adata, model, codes = linear_world({("A", "other"): [0, 1]})
    seen = without(adata, TARGET)
    new = sm.tl.latent_arithmetic(
        seen, model, **KEYS, target=TARGET, reference_group="B", shift="group", code="mean", decode_kwargs={}
    )
    # A less B: (-4, 0) in the controls, (-4, 1) in the others; each counts alike
    expected = codes[rows_of(adata, "B", "drug")] + [-4, 0.5]
    np.testing.assert_allclose(new.obsm["X_latent_arithmetic"], expected, atol=1e-6)
    record = new.uns["latent_arithmetic"]
    assert (list(record["controls"]), list(record["reference_groups"])) == (["control", "other"], ["B"])
    np.testing.assert_allclose(record["shifts"], [[-4, 0.5]], atol=1e-6)
    assert set(new.obs["group"]) == {"A"} and set(new.obs["condition"]) == {"drug"}
    exchanged = sm.tl.latent_arithmetic(
        seen, model, group_key="condition", condition_key="group", target=TARGET[::-1], control="B", code="mean"
    )
    np.testing.assert_array_equal(new.obsm["X_latent_arithmetic"], exchanged.obsm["X_latent_arithmetic"])
    other = exchanged.uns["latent_arithmetic"]
    np.testing.assert_array_equal(record["delta_entropy_references"], other["delta_entropy_references"])
    one = sm.tl.latent_arithmetic(
        seen, model, **KEYS, target=TARGET, reference_group="B", control="control", shift="group"
    )
    np.testing.assert_allclose(one.uns["latent_arithmetic"]["shift"], [-4, 0], atol=1e-6)


def test_all_that_is_moved_counts_alike(linear_world):
    adata, model, codes = linear_world({("B", "drug"): [1, 0]})
    kwargs = {**KEYS, "target": TARGET, "shift": "group", "code": "mean"}
    new = sm.tl.latent_arithmetic(adata, model, **kwargs)
    record = new.uns["latent_arithmetic"]
    np.testing.assert_allclose(record["shifts"], [[-4, 0], [0, -4]], atol=1e-6)
    # 400 cells of B, and the 100 of C four times
    assert new.n_obs == 800
    np.testing.assert_allclose(new.obsm["X_latent_arithmetic"].mean(0), [1.5, 2], atol=1e-6)
    times = new.obs["control_cell"].value_counts().to_dict()
    for group, n in (("B", 1), ("C", 4)):
        assert {times[f"c{i}"] for i in rows_of(adata, group, "drug")} == {n}
    few = sm.tl.latent_arithmetic(adata, model, **kwargs, n=101, seed=0)
    of = adata.obs.loc[few.obs["control_cell"], "group"].value_counts().to_dict()
    assert (of["B"], of["C"]) == (51, 50)
    assert sm.tl.latent_arithmetic(adata, model, **kwargs, n=1, seed=0).n_obs == 1


def test_entropy_and_errors_of_shifts_of_groups(linear_world):
    adata, model, _ = linear_world({("B", "drug"): [3, 0]})
    tables = [
        sm.tl.latent_entropy(adata, model, **KEYS, target=TARGET, reference_group=group, shift="group", seed=0)
        for group in ("B", "C")
    ]
    assert tables[0]["delta_entropy"].item() > 1 > tables[1]["delta_entropy"].item()
    kwargs = {**KEYS, "target": TARGET, "shift": "group"}
    seen = without(adata, ("B", "other"))
    with pytest.raises(ValueError, match=r"`control`: \['other'\] were not seen in both 'B' and 'A'"):
        sm.tl.latent_arithmetic(seen, model, **kwargs, control=["control", "other"], reference_group="B")
    with pytest.raises(ValueError, match="No jointly observed"):
        sm.tl.latent_arithmetic(seen, model, **kwargs, control="other", reference_group="B")
    with pytest.raises(ValueError, match="`shift` must be"):
        sm.tl.latent_arithmetic(seen, model, **kwargs | {"shift": "cells"})


def test_sampled_codes_have_the_spread_of_the_posterior(linear):
    adata, model, _ = linear
    kwargs = {**KEYS, "target": TARGET, "control": "control", "n": 4000, "seed": 1}
    sampled, mean = (sm.tl.latent_arithmetic(adata, model, code=code, **kwargs) for code in ("sample", "mean"))
    noise = sampled.obsm["X_latent_arithmetic"] - mean.obsm["X_latent_arithmetic"]
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(noise.std(axis=0), 0.5, atol=0.02)
    # every control cell 25 times
    assert set(sampled.obs["control_cell"].value_counts()) == {25}
    again = sm.tl.latent_arithmetic(adata, model, code="sample", **kwargs)
    np.testing.assert_array_equal(sampled.X, again.X)
    other = sm.tl.latent_arithmetic(adata, model, code="sample", **kwargs | {"seed": 2})
    assert not np.array_equal(sampled.X, other.X)


def test_trust_score_tells_additive_from_interacting_worlds(linear_world):
    scores = {}
    for name, extra in {"additive": {}, "target": {TARGET: [2, 0]}, "reference": {("B", "drug"): [2, 0]}}.items():
        adata, model, _ = linear_world(extra)
        for seen in (adata, without(adata, TARGET)):
            new = sm.tl.latent_arithmetic(seen, model, **KEYS, target=TARGET, control="control", seed=0)
            record = new.uns["latent_arithmetic"]
            scores[name, record["delta_entropy_of"]] = record["delta_entropy"]
            # B from C, and C from B
            wrong = name == "reference"
            assert ((record["delta_entropy_references"] > 1) == wrong).all()
    assert abs(scores["additive", "target"]) < 0.5
    assert abs(scores["additive", "references"]) < 0.5
    assert scores["target", "target"] > 1
    # what was never seen cannot be known
    assert abs(scores["target", "references"]) < 0.5
    assert scores["reference", "references"] > 1


def test_a_single_reference_leaves_no_trust_score_without_cells(linear):
    adata, model, _ = linear
    seen = without(adata, TARGET)
    new = sm.tl.latent_arithmetic(seen, model, **KEYS, target=TARGET, control="control", reference_group="B")
    assert np.isnan(new.uns["latent_arithmetic"]["delta_entropy"])
    assert new.uns["latent_arithmetic"]["delta_entropy_of"] == "nothing"


def test_a_model_without_variances(linear):
    adata, model, _ = linear
    model.get_latent_representation = lambda adata: np.asarray(adata.X) @ model.axes.T
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, control="control")
    np.testing.assert_allclose(new.uns["latent_arithmetic"]["shift"], [1, 2], atol=1e-6)
    assert np.isnan(new.uns["latent_arithmetic"]["delta_entropy"])


def test_decoder_is_told_what_the_model_knows(linear):
    adata, model, _ = linear
    kwargs = {**KEYS, "target": TARGET, "control": "control", "seed": 3}
    sm.tl.latent_arithmetic(adata, model, **kwargs)
    model.labels_key_, model.label_categories_ = "group", ["A", "B", "C"]
    sm.tl.latent_arithmetic(adata, model, **kwargs, decode_kwargs={"library_size": 7})
    # one number for each predicted cell, and their label, say nothing of the groups that it is judged by
    sm.tl.latent_arithmetic(adata, model, **kwargs, decode_kwargs={"library_size": [7] * 160, "labels": "C"})
    model.labels_key_ = "elsewhere"
    sm.tl.latent_arithmetic(adata, model, **kwargs)
    # the target first, then the groups that were seen
    assert [call["labels"] for call in model.asked] == [None] * 3 + ["A", "B", "C"] + ["C", "B", "C"] + [None] * 3
    assert [call["library_size"] for call in model.asked] == [None] * 3 + [7] * 3 + [[7] * 160, None, None] + [None] * 3
    assert {call["seed"] for call in model.asked} == {3}


def test_record_survives_a_file(linear, tmp_path):
    adata, model, _ = linear
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, key_added="mine")
    new.write_h5ad(tmp_path / "x.h5ad")
    stored = ad.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(stored.uns["mine"]["shifts"], new.uns["mine"]["shifts"])
    assert list(stored.uns["mine"]["params"]["target"]) == ["A", "drug"]
    assert stored.obsm["X_mine"].shape == (320, 2)


def test_a_real_model():
    adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30, n_labels=3, n_batches=2, seed=0)
    held = ((adata.obs["cell_type"] == "type_1") & (adata.obs["batch"] == "batch_1")).to_numpy()
    seen = adata[~held].copy()
    sm.ACTIVA.setup_anndata(seen, labels_key="cell_type", batch_key="batch")
    model = sm.ACTIVA(seen, n_latent=4, n_hidden=(16,))
    kwargs = {"group_key": "cell_type", "condition_key": "batch", "target": ("type_1", "batch_1")}
    with pytest.raises(RuntimeError, match="not trained"):
        sm.tl.latent_arithmetic(seen, model, **kwargs)
    model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    new, again = (sm.tl.latent_arithmetic(seen, model, **kwargs, n=25, seed=0) for _ in range(2))
    assert (new.X != again.X).nnz == 0
    assert set(new.obs["cell_type"]) == {"type_1"} and set(new.obs["batch"]) == {"batch_1"}
    np.testing.assert_allclose(new.obsm["X_latent_arithmetic"], new.obsm["X_activa"], rtol=1e-5)
    assert (new.X.data == np.rint(new.X.data)).all()
    # other cells than those of the training
    table = sm.tl.latent_entropy(adata, model, **kwargs, seed=0)
    assert table["n_cells"].item() == held.sum()
    assert np.isfinite(table["delta_entropy"]).all()


def test_bad_input(linear):
    adata, model, _ = linear

    def run(seen=adata, by=model, target=TARGET, **kwargs):
        sm.tl.latent_arithmetic(seen, by, **KEYS | {"target": target} | kwargs)

    with pytest.raises(KeyError, match="no such column in `adata.obs`"):
        run(group_key="x")
    with pytest.raises(ValueError, match="same column"):
        run(group_key="condition")
    with pytest.raises(ValueError, match="no cell has 'X'"):
        run(target=("X", "drug"))
    with pytest.raises(ValueError, match="no cell has 'x'"):
        run(target=("A", "x"))
    with pytest.raises(ValueError, match="must be a pair"):
        run(target="AB")
    with pytest.raises(ValueError, match=r"`control`: \['drug'\]"):
        run(control="drug")
    with pytest.raises(ValueError, match="`reference_group`: .*'A'"):
        run(reference_group=["A", "B"])
    with pytest.raises(ValueError, match="`code` must be"):
        run(code="median")
    for kwargs in ({"n": 0}, {"n": 1.5}, {"max_cells": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            run(**kwargs)
    with pytest.raises(ValueError, match="is a view"):
        run(adata[:])
    with pytest.raises(TypeError, match="has no `get_latent_representation`"):
        run(by=object())
    # the drug was seen in no other group; then A was seen under nothing else
    with pytest.raises(ValueError, match="No jointly observed combination"):
        run(without(adata, ("B", "drug"), ("C", "drug")))
    with pytest.raises(ValueError, match="No jointly observed combination"):
        run(without(adata, ("A", "control"), ("A", "other")))
    with pytest.raises(ValueError, match="No jointly observed combination"):
        run(without(adata, ("A", "control")), control="control")
    with pytest.raises(ValueError, match=r"\['C'\] were not seen under both"):
        run(without(adata, ("C", "drug")), control="control", reference_group=["B", "C"])
    model.is_trained = False
    with pytest.raises(RuntimeError, match="not trained yet"):
        run()
    assert "latent_arithmetic" not in adata.uns
