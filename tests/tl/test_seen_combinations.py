"""What is said of a prediction beforehand: combinations that were seen, predicted by the others."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import r2_score

import scmimic as sm
from scmimic.tl._combinations import Route
from scmimic.tl._gene_means import errors_of_means, explained_change, trivial_means
from scmimic.tl._latent_model import LogExpression
from scmimic.tl._seen_combinations import trust_in, warn_of_distrust

KEYS = {"group_key": "group", "condition_key": "condition"}
TARGET = ("A", "drug")


def mean_of(adata, group, condition):
    return np.asarray(adata.X[((adata.obs["group"] == group) & (adata.obs["condition"] == condition)).to_numpy()]).mean(
        0
    )


def without_target(adata):
    return adata[~((adata.obs["group"] == "A") & (adata.obs["condition"] == "drug")).to_numpy()].copy()


def asked(adata, model, **kwargs):
    new = sm.tl.latent_arithmetic(adata, model, **KEYS, target=TARGET, control="control", seed=0, **kwargs)
    return new.uns["latent_arithmetic"]


@pytest.mark.parametrize("shift", ["condition", "group"])
@pytest.mark.parametrize("held_out", [True, False])
def test_seen_combinations_are_predicted_by_the_others(linear_world, shift, held_out):
    adata, model, _ = linear_world({("B", "drug"): [1, 0], ("A", "drug"): [9, 9]})
    cells = without_target(adata) if held_out else adata
    record = asked(cells, model, shift=shift, code="mean")
    table = record["seen"].set_index("group")
    assert list(table.index) == ["B", "C"] and set(table["condition"]) == {"drug"}
    assert table["n_cells"].to_dict() == {"B": 400, "C": 100}
    np.testing.assert_allclose(table["weight"], 0.5)
    for group, other in (("B", "C"), ("C", "B")):
        real, control = mean_of(adata, group, "drug"), mean_of(adata, group, "control")
        change = mean_of(adata, other, "drug") - mean_of(adata, other, "control")
        for name, x in {"mean_shift": control + change, "decoded": control + change, "control": control}.items():
            error = np.sqrt(np.mean((x - real) ** 2))
            assert table.loc[group, f"error_{name}"] == pytest.approx(error, rel=0.05, abs=1e-6)
            assert table.loc[group, f"r2_{name}"] == pytest.approx(r2_score(real, x), rel=0.05, abs=1e-6)
    for trust, source in {"trust": "neighbors", "trust_decoded": "decoded", "trust_mean_shift": "mean_shift"}.items():
        expected = 1 - (table[f"error_{source}"] ** 2).sum() / (table["error_control"] ** 2).sum()
        assert record[trust] == pytest.approx(expected)


def test_neighbors_are_never_of_the_combination_itself(linear):
    """Where no other cells are near, a decoder that knows the combination by heart is right, and its codes are not."""
    adata, model, codes = linear
    far = (adata.obs["condition"] == "drug").to_numpy()
    adata.X[far] += np.array([30.0, 0]) @ model.axes
    table = asked(without_target(adata), model, code="mean")["seen"].set_index("group")
    seen = without_target(adata)
    places = np.asarray(seen.X) @ model.axes.T
    for group, other in (("B", "C"), ("C", "B")):
        assert table.loc[group, "error_decoded"] < 1e-6
        predicted = places[((seen.obs["group"] == group) & (seen.obs["condition"] == "control")).to_numpy()] + [31, 2]
        pool = ~((seen.obs["group"] == group) & (seen.obs["condition"] == "drug")).to_numpy()
        nearest = np.argsort(((predicted[:, None] - places[pool][None]) ** 2).sum(-1), axis=1)[:, :20]
        expected = np.asarray(seen.X)[pool][nearest].mean(axis=(0, 1))
        error = np.sqrt(np.mean((expected - mean_of(seen, group, "drug")) ** 2))
        # at most 300 of the codes are asked
        assert table.loc[group, "error_neighbors"] == pytest.approx(error, rel=0.05)
        assert set(seen.obs.loc[pool, "group"].iloc[nearest.ravel()]) == {other}


def test_warnings(linear_world, caplog):
    said = {}
    for name, extra, kwargs in (
        ("alike", {}, {}),
        ("alone", {}, {"reference_group": "B"}),
        ("opposite", {("B", "drug"): [-2, -4]}, {}),
    ):
        adata, model, _ = linear_world(extra)
        caplog.clear()
        record = asked(without_target(adata), model, **kwargs)
        said[name] = [r.getMessage() for r in caplog.records if r.name.startswith("scmimic")], record
        assert all(r.levelno == logging.WARNING for r in caplog.records if r.name.startswith("scmimic"))
    (text,), record = said["alone"]
    assert text.startswith("Nothing says how good the prediction of ('A', 'drug') is")
    assert record["seen"].empty and np.isnan(record["trust"])
    (text,), record = said["opposite"]
    assert text.startswith("Do not trust the prediction of ('A', 'drug')") and record["trust_decoded"] < -1
    texts, record = said["alike"]
    assert record["trust_decoded"] == pytest.approx(1, abs=0.01) and record["trust"] > 0
    assert not any(text.startswith(("Do not", "Nothing")) for text in texts)


@pytest.mark.parametrize(
    ("trust", "texts"), [(0.6, []), (0.49, ["Take"]), (0.3, ["Take", "A mean shift"]), (0.0, ["Do not trust"])]
)
def test_little_trust_is_said(trust, texts, caplog):
    warn_of_distrust(("A", "drug"), {"trust": trust, "trust_decoded": 0.9, "trust_mean_shift": 0.4})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(texts) and all(map(str.startswith, said, texts))
    assert all("('A', 'drug')" in text and f"`trust` {trust:.2f}" in text for text in said)


def test_a_mean_shift_that_is_better_is_named(linear, caplog):
    adata, model, _ = linear
    decode = model.decode
    # a decoder that gives half of the change
    model.decode = lambda z, **kwargs: decode(np.asarray(z) - [0.5, 1], **kwargs)
    record = asked(without_target(adata), model)
    assert record["trust_decoded"] == pytest.approx(0.75, abs=0.02)
    assert record["trust_mean_shift"] == pytest.approx(1)
    assert "A mean shift of the genes may foretell the mean expression of ('A', 'drug') better" in caplog.text


def test_the_record_survives_a_file_and_repeats(linear, tmp_path):
    adata, model, _ = linear
    record = asked(without_target(adata), model)
    again = asked(without_target(adata), model)
    pd.testing.assert_frame_equal(record["seen"], again["seen"])
    cells = without_target(adata)
    asked(cells, model)
    cells.write_h5ad(tmp_path / "x.h5ad")
    stored = ad.read_h5ad(tmp_path / "x.h5ad").uns["latent_arithmetic"]
    np.testing.assert_allclose(stored["seen"]["error_control"], record["seen"]["error_control"])
    assert stored["trust"] == record["trust"]


def test_means_that_cost_nothing():
    means = {
        ("A", "s"): np.array([1.0, 0.0]),
        ("A", "t"): np.array([3.0, 0.0]),
        ("B", "s"): np.array([2.0, 2.0]),
        ("B", "c"): np.array([3.0, 1.0]),
        ("B", "t"): np.array([2.0, 2.0]),
    }
    step = ("B", "c"), ("B", "s")
    routes = [
        Route("s", ("A", "s"), ("B",), (step,)),
        Route("t", ("A", "t"), ("B",), ((("B", "c"), ("B", "t")),), share=3),
    ]
    found = trivial_means(means, routes)
    np.testing.assert_allclose(found["control"], [2.5, 0])
    # no gene goes below 0, ...
    np.testing.assert_allclose(found["mean_shift"], [3.5, 0])
    # ... but where there is no such bound
    means = {pair: x - 1 for pair, x in means.items()}
    np.testing.assert_allclose(trivial_means(means, routes)["mean_shift"], [2.5, -2])
    found = errors_of_means(np.array([0.0, 2.0]), {"x": np.array([3.0, 2.0])})
    assert found == pytest.approx({"error_x": np.sqrt(4.5), "r2_x": 1 - 9 / 2})
    assert explained_change(np.array([1.0, 3]), np.array([2.0, 3]), np.array([0.75, 0.25])) == pytest.approx(
        1 - 3 / 5.25
    )
    assert np.isnan(explained_change(np.zeros(1), np.zeros(1), np.ones(1)))
    assert all(np.isnan(value) for value in trust_in(pd.DataFrame()).values())


def test_cells_are_compared_as_logarithms_of_what_a_model_makes():
    """A model of counts, and one of logarithms, whose decoded cells are in the units of their layers."""
    adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=30, n_labels=3, n_batches=2, seed=0)
    scaled = sp.csr_matrix(sp.diags(1e4 / np.asarray(adata.X.sum(axis=1)).ravel()) @ adata.X)
    expected = scaled.log1p().toarray()
    adata.layers["log"] = scaled.log1p()
    kwargs = {"group_key": "cell_type", "condition_key": "batch", "target": ("type_0", "batch_1"), "seed": 0}
    for model_class, setup, training in (
        (sm.ACTIVA, {"labels_key": "cell_type"}, {"max_epochs": 2, "warmup_epochs": 1}),
        (sm.BetaTCVAE, {"layer": "log"}, {"max_epochs": 2}),
    ):
        model_class.setup_anndata(adata, **setup)
        model = model_class(adata, n_latent=4, n_hidden=(16,))
        model.train(enable_progress_bar=False, **training)
        expression = LogExpression(model, adata)
        np.testing.assert_allclose(sp.csr_matrix(expression.values).toarray(), expected, rtol=1e-4, atol=1e-5)
        cells = model.decode(model.get_latent_representation(), seed=0)
        decoded = sp.csr_matrix(expression.of_decoded(cells)).toarray()
        if model_class is sm.ACTIVA:
            np.testing.assert_allclose(np.expm1(decoded).sum(axis=1), 1e4, rtol=1e-3)
        else:
            np.testing.assert_allclose(decoded, sp.csr_matrix(cells.X).toarray())
        table = sm.tl.latent_arithmetic(adata, model, **kwargs, decode_kwargs={}).uns["latent_arithmetic"]["seen"]
        assert len(table) == 2 and np.isfinite(table.filter(like="error_")).all(axis=None)
