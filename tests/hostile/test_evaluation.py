"""Evaluations of cells and with settings that are not what they should be: one row per case."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import mannwhitneyu

import scmimic as sm
from scmimic._arrays import log_normalise, row_keys
from scmimic._keys import OVERALL
from scmimic.metrics import TooFewCellsError
from scmimic.tl.evaluation import _run
from scmimic.tl.evaluation._measures import Value, metrics_by_name
from scmimic.tl.evaluation._verdict import judge

FAST = {"n_trees": 10, "max_cells": 100, "n_comps": 5, "n_jobs": 1, "baselines": ["multinomial"], "metrics": "mmd"}
FORESTS = ["rf_auc_genes", "rf_error"]


@pytest.fixture(scope="module")
def cells():
    """Training (260), reference (80) and test (160) cells of three types, and cells of a trivial generator."""
    adata = sm.datasets.synthetic_counts(n_obs=500, n_vars=30, seed=4)
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    train, reference, test = adata[:260].copy(), adata[260:340].copy(), adata[340:].copy()
    generator = sm.baselines.Multinomial(train, labels_key="cell_type").fit()
    counts = test.obs["cell_type"].value_counts().to_dict()
    return {"train": train, "reference": reference, "test": test, "synthetic": generator.generate(labels=counts)}


def evaluate(cells, *, given=None, **settings):
    """The table over all cells, by metric, the whole table, and the texts of the warnings."""
    given = {"test": cells["test"].copy(), "synthetic": cells["synthetic"], "train": cells["train"]} | (given or {})
    settings = FAST | {"labels_key": "cell_type"} | settings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = sm.tl.evaluate(given.pop("test"), given.pop("synthetic"), **given, **settings)
    # libraries tell one another what will change
    told = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    return table[table["label"] == OVERALL].set_index("metric"), table, told


def with_values(adata, values):
    new = adata.copy()
    new.X = values
    return new


def dense(adata):
    return adata.X.toarray()


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_trees": 2.5}, "`n_trees` must be a whole number"),
        ({"n_trees": 0}, "`n_trees` must be a whole number at least 1"),
        ({"n_trees": "10"}, "`n_trees` must be"),
        ({"n_trees": True}, "`n_trees` must be"),
        ({"n_jobs": 0}, "`n_jobs` must be a whole number other than 0"),
        ({"n_jobs": 1.5}, "`n_jobs` must be a whole number"),
        ({"max_cells": 20.5}, "`max_cells` must be a whole number"),
        ({"max_cells": 29}, "`max_cells` must be at least `min_cells`"),
        ({"n_comps": 0}, "`n_comps` must be a whole number at least 1"),
        ({"n_comps": 2.5}, "`n_comps` must be a whole number"),
        ({"seed": -1}, "`seed` must be a whole number at least 0"),
        ({"seed": 2**32}, "`seed` must be"),
        ({"seed": None}, "`seed` must be"),
        ({"min_cells": 9}, "`min_cells` must be a whole number at least 10"),
        ({"target_sum": 0}, "`target_sum` must be a number above 0"),
        ({"target_sum": np.nan}, "`target_sum` must be"),
        ({"log1p": "no"}, "`log1p` must be True or False"),
        ({"metrics": []}, "`metrics` is empty"),
        ({"metrics": ["mmd", "fid"]}, "no 'fid'"),
        ({"metrics": 5}, "`metrics` must be"),
        ({"metrics": [5]}, "`metrics` must be"),
        ({"labels_key": ["cell_type"]}, "`labels_key` must be the name of a column"),
        ({"layer": 1}, "`layer` must be the name of a layer"),
        ({"baselines": ["gan"]}, "`baselines` has no"),
    ],
)
def test_settings_are_refused_before_the_work(cells, monkeypatch, settings, message):
    def work(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(_run, "prepare_data", work)
    with pytest.raises((TypeError, ValueError), match=message):
        sm.tl.evaluate(cells["test"], cells["synthetic"], **{"labels_key": "cell_type"} | settings)
    with pytest.raises((TypeError, ValueError), match=message):
        sm.report(cells["test"], cells["synthetic"], "never.html", **{"labels_key": "cell_type"} | settings)


# ---------------------------------------------------------------------------------------------- the same cells twice


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda c: {"train": c["test"]}, "160 of the 160 cells of `adata` are in `train` too"),
        (lambda c: {"train": ad.concat([c["train"], c["test"]])}, "160 of the 160 cells of `adata`"),
        (lambda c: {"train": ad.concat([c["train"], c["test"][:96]])}, "96 of the 160 cells of `adata`"),
        (lambda c: {"train": with_values(c["test"], dense(c["test"]).astype(float))}, "160 of the 160 cells"),
        (lambda c: {"reference": c["test"]}, "160 of the 160 cells of `reference` are in `adata` too"),
        (lambda c: {"reference": c["train"]}, "260 of the 260 cells of `reference` are in `train` too"),
        (lambda c: {"reference": c["test"], "train": None}, "160 of the 160 cells of `reference`"),
    ],
    ids=["train=test", "train holds test", "60 %", "other dtype", "reference=test", "reference=train", "no train"],
)
def test_shared_cells_cannot_judge(cells, given, message):
    with pytest.raises(ValueError, match=message):
        evaluate(cells, given=given(cells))


def explicit_zeros(adata):
    x = sp.csr_matrix(np.ones(adata.shape, dtype=np.float32))
    x.data = dense(adata).ravel()
    return with_values(adata, x)


@pytest.mark.parametrize(
    "store",
    [
        lambda a: a,
        lambda a: with_values(a, dense(a)),
        lambda a: with_values(a, a.X.astype(np.float64)),
        lambda a: with_values(a, sp.csc_matrix(a.X)),
        explicit_zeros,
        lambda a: a[::-1].copy(),
    ],
    ids=["as it is", "dense", "float64", "csc", "zeros stored", "other order"],
)
def test_some_shared_cells_are_left_out_and_told_of(cells, store):
    shared = ad.concat([cells["train"], cells["test"][:40]], index_unique="-")
    overall, table, texts = evaluate(cells, given={"train": store(shared)}, metrics=["mmd", "dcr_ratio"])
    assert sum(text.startswith("40 of the 160 cells of `adata` are in `train` too") for text in texts) == 1
    assert overall.loc["same_space", "n_real"] == 120
    assert np.isfinite(overall.loc["dcr_ratio", "value"])
    # cells that were trained on would be at distance 0 of themselves
    assert 0.6 < overall.loc["dcr_ratio", "replicate"] < 1.6


def test_shared_cells_are_left_out_of_the_reference_and_recorded(cells):
    reference = ad.concat([cells["reference"], cells["train"][:20], cells["test"][:10]], index_unique="-")
    test = cells["test"].copy()
    _, _, texts = evaluate(cells, given={"reference": reference, "test": test})
    assert [text.split(" are in")[0] for text in texts if "are left out" in text] == [
        "10 of the 110 cells of `reference`",
        "20 of the 100 cells of `reference`",
    ]
    params = test.uns["realism"]["params"]
    assert params["pca"] == "reference (80 cells)"
    assert [text[:6] for text in params["left_out"]] == ["10 of ", "20 of "]


def test_repeated_cells_make_no_replicate():
    deep = ad.AnnData(sp.csr_matrix(np.random.default_rng(0).poisson(3.0, (150, 120)).astype(np.float32)))
    synthetic = ad.AnnData(sp.csr_matrix(np.random.default_rng(1).poisson(3.0, (180, 120)).astype(np.float32)))
    twice = ad.concat([deep, deep[:30]], index_unique="-")
    with pytest.warns(UserWarning, match="cells of `half of adata` are in `the other half` too"):
        sm.tl.evaluate(twice, synthetic, **FAST)


@pytest.mark.parametrize("depth", [0, 3])
def test_shallow_cells_are_the_same_by_chance(cells, depth):
    """Cells without a count, or with three: nobody copied them."""
    rng = np.random.default_rng(0)
    few = {}
    for name in ("train", "test", "synthetic"):
        x = dense(cells[name])
        n = len(x) // 3
        x[:n] = rng.multinomial(depth, np.r_[np.full(5, 0.18), np.full(25, 0.004)], n)
        few[name] = with_values(cells[name], x)
    overall, _, texts = evaluate(cells, given=few, metrics=["mmd", "duplicates"])
    assert not any("in every gene" in text or "copies" in text for text in texts)
    assert overall.loc["real_copies", "value"] == 0
    assert overall.loc["duplicates", "value"] > 0.1


def test_privacy_needs_unseen_cells(cells):
    with pytest.raises(ValueError, match="260 of the 260 cells of `holdout` are in `adata` too"):
        sm.tl.privacy(cells["train"].copy(), cells["synthetic"], holdout=cells["train"].copy(), n_comps=5)
    holdout = ad.concat([cells["test"], cells["train"][:50]], index_unique="-")
    train = cells["train"].copy()
    with pytest.warns(UserWarning, match="50 of the 210 cells of `holdout` are in `adata` too"):
        table = sm.tl.privacy(train, cells["synthetic"], holdout=holdout, n_comps=5)
    assert train.uns["privacy"]["n_cells"] == {"adata": 260, "holdout": 80, "reference": 80, "synthetic": 160}
    clean = sm.tl.privacy(train, cells["synthetic"], holdout=cells["test"], n_comps=5)
    assert table["value"].equals(clean["value"])


def test_donors_follow_their_cells(cells):
    train, test = cells["train"].copy(), cells["test"].copy()
    train.obs["donor"], test.obs["donor"] = np.array(["a", "b"] * 130), np.array(["c", "d"] * 80)
    holdout = ad.concat([train[:20], test], index_unique="-")
    with pytest.warns(UserWarning, match="20 of the 180 cells of `holdout` are in `adata` too"):
        found = sm.tl.privacy(train, cells["synthetic"], holdout=holdout, n_comps=5, donor_key="donor")
    clean = sm.tl.privacy(train, cells["synthetic"], holdout=test, n_comps=5, donor_key="donor")
    assert found["value"].equals(clean["value"])


def test_a_model_is_not_judged_by_its_training_cells(trained):
    with pytest.raises(ValueError, match="300 of the 300 cells of `adata` are in `the training data` too"):
        trained.realism_report(trained.adata.copy(), n_trees=5)


# ---------------------------------------------------------------------------------------------- copies


@pytest.mark.parametrize(("share", "train"), [(1.0, True), (0.5, True), (1.0, False)])
def test_copies_of_the_cells_that_judge_are_a_finding(cells, share, train):
    n = int(share * 160)
    mixed = ad.concat([cells["test"][:n], cells["synthetic"][n:]], index_unique="-")
    given = {"synthetic": mixed} | ({} if train else {"train": None})
    overall, _, texts = evaluate(cells, given=given, metrics=FORESTS, max_cells=160, labels_key=None)
    assert overall.loc["real_copies", "value"] == pytest.approx(share)
    assert any(text.startswith(f"{100 * share:.0f} % of the synthetic cells are exact copies") for text in texts)
    verdict = judge(overall.reset_index().assign(label=OVERALL))
    assert verdict.headline.startswith("These cells are copies")
    assert (verdict.tone, verdict.answers[2].answer) == ("bad", "no")


def test_forests_beyond_chance_are_named_and_not_rewarded(cells):
    """Copies with one count more: no copy check by values finds them."""
    x = dense(cells["test"])
    x[np.arange(len(x)), np.random.default_rng(0).integers(30, size=len(x))] += 1
    near = with_values(cells["test"], x)
    overall, _, texts = evaluate(cells, given={"synthetic": near}, metrics=FORESTS, max_cells=160, labels_key=None)
    assert overall.loc["real_copies", "value"] == 0
    assert overall.loc["rf_auc_genes", "value"] < 0.3
    assert overall.loc["rf_error", "value"] > 60
    for name, side in (("rf_auc_genes", "below 0.5"), ("rf_error", "above 50")):
        assert overall.loc[name, "warning"].startswith(f"Far {side}, which is guessing: the synthetic cells copy")
        assert any(text.startswith(f"{name}: Far {side}") for text in texts)
    # without room between the ends there is no score; where there is one, copies are worse than real cells
    assert not (overall["score"] > 0.9).any()
    assert judge(overall.reset_index().assign(label=OVERALL)).headline.startswith("Closer to the real cells than a")


@pytest.mark.parametrize("seed", range(2))
def test_a_second_sample_of_real_cells_is_not_beyond_chance(seed):
    adata = sm.datasets.synthetic_counts(n_obs=640, n_vars=30, seed=seed)
    test, second, train = adata[:210].copy(), adata[210:420].copy(), adata[420:].copy()
    settings = FAST | {
        "metrics": [*FORESTS, "one_nn_accuracy", "split_auc"],
        "max_cells": 210,
        "labels_key": "cell_type",
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = sm.tl.evaluate(test, second, train=train, **settings)
    assert not any("guessing" in str(w.message) for w in caught)
    assert not table["warning"].str.contains("guessing").any()


def test_as_good_as_a_replicate_scores_one():
    """210 cells a side, no difference: neither the replicate's luck nor the generator's moves the score far."""
    rng = np.random.default_rng(0)
    # the AUC of scores that know nothing, which is how forests scatter too
    aucs = mannwhitneyu(*rng.normal(size=(2, 2, 1000, 210)), axis=-1).statistic / 210**2
    metric, trivial = metrics_by_name()["rf_auc_genes"], 0.75
    found = [metric.score(Value(m), r, trivial, 0.5, 210) for m, r in aucs.T]
    assert {text for _, text in found} == {""}
    scores = np.array([score for score, _ in found])
    assert scores.mean() == pytest.approx(1, abs=0.02)
    assert scores.std() < 0.11
    # the plain formula scatters half as much again, and a lucky replicate takes a fifth of the score and more
    plain = (aucs[0] - trivial) / (aucs[1] - trivial)
    assert plain.std() > 1.4 * scores.std()
    lucky = aucs[1] < 0.45
    assert plain[lucky].mean() < 0.82 < 0.94 < scores[lucky].mean()


# ---------------------------------------------------------------------------------------------- measures that fail


def fail(monkeypatch, name, error, *, when=lambda pair: True):
    """Make the metric of that name raise, on the pairs for which `when` holds."""
    found = getattr(sm.metrics, name)

    def failing(real, synthetic, **kwargs):
        if when(synthetic):
            raise error
        return found(real, synthetic, **kwargs)

    monkeypatch.setattr(sm.metrics, name, failing)


@pytest.mark.parametrize(
    "error",
    [ValueError("boom"), RuntimeError("boom"), ZeroDivisionError("boom"), KeyError("boom"), ImportError("boom")],
)
def test_a_failed_measure_keeps_its_rows_and_is_told_of(cells, monkeypatch, error):
    fail(monkeypatch, "gene_statistics_distance", error)
    overall, table, texts = evaluate(cells, metrics=["ks_median", "mmd"])
    rows = table[table["metric"] == "ks_median"]
    assert rows["label"].tolist() == [OVERALL, "type_0", "type_1", "type_2"]
    assert rows["value"].isna().all()
    # one function gives four metrics, of which one was asked for
    assert set(table.loc[table["group"] != "diagnostic", "metric"]) == {"ks_median", "mmd"}
    assert overall.loc["ks_median", "warning"] == f"Not measured, {type(error).__name__}: {error}"
    assert np.isfinite(overall.loc["mmd", "value"])
    (told,) = [text for text in texts if "no value" in text]
    assert "ks_median" not in told.split("mean_log_ratio")[0]
    assert f"Not measured, {type(error).__name__}: {error}" in told
    assert "mmd" not in told


def test_too_few_cells_are_expected(cells, monkeypatch):
    fail(monkeypatch, "gene_statistics_distance", TooFewCellsError("one cell only"))
    overall, _, texts = evaluate(cells, metrics="ks_median")
    assert overall.loc["ks_median", "warning"] == "Too few cells. one cell only"
    assert not any("Too few cells" in text or "no value" in text for text in texts)


def test_a_program_fault_is_not_swallowed(cells, monkeypatch):
    fail(monkeypatch, "gene_statistics_distance", TypeError("a mistake of ours"))
    with pytest.raises(TypeError, match="a mistake of ours"):
        evaluate(cells, metrics="ks_median")


def test_a_missing_yardstick_is_named(cells, monkeypatch):
    known = row_keys(log_normalise(cells["train"].X.astype(np.float32)))
    fail(monkeypatch, "gene_statistics_distance", ValueError("boom"), when=lambda x: np.isin(row_keys(x), known).all())
    overall, _, texts = evaluate(cells, metrics="ks_median", labels_key=None)
    row = overall.loc["ks_median"]
    assert np.isfinite(row[["value", "trivial_value"]].astype(float)).all()
    assert np.isnan(row[["replicate", "score"]].astype(float)).all()
    assert row["warning"] == "replicate: Not measured, ValueError: boom"
    (told,) = [text for text in texts if "no value" in text]
    assert "(replicate, overall): Not measured" in told


@pytest.mark.parametrize(
    ("metric", "change", "lacks"),
    [
        ("dcr_ratio", {"train": None}, "`train`"),
        ("membership_auc", {"train": None}, "`train`"),
        ("label_agreement", {"train": None}, "`train`"),
        ("inception_score", {"labels_key": None}, "`labels_key`"),
        ("de_slope", {"labels_key": None}, "`labels_key`"),
        ("michigan", {"labels_key": None}, "`labels_key`"),
    ],
)
def test_a_metric_that_is_named_has_its_row(cells, metric, change, lacks):
    settings = {name: value for name, value in change.items() if name != "train"}
    overall, _, texts = evaluate(cells, given={k: None for k in change if k == "train"}, metrics=metric, **settings)
    row = overall.loc["inception_score" if metric == "michigan" else metric]
    assert np.isnan(row["value"])
    assert row["warning"].startswith("Not measured: it needs")
    assert lacks in row["warning"]
    assert any(lacks in text for text in texts)


def test_everything_leaves_out_what_cannot_be_asked(cells):
    _, table, texts = evaluate(cells, given={"train": None}, metrics=["all"], labels_key=None)
    assert not set(table["metric"]) & {"dcr_ratio", "inception_score", "label_agreement"}
    assert not any("Not measured" in text for text in texts)
    assert table["value"].notna().all()


# ---------------------------------------------------------------------------------------------- odd cells


def without_type(cells):
    return {"synthetic": cells["synthetic"][cells["synthetic"].obs["cell_type"] != "type_1"].copy()}


def one_of_a_type(cells):
    of_type = np.flatnonzero(cells["synthetic"].obs["cell_type"] == "type_1")
    rows = np.setdiff1d(np.arange(cells["synthetic"].n_obs), of_type[1:])
    return {"synthetic": cells["synthetic"][rows].copy()}


def foreign_type(cells):
    new = cells["synthetic"].copy()
    new.obs["cell_type"] = new.obs["cell_type"].astype(str).replace("type_1", "type_9")
    return {"synthetic": new}


@pytest.mark.parametrize(
    ("change", "label", "numbers"),
    [
        (without_type, "type_1", " 0 synthetic"),
        (one_of_a_type, "type_1", " 1 synthetic"),
        (foreign_type, "type_9", "0 real and "),
        (foreign_type, "type_1", " 0 synthetic"),
    ],
)
def test_types_of_one_side_have_rows_that_say_so(cells, change, label, numbers):
    _, table, texts = evaluate(cells, given=change(cells), metrics=["mmd", "rf_error", "de_slope"])
    rows = table[(table["label"] == label) & (table["group"] != "diagnostic")]
    assert sorted(rows["metric"]) == ["de_slope", "mmd", "rf_error"]
    assert rows["value"].isna().all()
    assert rows["warning"].str.startswith("Too few cells: ").all()
    assert rows["warning"].str.contains(numbers).all()
    expected = "is labelled" if " 0 " in f" {numbers}" else "other proportions"
    assert any(expected in text for text in texts)
    assert not any("Not measured" in text for text in texts)


def test_one_type_alone(cells):
    one = {}
    for name in ("train", "test", "synthetic"):
        one[name] = cells[name].copy()
        one[name].obs["cell_type"] = "B"
    overall, _, texts = evaluate(cells, given=one, metrics=["inception_score", "label_agreement", "de_slope", "mmd"])
    assert overall.loc[["inception_score", "label_agreement", "de_slope"], "value"].isna().all()
    assert "two labels" in overall.loc["inception_score", "warning"]
    assert sum("two labels" in text for text in texts) == 1
    assert np.isfinite(overall.loc["mmd", "value"])


def all_the_same(adata):
    return with_values(adata, np.repeat(dense(adata)[:1], adata.n_obs, axis=0))


def test_synthetic_cells_that_are_all_the_same(cells):
    metrics = ["rf_auc_pcs", "mmd", "variance_log_ratio", "recall", "correlation_distance"]
    overall, _, texts = evaluate(cells, given={"synthetic": all_the_same(cells["synthetic"])}, metrics=metrics)
    assert any("genes vary 0.00 times" in text for text in texts)
    assert overall.loc["rf_auc_pcs", "value"] == 1
    assert overall.loc["recall", "value"] == 0
    assert overall.loc["variance_log_ratio", "warning"] == "The metric has no finite value for these cells."
    assert np.isfinite(overall.loc[["mmd", "correlation_distance"], "value"]).all()


def test_real_cells_that_are_all_the_same(cells):
    given = {"test": all_the_same(cells["test"])}
    overall, _, texts = evaluate(cells, given=given, metrics=["mmd", "correlation_distance", "rf_auc_pcs"])
    assert "over half of the pairs of real cells are identical" in overall.loc["mmd", "warning"]
    assert "0 of the 30 genes compared vary" in overall.loc["correlation_distance", "warning"]
    (told,) = [text for text in texts if "no value" in text]
    assert "mmd (synthetic, overall" in told
    assert "correlation_distance (synthetic, overall" in told


def test_cells_without_any_difference_have_no_axes(cells):
    with pytest.raises(ValueError, match="principal components are fitted on are all the same"):
        evaluate(cells, given={"reference": all_the_same(cells["reference"])})


def test_constant_genes(cells):
    given = {}
    for name in ("train", "test", "synthetic"):
        x = dense(cells[name])
        x[:, :12] = 0
        x[:, 12:15] = 3
        given[name] = with_values(cells[name], x)
    metrics = ["rf_auc_genes", "mmd", "correlation_distance", "ks_median", "de_slope", "mean_log_ratio"]
    overall, _, texts = evaluate(cells, given=given, metrics=metrics)
    assert np.isfinite(overall.loc[metrics, "value"]).all()
    assert not any("Not measured" in text for text in texts)


@pytest.mark.parametrize("name", ["test", "synthetic", "train", "reference"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_values(cells, name, value):
    x = dense(cells[name])
    x[3, 5] = value
    called = "adata" if name == "test" else name
    with pytest.raises(ValueError, match=f"`{called}` holds 1 NaN or infinite"):
        evaluate(cells, given={name: with_values(cells[name], x)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:, ::-1].copy(), "same genes.*in another order"),
        (lambda a: a[:, :20].copy(), "`synthetic` lacks 10 of the 30 genes"),
        (lambda a: a[:0].copy(), "is empty"),
        (lambda a: a[:29].copy(), "at least 30 of each"),
        (lambda a: with_values(a, -dense(a)), "negative values"),
    ],
    ids=["order", "missing genes", "no cells", "29 cells", "negative"],
)
def test_cells_that_cannot_be_compared(cells, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate(cells, given={"synthetic": change(cells["synthetic"])})


def test_files_views_and_kinds_of_matrices_change_nothing(cells, tmp_path):
    expected = evaluate(cells, metrics=["mmd", "duplicates", "ks_median"])[1]["value"].to_numpy()
    backed = {}
    for name in ("test", "synthetic", "train"):
        cells[name].write_h5ad(tmp_path / f"{name}.h5ad")
        backed[name] = ad.read_h5ad(tmp_path / f"{name}.h5ad", backed="r")
    views = {name: ad.concat([cells[name], cells["reference"]])[: cells[name].n_obs] for name in backed}
    kinds = {name: with_values(cells[name], dense(cells[name]).astype(np.int64)) for name in backed}
    columns = {name: with_values(cells[name], sp.csc_matrix(cells[name].X)) for name in backed}
    for given in (backed, views, kinds, columns):
        found = evaluate(cells, given=given, metrics=["mmd", "duplicates", "ks_median"])[1]["value"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_page_says_what_was_left_out(cells, tmp_path):
    shared = ad.concat([cells["train"], cells["test"][:40]], index_unique="-")
    settings = FAST | {"metrics": ["mmd", "dcr_ratio"], "labels_key": "cell_type", "basis": None}
    with pytest.warns(UserWarning, match="40 of the 160 cells of `adata` are in `train` too"):
        path = sm.report(cells["test"], cells["synthetic"], tmp_path / "page.html", train=shared, **settings)
    text = path.read_text(encoding="utf-8")
    assert "40 of the 160 cells of `adata` are in `train` too" in text
    with pytest.warns(UserWarning, match="it needs the cells that the generator was trained on"):
        path = sm.report(cells["test"], cells["synthetic"], tmp_path / "bare.html", **settings)
    text = path.read_text(encoding="utf-8")
    assert "Not measured: it needs the cells that the generator was trained on" in text
    assert "not checked" in text
